//! From a Service's name to a target that can be called, asking the agent for names that are
//! new.
//!
//! The first call to a name waits a bounded time for the answer; what is still unknown then is
//! refused with a hint.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use identity::QualifiedName;
use tokio::sync::watch;
use tokio::time::timeout;

use super::failure::Failure;
use crate::failure::Reason;
use crate::route::Destination;
use crate::service_port::ServicePort;
use crate::state::{MeshState, States, Target};

/// A workload that asks for more names than this is refused new ones.
const MOST_NAMES: usize = 4096;

/// Names that our workload has called; the feed asks the agent for them.
#[derive(Clone, Debug)]
pub(crate) struct Wants {
    names: watch::Sender<Arc<BTreeSet<QualifiedName>>>,
}

/// Resolves names by the configuration in force, for one worker. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Router {
    states: States,
    wants: Wants,
    /// Names that were asked for already.
    asked: Rc<RefCell<HashSet<QualifiedName>>>,
    wait: Duration,
}

/// How a caller says which port it means.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// By the number in its Host.
    Number(Destination),
    /// By the name in the proxy's configuration.
    Name(ServicePort),
}

impl Wants {
    pub(crate) fn new() -> Self {
        let (names, _) = watch::channel(Arc::default());
        Self { names }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<BTreeSet<QualifiedName>>> {
        self.names.subscribe()
    }

    /// Returns whether the name is asked for now, be it for the first time or not.
    pub(crate) fn ask(&self, name: &QualifiedName) -> bool {
        let mut asked = true;
        self.names.send_if_modified(|names| {
            if names.contains(name) {
                return false;
            }
            asked = names.len() < MOST_NAMES;
            if asked {
                Arc::make_mut(names).insert(name.clone());
            }
            asked
        });
        asked
    }
}

impl Router {
    pub(crate) fn new(states: States, wants: Wants, wait: Duration) -> Self {
        Self {
            states,
            wants,
            asked: Rc::default(),
            wait,
        }
    }

    /// The configuration in force.
    pub(crate) fn state(&self) -> Arc<MeshState> {
        self.states.current()
    }

    /// For waiting until the configuration changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<MeshState>> {
        self.states.subscribe()
    }

    /// Grows with each configuration.
    pub(crate) fn version(&self) -> u64 {
        self.states.version()
    }

    /// # Errors
    /// `no-route` if there is no such Service or port, `no-endpoints` if nobody announces it.
    pub(crate) async fn resolve(&self, asked: &Asked) -> Result<Arc<Target>, Failure> {
        let service = asked.service();
        if !self.ask(service) {
            let detail = format!("this workload has called {MOST_NAMES} names already");
            return Err(Failure::new(Reason::NoRoute, detail));
        }
        if let Answer::Final(outcome) = answer(&self.states.current(), asked) {
            return outcome;
        }
        let mut states = self.states.subscribe();
        let answered = states.wait_for(|state| matches!(answer(state, asked), Answer::Final(_)));
        // Whether it was answered or timed out, the state now in force decides.
        drop(timeout(self.wait, answered).await);
        let state = self.states.current();
        match answer(&state, asked) {
            Answer::Final(outcome) => outcome,
            Answer::NotYet if state.knows(service) => Err(no_endpoints(service)),
            Answer::NotYet => Err(Failure::new(
                Reason::NoRoute,
                format!("the agent has not said whether {service} exists; is it connected?"),
            )),
        }
    }

    fn ask(&self, service: &QualifiedName) -> bool {
        if self.asked.borrow().contains(service) {
            return true;
        }
        let asked = self.wants.ask(service);
        if asked {
            self.asked.borrow_mut().insert(service.clone());
        }
        asked
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(to) => write!(f, "{}:{}", to.service, to.port),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl Asked {
    fn service(&self) -> &QualifiedName {
        match self {
            Self::Number(destination) => &destination.service,
            Self::Name(name) => &name.service,
        }
    }

    fn target<'a>(&self, state: &'a MeshState) -> Option<&'a Arc<Target>> {
        match self {
            Self::Number(destination) => state.targets.get(destination),
            Self::Name(name) => state.target_named(name),
        }
    }
}

enum Answer {
    Final(Result<Arc<Target>, Failure>),
    NotYet,
}

fn answer(state: &MeshState, asked: &Asked) -> Answer {
    let service = asked.service();
    match asked.target(state) {
        Some(target) if !target.endpoints.is_empty() => Answer::Final(Ok(Arc::clone(target))),
        Some(target) if target.announced => Answer::Final(Err(no_endpoints(service))),
        Some(_) => Answer::NotYet,
        None if state.knows(service) => Answer::Final(Err(no_port(state, service))),
        None if state.unknown.contains(service) => Answer::Final(Err(Failure::new(
            Reason::NoRoute,
            format!("the mesh has no service {service}"),
        ))),
        None => Answer::NotYet,
    }
}

fn no_endpoints(service: &QualifiedName) -> Failure {
    Failure::new(
        Reason::NoEndpoints,
        format!("{service} has no endpoint at present"),
    )
}

fn no_port(state: &MeshState, service: &QualifiedName) -> Failure {
    let ports: Vec<String> = state
        .targets
        .iter()
        .filter(|(destination, _)| destination.service == *service)
        .map(|(destination, target)| format!("{} ({})", destination.port, target.name.port))
        .collect();
    let ports = ports.join(", ");
    Failure::new(
        Reason::NoRoute,
        format!("{service} has no such port; it has {ports}"),
    )
}
