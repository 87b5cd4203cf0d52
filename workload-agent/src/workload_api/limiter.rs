//! How often one caller may call, and how many connections it may hold. The socket is open to every
//! user of the host, and each connection costs the agent two descriptors.
//!
//! Invariant: callers are told apart by uid, which they cannot change by forking.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::DefaultClock;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("20 is not zero");
const BURST: NonZeroU32 = NonZeroU32::new(100).expect("100 is not zero");

/// With the descriptors that a process has by default, one uid leaves half of them to the others.
const CONNECTIONS: usize = 256;

type Limiter = RateLimiter<u32, DefaultKeyedStateStore<u32>, DefaultClock>;

/// The budgets of all callers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct CallerLimits(Arc<Limiter>);

impl CallerLimits {
    pub(crate) fn new() -> Self {
        let quota = Quota::per_second(CALLS_PER_SECOND).allow_burst(BURST);
        Self(Arc::new(RateLimiter::keyed(quota)))
    }

    /// Whether this call is within the caller's budget.
    pub(crate) fn permits(&self, uid: u32) -> bool {
        self.0.check_key(&uid).is_ok()
    }
}

/// The connections that each uid holds. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionLimits(Arc<Mutex<HashMap<u32, usize>>>);

/// One connection of one uid, given back when dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPlace {
    limits: ConnectionLimits,
    uid: u32,
}

impl ConnectionLimits {
    /// A place, or none if this uid holds all that it may.
    pub(crate) fn enter(&self, uid: u32) -> Option<ConnectionPlace> {
        let mut held = self.held();
        let count = held.entry(uid).or_default();
        if *count >= CONNECTIONS {
            return None;
        }
        *count += 1;
        Some(ConnectionPlace {
            limits: self.clone(),
            uid,
        })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let mut held = self.limits.held();
        if let Some(count) = held.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_that_holds_all_connections_it_may_gets_no_more_and_others_do() {
        let limits = ConnectionLimits::default();
        let mut held: Vec<_> = (0..CONNECTIONS).map(|_| limits.enter(1)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(limits.enter(1).is_none());
        assert!(limits.enter(2).is_some());
        held.pop();
        assert!(limits.enter(1).is_some());
        held.clear();
        assert!(limits.held().is_empty());
    }

    #[test]
    fn one_callers_calls_do_not_use_up_anothers() {
        let limits = CallerLimits::new();
        let spent = (0..BURST.get() * 2).filter(|_| limits.permits(1)).count();
        assert!(spent < 2 * BURST.get() as usize);
        assert!(!limits.permits(1));
        assert!(limits.permits(2));
    }
}
