//! When a certificate is renewed. Pure: the same draw gives the same time.
//!
//! Invariant: the answer lies within the life of the certificate, between two and three fifths of
//! what was left of it when it was issued.

use std::time::Duration;

use crypto::random::Random;
use time::OffsetDateTime;

use crate::validity::Validity;

/// Half of the life, counted from `issued_at`, with a jitter of ± 10 % of life, so that a fleet
/// that started together spreads out. Draw once for each certificate and keep the result.
pub fn renewal_time(
    validity: &Validity,
    issued_at: OffsetDateTime,
    random: &mut dyn Random,
) -> OffsetDateTime {
    let begin = issued_at.clamp(validity.not_before(), validity.not_after());
    let life = validity.remaining(begin);
    let share = 0.4 + 0.2 * random.unit();
    begin + Duration::from_secs_f64(life.as_secs_f64() * share)
}

#[cfg(test)]
mod tests {
    use crypto::random::SeededRandom;
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

    #[test]
    fn a_certificate_taken_up_after_its_end_is_renewed_at_once() {
        let validity = Validity::try_new(START, START + Duration::from_secs(10)).unwrap();
        let late = START + Duration::from_secs(60);
        let renewal = renewal_time(&validity, late, &mut SeededRandom::new(1));
        assert_eq!(renewal, validity.not_after());
    }

    #[test]
    fn two_draws_spread_out() {
        let validity = Validity::try_new(START, START + Duration::from_secs(3600)).unwrap();
        let mut random = SeededRandom::new(1);
        assert_ne!(
            renewal_time(&validity, START, &mut random),
            renewal_time(&validity, START, &mut random)
        );
    }

    proptest! {
        #[test]
        fn renewal_lies_between_two_and_three_fifths_of_life(
            back_date in 0u64..60, life in 1u64..1_000_000, seed: u64
        ) {
            let end = START + Duration::from_secs(life);
            let validity = Validity::try_new(START - Duration::from_secs(back_date), end).unwrap();
            let after = renewal_time(&validity, START, &mut SeededRandom::new(seed)) - START;
            let share = after.as_seconds_f64() / life as f64;
            prop_assert!((0.399_999..=0.600_001).contains(&share), "{}", share);
        }
    }
}
