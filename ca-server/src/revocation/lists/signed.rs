//! When the next list of an authority is due: pure.

use time::OffsetDateTime;

use crate::status::unix_millis;

/// What an authority's last list was made of, and when the next is due; before the first it is due.
#[derive(Debug)]
pub(super) struct Signed<Content> {
    last: Option<Last<Content>>,
}

#[derive(Debug)]
struct Last<Content> {
    content: Content,
    number: u64,
    /// `None`: nothing outlives it.
    renew_at: Option<OffsetDateTime>,
}

impl<Content> Default for Signed<Content> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<Content> Signed<Content> {
    /// Renewed at half of its life; one that ends with its authority never is.
    pub(super) fn of(
        content: Content,
        number: u64,
        (now, next_update, authority_ends): (OffsetDateTime, OffsetDateTime, OffsetDateTime),
    ) -> Self {
        let renew_at = (next_update < authority_ends).then(|| now + (next_update - now) / 2);
        Self {
            last: Some(Last {
                content,
                number,
                renew_at,
            }),
        }
    }

    pub(super) fn is_due(&self, same: impl FnOnce(&Content) -> bool, now: OffsetDateTime) -> bool {
        self.last.as_ref().is_none_or(|last| {
            !same(&last.content) || last.renew_at.is_some_and(|renew_at| renew_at <= now)
        })
    }

    /// Of the next list.
    pub(super) fn number(&self, now: OffsetDateTime) -> u64 {
        number(now, self.last.as_ref().map_or(0, |last| last.number))
    }
}

/// Lists are numbered by when they were signed; a clock that steps back takes no number back.
pub(super) fn number(now: OffsetDateTime, last: u64) -> u64 {
    let by_time = u64::try_from(unix_millis(now)).unwrap_or(0);
    by_time.max(last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);
    const LIFE: time::Duration = time::Duration::hours(2);
    const INSTANT: time::Duration = time::Duration::milliseconds(1);

    fn signed(authority_lives: time::Duration) -> Signed<u8> {
        Signed::of(7, 1, (NOW, NOW + LIFE, NOW + authority_lives))
    }

    #[test]
    fn the_first_list_is_due_at_once_and_one_whose_content_changed() {
        assert!(Signed::<u8>::default().is_due(|_| true, NOW));
        assert!(signed(LIFE).is_due(|content| *content == 8, NOW));
    }

    #[test]
    fn a_list_is_renewed_at_half_of_its_life_and_not_before() {
        let signed = signed(LIFE * 2);
        assert!(!signed.is_due(|_| true, NOW + LIFE / 2 - INSTANT));
        assert!(signed.is_due(|_| true, NOW + LIFE / 2));
    }

    #[test]
    fn a_list_that_ends_with_its_authority_is_the_last() {
        let signed = signed(LIFE);
        assert!(!signed.is_due(|_| true, NOW + LIFE));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn numbers_only_grow_whatever_the_clock_does(steps in prop::collection::vec(-9_000_i64..9_000, 1..20)) {
            let (mut now, mut signed) = (NOW, Signed::<u8>::default());
            let mut before = 0;
            for step in steps {
                now += time::Duration::milliseconds(step);
                let number = signed.number(now);
                prop_assert!(number > before);
                signed = Signed::of(7, number, (now, now + LIFE, now + LIFE));
                before = number;
            }
        }
    }
}
