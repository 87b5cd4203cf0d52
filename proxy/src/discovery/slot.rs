//! What is known of one kind of address of one name, and when it is asked for again.
//!
//! Invariant: an answer is believed for as long as it says, but not shorter or longer than the
//! bounds; a failure takes nothing away before [`Bounds::stale`] is over, and is followed by
//! pauses that grow.

use std::net::IpAddr;
use std::time::Duration;

use crypto::random::Random;
use tokio::time::Instant;

use super::Resolved;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A name that is not there is looked for again at least this often: it may be on its way.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(60);
/// What is believed of an answer that does not say how long.
const NEGATIVE: Duration = Duration::from_secs(5);

/// For how long answers are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub shortest: Duration,
    pub longest: Duration,
    /// After its time, while nobody answers.
    pub stale: Duration,
}

/// What a resolver said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Addresses {
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    Nothing {
        ttl: Option<Duration>,
    },
    /// Nobody answers, or nobody will say.
    Failed,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    known: Known,
    due: Instant,
    failures: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    Pending,
    /// Until then, if nobody answers.
    Addresses(Vec<IpAddr>, Instant),
    Nothing,
    Failed,
}

impl Slot {
    /// Due at once.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            known: Known::Pending,
            due: now,
            failures: 0,
        }
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    pub(crate) fn hear(
        &mut self,
        heard: Heard,
        bounds: &Bounds,
        now: Instant,
        random: &mut dyn Random,
    ) {
        let clamped = |ttl: Duration| ttl.min(bounds.longest).max(bounds.shortest);
        let fresh = match heard {
            Heard::Addresses { addresses, ttl } => {
                let fresh = clamped(ttl);
                self.known = Known::Addresses(addresses, now + fresh + bounds.stale);
                fresh
            }
            Heard::Nothing { ttl } => {
                self.known = Known::Nothing;
                clamped(ttl.unwrap_or(NEGATIVE).min(LONGEST_NEGATIVE))
            }
            Heard::Failed => return self.fail(now, random),
        };
        self.failures = 0;
        self.due = now + fresh;
    }

    fn fail(&mut self, now: Instant, random: &mut dyn Random) {
        let is_over = match self.known {
            Known::Addresses(_, until) => now >= until,
            Known::Pending | Known::Nothing | Known::Failed => true,
        };
        if is_over {
            self.known = Known::Failed;
        }
        let factor = 1u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let pause = FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        // Between three quarters and all of it, so that names do not fail in step.
        self.due = now + pause.mul_f64(1.0 - 0.25 * random.unit());
    }
}

/// What is known of a name, from both kinds of addresses.
pub(crate) fn together(slots: &[Slot]) -> Resolved {
    let known = |what: &Known| slots.iter().any(|slot| slot.known == *what);
    let addresses = slots.iter().flat_map(|slot| match &slot.known {
        Known::Addresses(addresses, _) => addresses.as_slice(),
        _ => &[],
    });
    let mut addresses: Vec<IpAddr> = addresses.copied().collect();
    addresses.sort_unstable();
    addresses.dedup();
    if !addresses.is_empty() {
        Resolved::Addresses(addresses.into())
    } else if known(&Known::Pending) {
        Resolved::Pending
    } else if known(&Known::Failed) {
        Resolved::Failed
    } else {
        Resolved::Nothing
    }
}

#[cfg(test)]
mod tests {
    use crypto::random::SeededRandom;
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        shortest: Duration::from_secs(5),
        longest: Duration::from_secs(300),
        stale: Duration::from_secs(3600),
    };

    fn one() -> IpAddr {
        IpAddr::from([10, 0, 0, 1])
    }

    struct Bench {
        slot: Slot,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let now = Instant::now();
            Self {
                slot: Slot::new(now),
                now,
            }
        }

        /// Returns after how long it is due.
        fn hear(&mut self, heard: Heard) -> Duration {
            let mut random = SeededRandom::new(1);
            self.slot.hear(heard, &BOUNDS, self.now, &mut random);
            self.slot.due() - self.now
        }

        fn found(&mut self, seconds: u64) -> Duration {
            self.hear(Heard::Addresses {
                addresses: vec![one()],
                ttl: Duration::from_secs(seconds),
            })
        }

        fn resolved(&self) -> Resolved {
            together(std::slice::from_ref(&self.slot))
        }
    }

    #[test]
    fn a_failure_leaves_what_is_known_until_that_is_too_old() {
        let mut bench = Bench::new();
        bench.found(60);
        let found = bench.resolved();
        bench.now += Duration::from_secs(60) + BOUNDS.stale - Duration::from_millis(1);
        bench.hear(Heard::Failed);
        assert_eq!(bench.resolved(), found);
        bench.now += Duration::from_millis(1);
        bench.hear(Heard::Failed);
        assert_eq!(bench.resolved(), Resolved::Failed);
    }

    #[test]
    fn an_answer_that_there_is_nothing_takes_addresses_away_at_once() {
        let mut bench = Bench::new();
        bench.found(60);
        let due = bench.hear(Heard::Nothing { ttl: None });
        assert_eq!((bench.resolved(), due), (Resolved::Nothing, NEGATIVE));
    }

    #[test]
    fn answers_are_believed_as_long_as_they_say_within_bounds() {
        let mut bench = Bench::new();
        let due = [0, 60, 86_400].map(|seconds| bench.found(seconds).as_secs());
        assert_eq!(due, [5, 60, 300]);
        let ttl = Some(Duration::from_secs(3600));
        assert_eq!(bench.hear(Heard::Nothing { ttl }), LONGEST_NEGATIVE);
    }

    #[test]
    fn one_kind_of_address_is_enough_and_until_both_are_heard_nothing_is_said() {
        let (mut four, six) = (Bench::new(), Bench::new());
        let both = |four: &Bench, six: &Bench| together(&[four.slot.clone(), six.slot.clone()]);
        four.hear(Heard::Nothing { ttl: None });
        assert_eq!(both(&four, &six), Resolved::Pending);
        four.found(60);
        assert_eq!(both(&four, &six).addresses(), [one()]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn it_is_always_due_again_and_never_at_once(
            steps in proptest::collection::vec((0u8..3, 0u64..10_000), 1..40),
        ) {
            let mut bench = Bench::new();
            for (kind, seconds) in steps {
                let due = match kind {
                    0 => bench.found(seconds),
                    1 => bench.hear(Heard::Nothing { ttl: Some(Duration::from_secs(seconds)) }),
                    _ => bench.hear(Heard::Failed),
                };
                prop_assert!(due >= FIRST_PAUSE.mul_f64(0.75) && due <= BOUNDS.longest);
                bench.now += due;
            }
        }
    }
}
