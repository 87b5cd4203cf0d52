//! Active health of all endpoints that our workload calls: whom to ask, and when.
//!
//! Invariant: an endpoint is asked once in a period, however many workers there are, and never
//! twice at a time. What is not followed any more is not asked any more.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crypto::random::Random;
use tokio::time::Instant;

use super::health::HealthState;
use crate::balance::Endpoint;
use crate::service_port::ServicePort;

/// One endpoint of one port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    pub port: ServicePort,
    pub endpoint: Endpoint,
}

#[derive(Debug, Default)]
pub(crate) struct Checks {
    of: HashMap<Subject, Check>,
}

#[derive(Debug)]
struct Check {
    every: Duration,
    state: HealthState,
    asking: bool,
}

impl Checks {
    /// From now on, these and no others are asked. What is known of them stays.
    pub(crate) fn follow(
        &mut self,
        subjects: impl IntoIterator<Item = (Subject, Duration)>,
        now: Instant,
        random: &mut dyn Random,
    ) {
        let mut followed = HashSet::new();
        for (subject, every) in subjects {
            let check = self.of.entry(subject.clone()).or_insert_with(|| Check {
                every,
                state: HealthState::new(every, now, random),
                asking: false,
            });
            if every < check.every {
                check.state.begin(every, now, random);
            }
            check.every = every;
            followed.insert(subject);
        }
        self.of.retain(|subject, _| followed.contains(subject));
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let waiting = self.of.values().filter(|it| !it.asking);
        waiting.map(|it| it.state.due()).min()
    }

    /// Begins the checks that are due, `most` of them.
    pub(crate) fn begin(
        &mut self,
        most: usize,
        now: Instant,
        random: &mut dyn Random,
    ) -> Vec<Subject> {
        let due = |(_, check): &(&Subject, &mut Check)| !check.asking && check.state.due() <= now;
        let begun = self.of.iter_mut().filter(due).take(most);
        begun
            .map(|(subject, check)| {
                check.asking = true;
                check.state.begin(check.every, now, random);
                subject.clone()
            })
            .collect()
    }

    /// A check ended; none if nothing was learnt. Returns whether the endpoint is well, if that
    /// is news.
    pub(crate) fn end(&mut self, subject: &Subject, success: Option<bool>) -> Option<bool> {
        let check = self.of.get_mut(subject)?;
        check.asking = false;
        let changed = check.state.record(success?);
        changed.then_some(check.state.is_healthy())
    }
}

#[cfg(test)]
mod tests {
    use crypto::random::SeededRandom;
    use proptest::prelude::*;

    use super::*;

    const EVERY: Duration = Duration::from_secs(5);

    fn subject(number: u16) -> Subject {
        Subject {
            port: "shop/orders:http".parse().unwrap(),
            endpoint: Endpoint {
                host: "10.0.0.7".to_owned(),
                port: number,
            },
        }
    }

    fn following(numbers: impl IntoIterator<Item = u16>, now: Instant) -> Checks {
        let mut checks = Checks::default();
        let subjects = numbers.into_iter().map(|it| (subject(it), EVERY));
        checks.follow(subjects, now, &mut SeededRandom::new(1));
        checks
    }

    #[test]
    fn what_is_being_asked_is_not_asked_again() {
        let (now, mut random) = (Instant::now(), SeededRandom::new(1));
        let mut checks = following([1], now);
        assert_eq!(checks.begin(9, now + EVERY, &mut random), [subject(1)]);
        assert_eq!(checks.begin(9, now + 9 * EVERY, &mut random), []);
        assert_eq!(checks.end(&subject(1), Some(true)), None);
        assert_eq!(checks.begin(9, now + 9 * EVERY, &mut random), [subject(1)]);
    }

    #[test]
    fn an_endpoint_that_left_is_not_asked_and_its_last_answer_is_no_news() {
        let (now, mut random) = (Instant::now(), SeededRandom::new(1));
        let mut checks = following([1], now);
        checks.begin(9, now + EVERY, &mut random);
        checks.follow([], now, &mut random);
        assert_eq!(checks.end(&subject(1), Some(false)), None);
        assert_eq!(checks.next_due(), None);
    }

    #[test]
    fn an_answer_that_says_nothing_changes_nothing() {
        let now = Instant::now();
        let mut checks = following([1], now);
        checks.begin(9, now + EVERY, &mut SeededRandom::new(1));
        assert_eq!(checks.end(&subject(1), None), None);
        assert_eq!(checks.end(&subject(1), Some(false)), Some(false));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_more_are_asked_at_once_than_may_be_and_all_are_asked_in_time(
            count in 1u16..40, most in 1usize..8, seed: u64,
        ) {
            let (mut now, mut random) = (Instant::now(), SeededRandom::new(seed));
            let mut checks = following(0..count, now);
            let mut asked = HashSet::new();
            now += EVERY;
            while asked.len() < usize::from(count) {
                let begun = checks.begin(most, now, &mut random);
                prop_assert!(!begun.is_empty() && begun.len() <= most);
                for subject in begun {
                    prop_assert!(asked.insert(subject.clone()), "asked twice");
                    checks.end(&subject, Some(true));
                }
            }
        }
    }
}
