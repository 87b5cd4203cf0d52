//! The gate for health checks: what a peer's proxy asks of its own accord.
//!
//! Invariant: a check needs no rule of its own, and opens nothing. Who asks has proven an identity
//! that may call something on this port, and asks with GET for the very path that the port
//! declares, without a query. Whoever asks learns a status, which the transport sees to.

use std::sync::Arc;

use http::Method;
use policy::PolicySnapshot;

use super::{Denied, Gate, Inputs, JudgedRequest, Peer, not_ready};
use tokio::time::Instant;

use crate::failure::Reason;
use crate::head::RequestHead;
use crate::live::{Judged, Stale, Ticket};
use crate::service_port::ServicePort;
use crate::state::{MeshState, Served};

/// Leave to ask the application whether it works. Only the gate makes one.
#[derive(Debug)]
pub(crate) struct CheckPermit {
    ticket: Ticket,
    served: Served,
    health: policy::HealthCheck,
}

impl Gate {
    /// Judges a health check.
    ///
    /// # Errors
    /// A refusal, with its reason.
    pub(crate) fn check(
        &self,
        peer: &Peer,
        target: &Arc<ServicePort>,
        head: &RequestHead,
    ) -> Result<CheckPermit, Denied> {
        self.live_peer(peer)?;
        let mut inputs = Inputs {
            source: peer.spiffe_id.clone(),
            peer: peer.vouched.clone(),
            target: Arc::clone(target),
            request: JudgedRequest::Check,
        };
        loop {
            let state = self.state();
            self.vouched_peer(&inputs, &state)?;
            let policy = state.policy.as_ref().ok_or_else(not_ready)?;
            // First, so that who may call nothing learns nothing of what the port declares.
            if !permits(policy, &inputs) {
                let detail = format!("{} may call nothing on {target}", inputs.source);
                return Err(denied(detail));
            }
            let (served, health) = declared(&state, target, head)?;
            let judged = Judged {
                inputs,
                not_after: peer.not_after,
            };
            match self.live.enter(state.version, judged, Instant::now()) {
                Ok(ticket) => {
                    return Ok(CheckPermit {
                        ticket,
                        served: served.clone(),
                        health: health.clone(),
                    });
                }
                Err(Stale(again)) => inputs = *again,
            }
        }
    }
}

impl CheckPermit {
    /// Where the application is.
    pub(crate) fn served(&self) -> &Served {
        &self.served
    }

    /// The path that is asked for, and the time for it.
    pub(crate) fn health(&self) -> &policy::HealthCheck {
        &self.health
    }

    /// Its place among the live streams.
    pub(crate) fn ticket(&self) -> &Ticket {
        &self.ticket
    }
}

pub(super) fn permits(policy: &PolicySnapshot, inputs: &Inputs) -> bool {
    let target = policy::Target {
        service: &inputs.target.service,
        port: &inputs.target.port,
    };
    policy.may_ask_something(&inputs.source, &target)
}

/// What the port declares, if the request asks for just that.
fn declared<'a>(
    state: &'a MeshState,
    target: &ServicePort,
    head: &RequestHead,
) -> Result<(&'a Served, &'a policy::HealthCheck), Denied> {
    let served = state.served.get(target);
    let found = served.and_then(|it| Some((it, it.traffic.health.as_ref()?)));
    let (served, health) = found.ok_or_else(|| denied(format!("{target} declares no `health`")))?;
    let asked = head.target();
    let as_declared = head.method() == Method::GET
        && asked.path() == health.path.as_str()
        && asked.query().is_none();
    if !as_declared {
        let detail = format!("a check of {target} is GET {}", health.path.as_str());
        return Err(denied(detail));
    }
    Ok((served, health))
}

fn denied(detail: String) -> Denied {
    Denied {
        reason: Reason::PolicyDenied,
        detail,
        decision: None,
    }
}
