//! What a mesh listener does to judge one request, for those who measure what it costs.
//!
//! These are the functions that every request meets, on a peer that a handshake proved. Nothing
//! here leads to an application.

use std::sync::Arc;

use http::HeaderValue;
use http::request::Parts;
use policy::PolicySnapshot;
use runtime::Clock;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admit::{Gate, Peer};
use crate::head::{IDENTITY, RequestHead};
use crate::live::Live;
use crate::service_port::ServicePort;
use crate::state::{MeshState, States};

/// One worker's gate, for one peer at one port.
#[derive(Debug)]
pub struct Judging {
    gate: Gate,
    peer: Peer,
    target: Arc<ServicePort>,
}

impl Judging {
    /// By this policy alone.
    pub fn new(policy: PolicySnapshot, peer: &mtls::PeerIdentity, target: ServicePort) -> Self {
        let state = MeshState {
            policy: Some(policy),
            ..MeshState::empty()
        };
        let (_, states) = watch::channel(Arc::new(state));
        let live = Live::new(1).shard(0);
        Self {
            gate: Gate::new(States::new(states), live, Clock::system()),
            peer: Peer::of(peer),
            target: Arc::new(target),
        }
    }

    /// Reads a head, says who asks, decides, and names the decision; what a caller would be told,
    /// if the request may pass.
    #[must_use]
    pub fn judge(&self, head: Parts) -> Option<HeaderValue> {
        let checked = RequestHead::check(head.method, &head.uri, head.version, head.headers);
        let mut head = checked.ok()?;
        head.set(IDENTITY, self.peer.identity().clone());
        let head = Arc::new(head);
        let permit = self
            .gate
            .request(&self.peer, &self.target, &head, Instant::now())
            .ok()?;
        HeaderValue::try_from(permit.decision().to_string()).ok()
    }
}
