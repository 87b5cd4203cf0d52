//! The limits of a port that our workload serves, for one caller.
//!
//! Invariant: a call is counted from here until its last byte, as the identity's that mutual TLS
//! proved.

use std::sync::Arc;

use identity::SpiffeId;
use policy::Traffic;
use tokio::time::Instant;

use super::failure::Failure;
use crate::failure::Reason;
use crate::service_port::ServicePort;
use crate::traffic::callers::{Account, Entry, PortLimits, Refused};
use crate::traffic::settings::{Bulkhead, RateLimit};
use crate::traffic::shared::Shared;

/// What a connection asks for each of its calls.
#[derive(Debug)]
pub(crate) struct PortGuard {
    limits: Arc<PortLimits>,
    account: Arc<Account>,
}

impl PortGuard {
    pub(crate) fn new(shared: &Shared, port: &ServicePort, caller: &SpiffeId) -> Self {
        let limits = shared.served(port);
        Self {
            account: limits.account(caller, Instant::now()),
            limits,
        }
    }

    /// Lets a call in, by the limits now in force.
    ///
    /// # Errors
    /// `bulkhead-full` or `rate-limited`.
    pub(crate) fn enter(&self, traffic: &Traffic) -> Result<Option<Entry>, Failure> {
        if traffic.bulkhead.is_none() && traffic.rate_limit.is_none() {
            return Ok(None);
        }
        let bulkhead = traffic
            .bulkhead
            .as_ref()
            .map_or_else(Bulkhead::default, Into::into);
        let rate = traffic
            .rate_limit
            .as_ref()
            .map_or_else(RateLimit::default, Into::into);
        let entered = self
            .limits
            .enter(&self.account, &bulkhead, &rate, Instant::now());
        entered.map(Some).map_err(refusal)
    }
}

fn refusal(refused: Refused) -> Failure {
    let reason = match refused {
        Refused::Full(_) | Refused::CallerFull(_) => Reason::BulkheadFull,
        Refused::Rate(_) | Refused::CallerRate(_) => Reason::RateLimited,
    };
    let failure = Failure::new(reason, refused.to_string());
    match refused.retry_after() {
        Some(wait) => failure.retry_after(wait),
        None => failure,
    }
}
