//! At most so many at once, for all workers together.
//!
//! Invariant: a place is held by a [`Place`] and given back when that is dropped, so the count is
//! the number of places that live. A lower limit throws nobody out; it lets nobody new in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Counts who is in. The limit is given with each entry, so a change of it counts nobody twice.
#[derive(Debug, Default)]
pub(crate) struct Bulkhead {
    inside: AtomicU32,
}

/// A place inside, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    bulkhead: Arc<Bulkhead>,
}

/// As many are inside as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} are at work already")]
pub(crate) struct Full {
    pub limit: u32,
}

impl Bulkhead {
    /// Enters; without a limit, to be counted.
    ///
    /// # Errors
    /// If `limit` are inside.
    pub(crate) fn enter(self: &Arc<Self>, limit: Option<u32>) -> Result<Place, Full> {
        let limit = limit.unwrap_or(u32::MAX);
        let one_more = |inside: u32| (inside < limit).then(|| inside.saturating_add(1));
        self.inside
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|_| Full { limit })?;
        Ok(Place {
            bulkhead: Arc::clone(self),
        })
    }

    pub(crate) fn inside(&self) -> u32 {
        self.inside.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.bulkhead.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_more_than_the_limit_is_refused() {
        let bulkhead = Arc::new(Bulkhead::default());
        let place = bulkhead.enter(Some(1)).unwrap();
        assert_eq!(bulkhead.enter(Some(1)).unwrap_err(), Full { limit: 1 });
        drop(place);
        assert!(bulkhead.enter(Some(1)).is_ok());
    }

    #[test]
    fn a_limit_lowered_below_who_is_inside_lets_nobody_in() {
        let bulkhead = Arc::new(Bulkhead::default());
        let places: Vec<_> = (0..3).map(|_| bulkhead.enter(None).unwrap()).collect();
        assert_eq!(bulkhead.enter(Some(2)).unwrap_err(), Full { limit: 2 });
        drop(places);
        assert_eq!(bulkhead.inside(), 0);
    }

    #[test]
    fn threads_together_never_are_more_than_the_limit() {
        let bulkhead = Arc::new(Bulkhead::default());
        let crowd = || {
            for _ in 0..1000 {
                let place = bulkhead.enter(Some(2));
                assert!(bulkhead.inside() <= 2);
                drop(place);
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(crowd))));
        assert_eq!(bulkhead.inside(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn who_is_inside_is_who_holds_a_place(
            steps in proptest::collection::vec((any::<bool>(), 0u32..6), 0..60),
        ) {
            let bulkhead = Arc::new(Bulkhead::default());
            let mut places = Vec::new();
            for (enters, limit) in steps {
                if enters {
                    let room = places.len() < limit as usize;
                    let entered = bulkhead.enter(Some(limit));
                    prop_assert_eq!(entered.is_ok(), room);
                    places.extend(entered);
                } else {
                    places.pop();
                }
                prop_assert_eq!(bulkhead.inside() as usize, places.len());
            }
        }
    }
}
