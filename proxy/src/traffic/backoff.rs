//! How long a retry waits: drawn evenly from nothing to a bound that doubles ("full jitter"), so
//! that those who failed together do not come back together.

use std::time::Duration;

use crypto::random::Random;

use super::settings::Backoff;

impl Backoff {
    /// The pause before retry number `retry`, from 0: at most `base` × 2^retry, and `max`.
    pub(crate) fn pause(&self, retry: u32, random: &mut dyn Random) -> Duration {
        let factor = 1u32.checked_shl(retry).unwrap_or(u32::MAX);
        let bound = self.base.saturating_mul(factor).min(self.max);
        bound.mul_f64(random.unit())
    }

    /// The pause after an answer that says when to come back. `None` if that is later than `max`:
    /// whoever asks for more time than the Route gives is not asked again.
    pub(crate) fn pause_as_asked(
        &self,
        asked: Duration,
        retry: u32,
        random: &mut dyn Random,
    ) -> Option<Duration> {
        (asked <= self.max).then(|| asked.max(self.pause(retry, random)))
    }
}

#[cfg(test)]
mod tests {
    use crypto::random::SeededRandom;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_asks_for_too_much_time_is_not_asked_again() {
        let backoff = Backoff::default();
        let mut random = SeededRandom::new(1);
        let longer = backoff.max + Duration::from_nanos(1);
        assert_eq!(backoff.pause_as_asked(longer, 0, &mut random), None);
        assert_eq!(
            backoff.pause_as_asked(backoff.max, 0, &mut random),
            Some(backoff.max)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_pause_exceeds_its_bound(base in 0u64..1000, max in 0u64..10_000, retry in 0u32..100, seed: u64) {
            let backoff = Backoff {
                base: Duration::from_millis(base),
                max: Duration::from_millis(max),
            };
            let pause = backoff.pause(retry, &mut SeededRandom::new(seed));
            prop_assert!(pause <= backoff.max);
            prop_assert!(retry > 0 || pause <= backoff.base);
        }
    }
}
