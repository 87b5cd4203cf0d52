//! How often one caller may call.
//!
//! Invariant: callers are told apart by uid, which they cannot change by forking.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::DefaultClock;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("20 is not zero");
const BURST: NonZeroU32 = NonZeroU32::new(100).expect("100 is not zero");

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_callers_calls_do_not_use_up_anothers() {
        let limits = CallerLimits::new();
        let spent = (0..BURST.get() * 2).filter(|_| limits.permits(1)).count();
        assert!(spent < 2 * BURST.get() as usize);
        assert!(!limits.permits(1));
        assert!(limits.permits(2));
    }
}
