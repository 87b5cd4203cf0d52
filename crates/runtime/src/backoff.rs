//! Exponential backoff with jitter, as a synchronous type.
//!
//! Invariant: no pause is longer than the maximum or shorter than `1 - jitter` of the step.

use std::time::Duration;

use thiserror::Error;

/// Doubling pauses between attempts. The caller brings the randomness.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    max: Duration,
    jitter: f64,
    failures: u32,
}

impl Backoff {
    /// Pauses start at `base`, double up to `max`, and are shortened by up to `jitter` (0..=1) of
    /// themselves.
    pub fn try_new(base: Duration, max: Duration, jitter: f64) -> Result<Self, InvalidBackoff> {
        if base.is_zero() {
            return Err(InvalidBackoff::ZeroBase);
        }
        if max < base {
            return Err(InvalidBackoff::MaxBelowBase { base, max });
        }
        if !(0.0..=1.0).contains(&jitter) {
            return Err(InvalidBackoff::Jitter(jitter));
        }
        Ok(Self {
            base,
            max,
            jitter,
            failures: 0,
        })
    }

    /// The pause before the next attempt; `unit_random` is uniform in `[0, 1)`.
    pub fn next(&mut self, unit_random: f64) -> Duration {
        let factor = 2_u32.checked_pow(self.failures).unwrap_or(u32::MAX);
        let step = self
            .base
            .checked_mul(factor)
            .unwrap_or(self.max)
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        let unit = if unit_random.is_nan() {
            0.0
        } else {
            unit_random.clamp(0.0, 1.0)
        };
        step.mul_f64(self.jitter.mul_add(-unit, 1.0))
    }

    /// Starts again at the base, after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Why a [`Backoff`] cannot be made.
#[derive(Debug, Error, PartialEq)]
pub enum InvalidBackoff {
    #[error("the first pause of a backoff must not be zero")]
    ZeroBase,
    #[error("the longest pause of a backoff, {max:?}, is shorter than the first, {base:?}")]
    MaxBelowBase { base: Duration, max: Duration },
    #[error("the jitter of a backoff must lie between 0 and 1, got {0}")]
    Jitter(f64),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn impossible_parameters_are_refused() {
        assert_eq!(
            Backoff::try_new(Duration::ZERO, MAX, 0.5).unwrap_err(),
            InvalidBackoff::ZeroBase
        );
        assert_eq!(
            Backoff::try_new(MAX, BASE, 0.5).unwrap_err(),
            InvalidBackoff::MaxBelowBase {
                base: MAX,
                max: BASE
            }
        );
        assert_eq!(
            Backoff::try_new(BASE, MAX, 1.5).unwrap_err(),
            InvalidBackoff::Jitter(1.5)
        );
    }

    #[test]
    fn pauses_double_until_the_maximum_and_reset_starts_again() {
        let mut backoff = Backoff::try_new(BASE, BASE * 3, 0.0).unwrap();
        let pauses = [backoff.next(0.9), backoff.next(0.9), backoff.next(0.9)];
        backoff.reset();
        assert_eq!(
            (pauses, backoff.next(0.0)),
            ([BASE, BASE * 2, BASE * 3], BASE)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn pause_stays_between_jittered_base_and_maximum(attempts in 1_usize..80, unit in 0.0..1.0) {
            let mut backoff = Backoff::try_new(BASE, MAX, 0.5).unwrap();
            for _ in 0..attempts {
                let pause = backoff.next(unit);
                prop_assert!(pause >= BASE / 2 && pause <= MAX);
            }
        }
    }
}
