//! From a Service's name to its addresses, asking the agent for names that are new.

use std::sync::Arc;
use std::time::Duration;

use identity::QualifiedName;
use tokio::sync::watch;
use tokio::time::timeout;

use super::zone::Known;
use crate::state::MeshState;
use crate::transport::routing::Wants;

/// Looks names up in the configuration in force. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    states: watch::Receiver<Arc<MeshState>>,
    wants: Wants,
    wait: Duration,
}

impl Names {
    /// `wait`: how long a name that is new waits for the agent's answer.
    pub(crate) fn new(
        states: watch::Receiver<Arc<MeshState>>,
        wants: Wants,
        wait: Duration,
    ) -> Self {
        Self {
            states,
            wants,
            wait,
        }
    }

    pub(super) async fn look_up(&self, service: &QualifiedName) -> Known {
        let mut states = self.states.clone();
        let first = known(&states.borrow_and_update(), service);
        if first != Known::NotYet || !self.wants.ask(service) {
            return first;
        }
        let answered = states.wait_for(|state| known(state, service) != Known::NotYet);
        match timeout(self.wait, answered).await {
            Ok(Ok(state)) => known(&state, service),
            _ => Known::NotYet,
        }
    }
}

fn known(state: &MeshState, service: &QualifiedName) -> Known {
    if state.knows(service) {
        return Known::Addresses(state.addresses.addresses_of(service).collect());
    }
    match state.unknown.contains(service) {
        true => Known::Missing,
        false => Known::NotYet,
    }
}
