//! Active health: when an endpoint is asked, and what a row of answers means.
//!
//! Invariant: an endpoint is taken out only after [`UNHEALTHY_AFTER`] failures in a row and comes
//! back after [`HEALTHY_AFTER`] successes. One that was never asked is in use, and its first
//! answer decides at once.

use std::time::Duration;

use crypto::random::Random;
use tokio::time::Instant;

/// Failures in a row that take an endpoint out.
pub(crate) const UNHEALTHY_AFTER: u32 = 3;
/// Successes in a row that bring it back.
pub(crate) const HEALTHY_AFTER: u32 = 2;

/// Checks are this much of their period apart from regular, so that callers do not ask in step.
const JITTER: f64 = 0.2;

/// One endpoint as the checks see it.
#[derive(Clone, Debug)]
pub(crate) struct HealthState {
    healthy: bool,
    /// Answers in a row that say otherwise.
    contrary: u32,
    asked_before: bool,
    due: Instant,
}

impl HealthState {
    /// The first check comes within one period, at a moment drawn.
    pub(crate) fn new(every: Duration, now: Instant, random: &mut dyn Random) -> Self {
        Self {
            healthy: true,
            contrary: 0,
            asked_before: false,
            due: now + every.mul_f64(random.unit()),
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// A check begins; the next is due one period later, however long this one takes.
    pub(crate) fn begin(&mut self, every: Duration, now: Instant, random: &mut dyn Random) {
        let factor = 1.0 + JITTER * (random.unit() - 0.5);
        self.due = now + every.mul_f64(factor);
    }

    /// A check ended. Returns whether that changed whether the endpoint is in use.
    pub(crate) fn record(&mut self, success: bool) -> bool {
        let first = !std::mem::replace(&mut self.asked_before, true);
        if success == self.healthy {
            self.contrary = 0;
            return false;
        }
        self.contrary += 1;
        let enough = if self.healthy {
            UNHEALTHY_AFTER
        } else {
            HEALTHY_AFTER
        };
        // Who never answered well has no reputation to lose.
        if !first && self.contrary < enough {
            return false;
        }
        self.healthy = success;
        self.contrary = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use crypto::random::SeededRandom;
    use proptest::prelude::*;

    use super::*;

    const EVERY: Duration = Duration::from_secs(5);

    fn state() -> HealthState {
        HealthState::new(EVERY, Instant::now(), &mut SeededRandom::new(1))
    }

    fn after(answers: &[bool]) -> bool {
        let mut state = state();
        for answer in answers {
            state.record(*answer);
        }
        state.is_healthy()
    }

    #[test]
    fn a_first_failure_takes_a_new_endpoint_out() {
        assert!(!after(&[false]));
    }

    #[test]
    fn one_that_was_well_is_given_two_failures() {
        assert!(after(&[true, false, false]));
        assert!(!after(&[true, false, false, false]));
        assert!(after(&[true, false, false, true, false, false]));
    }

    #[test]
    fn it_comes_back_after_two_successes_in_a_row() {
        assert!(!after(&[false, true]));
        assert!(!after(&[false, true, false, true]));
        assert!(after(&[false, true, true]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn checks_are_about_a_period_apart(seed: u64) {
            let (now, mut random) = (Instant::now(), SeededRandom::new(seed));
            let mut state = HealthState::new(EVERY, now, &mut random);
            prop_assert!(state.due() <= now + EVERY);
            state.begin(EVERY, now, &mut random);
            let pause = state.due() - now;
            prop_assert!(pause >= EVERY.mul_f64(0.9) && pause <= EVERY.mul_f64(1.1));
        }

        #[test]
        fn two_changes_are_never_closer_than_the_thresholds(
            answers in proptest::collection::vec(any::<bool>(), 1..60),
        ) {
            let mut state = state();
            state.record(true);
            let mut since = 0;
            for answer in answers {
                since += 1;
                if state.record(answer) {
                    prop_assert!(since >= HEALTHY_AFTER);
                    since = 0;
                }
            }
        }
    }
}
