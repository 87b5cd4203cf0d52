//! The period in which a certificate may be used (RFC 5280 §4.1.2.5).
//!
//! Invariant: whole seconds, and the end lies after the beginning. Both ends are part of it.

use std::time::Duration;

use thiserror::Error;
use time::OffsetDateTime;

/// From `not_before` through `not_after`, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Validity {
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

impl Validity {
    /// Fractions of a second are dropped, since a certificate cannot carry them: it may begin a
    /// fraction earlier, and never ends later than asked.
    pub fn try_new(
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    ) -> Result<Self, ValidityError> {
        let (not_before, not_after) = (whole_seconds(not_before), whole_seconds(not_after));
        if not_after <= not_before {
            return Err(ValidityError::Empty {
                not_before,
                not_after,
            });
        }
        Ok(Self {
            not_before,
            not_after,
        })
    }

    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    pub fn contains(&self, now: OffsetDateTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// How long it still lasts; zero once it is over. A period that has not begun counts from now.
    pub fn remaining(&self, now: OffsetDateTime) -> Duration {
        Duration::try_from(self.not_after - now).unwrap_or(Duration::ZERO)
    }

    /// From the first to the last instant, the back-dating included.
    pub fn life(&self) -> Duration {
        (self.not_after - self.not_before).unsigned_abs()
    }

    /// The part of this period that lies within the issuer's, ending `margin` before the issuer
    /// does, so that no leaf outlives its chain (RFC 5280 §6.1.3 judges both at one time).
    pub fn clamp_to(&self, issuer: &Self, margin: Duration) -> Result<Self, ValidityError> {
        let latest = issuer
            .not_after
            .checked_sub(time::Duration::try_from(margin).unwrap_or(time::Duration::MAX))
            .unwrap_or(issuer.not_before);
        let not_before = self.not_before.max(issuer.not_before);
        let not_after = self.not_after.min(latest);
        Self::try_new(not_before, not_after).map_err(|_| ValidityError::OutsideIssuer {
            issuer_not_after: issuer.not_after,
        })
    }
}

/// Why a period cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ValidityError {
    #[error("a validity ends after it begins, this one is {not_before} to {not_after}")]
    Empty {
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    },
    #[error("nothing of the lifetime is left within the issuer's, which ends {issuer_not_after}")]
    OutsideIssuer { issuer_not_after: OffsetDateTime },
}

fn whole_seconds(instant: OffsetDateTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(instant.unix_timestamp())
        .expect("the seconds of an instant are an instant")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

    fn validity(from: i64, to: i64) -> Validity {
        let at = |offset| START + time::Duration::seconds(offset);
        Validity::try_new(at(from), at(to)).unwrap()
    }

    #[test]
    fn a_period_that_ends_at_or_before_its_beginning_is_refused() {
        for end in [
            START,
            START - Duration::from_secs(1),
            START + Duration::from_millis(900),
        ] {
            assert!(
                matches!(
                    Validity::try_new(START, end),
                    Err(ValidityError::Empty { .. })
                ),
                "{end}"
            );
        }
    }

    #[test]
    fn both_ends_are_within_and_the_instants_around_are_not() {
        let hour = validity(0, 3600);
        let moment = Duration::from_nanos(1);
        assert!(!hour.contains(hour.not_before() - moment));
        assert!(!hour.contains(hour.not_after() + moment));
        assert!(hour.contains(hour.not_before()) && hour.contains(hour.not_after()));
    }

    #[test]
    fn nothing_remains_after_the_end() {
        let hour = validity(0, 3600);
        assert_eq!(
            hour.remaining(hour.not_after() + Duration::from_secs(9)),
            Duration::ZERO
        );
        assert_eq!(
            hour.remaining(START + Duration::from_secs(600)),
            Duration::from_secs(3000)
        );
        assert_eq!(hour.life(), Duration::from_secs(3600));
    }

    #[test]
    fn clamping_to_an_issuer_that_is_about_to_end_is_refused() {
        let issuer = validity(0, 3600);
        let (leaf, margin) = (validity(3590, 7000), Duration::from_secs(60));
        let issuer_not_after = issuer.not_after();
        assert_eq!(
            leaf.clamp_to(&issuer, margin),
            Err(ValidityError::OutsideIssuer { issuer_not_after })
        );
        assert!(leaf.clamp_to(&issuer, Duration::MAX).is_err());
    }

    #[test]
    fn clamping_never_begins_before_the_issuer() {
        let clamped = validity(-30, 100).clamp_to(&validity(0, 3600), Duration::from_secs(60));
        assert_eq!(clamped, Ok(validity(0, 100)));
    }

    proptest! {
        #[test]
        fn a_clamped_period_lies_within_the_issuer_and_the_margin(
            from in -5000i64..5000, life in 1i64..5000, margin in 0u64..4000
        ) {
            let (issuer, leaf) = (validity(0, 3600), validity(from, from + life));
            if let Ok(clamped) = leaf.clamp_to(&issuer, Duration::from_secs(margin)) {
                prop_assert!(issuer.not_before() <= clamped.not_before());
                prop_assert!(clamped.not_after() + Duration::from_secs(margin) <= issuer.not_after());
                prop_assert!(clamped.life() <= leaf.life());
            }
        }
    }
}
