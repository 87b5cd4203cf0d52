use std::collections::BTreeSet;

use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const START: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);
const LIFE: Duration = Duration::from_secs(3600);

fn id(name: &str) -> SpiffeId {
    format!("spiffe://mesh.example/ns/shop/sa/{name}")
        .parse()
        .unwrap()
}

fn ids(names: &[&str]) -> BTreeSet<SpiffeId> {
    names.iter().map(|name| id(name)).collect()
}

fn held(name: &str, at: OffsetDateTime) -> Event {
    Event::Held {
        id: id(name),
        not_after: at + LIFE,
        renews_at: at + LIFE / 2,
    }
}

fn assigned(names: &[&str]) -> Renewal {
    Renewal::default()
        .step(Event::Assigned(ids(names)), START)
        .0
}

#[test]
fn identity_no_longer_assigned_is_withdrawn() {
    let (renewal, _) = assigned(&["orders"]).step(held("orders", START), START);
    let (renewal, actions) = renewal.step(Event::Assigned(BTreeSet::new()), START);
    assert_eq!(actions, [Action::Withdraw(id("orders"))]);
    assert!(!renewal.wants(&id("orders")));
}

#[test]
fn refused_identity_is_withdrawn_at_its_end_and_not_before() {
    let (renewal, _) = assigned(&["orders"]).step(held("orders", START), START);
    let refused = Event::Refused {
        id: id("orders"),
        draw: 0.5,
    };
    let (renewal, before) = renewal.step(refused, START + LIFE / 2);
    let (_, at_end) = renewal.step(Event::Tick, START + LIFE);
    assert_eq!(before, []);
    assert_eq!(at_end[0], Action::Withdraw(id("orders")));
}

#[test]
fn certificate_for_an_identity_that_has_gone_is_not_kept() {
    let (renewal, _) = assigned(&["orders"]).step(Event::Assigned(BTreeSet::new()), START);
    let (renewal, actions) = renewal.step(held("orders", START), START);
    assert_eq!(actions, []);
    assert_eq!(renewal.wakes_at(), None);
}

#[test]
fn adopted_certificate_is_not_asked_for_again_when_it_is_assigned() {
    let adopted = Event::Adopted {
        id: id("orders"),
        not_after: START + LIFE,
        renews_at: START + LIFE / 2,
    };
    let (renewal, _) = Renewal::default().step(adopted, START);
    let (_, actions) = renewal.step(Event::Assigned(ids(&["orders"])), START);
    assert_eq!(actions, []);
}

#[test]
fn all_that_is_due_is_asked_for_in_one_batch() {
    let (_, actions) =
        Renewal::default().step(Event::Assigned(ids(&["orders", "checkout"])), START);
    assert_eq!(actions, [Action::Request(ids(&["orders", "checkout"]))]);
}

#[test]
fn renewal_starts_at_the_drawn_time() {
    let (renewal, _) = assigned(&["orders"]).step(held("orders", START), START);
    assert_eq!(renewal.wakes_at(), Some(START + LIFE / 2));
    let (_, actions) = renewal.step(Event::Tick, START + LIFE / 2);
    assert_eq!(actions, [Action::Request(ids(&["orders"]))]);
}

#[test]
fn retries_come_faster_as_the_end_nears() {
    let failing_at = |elapsed: Duration| {
        let (mut renewal, _) = assigned(&["orders"]).step(held("orders", START), START);
        let now = START + elapsed;
        for _ in 0..12 {
            renewal = renewal.step(Event::Tick, now).0;
            let failed = Event::Failed {
                id: id("orders"),
                draw: 1.0,
            };
            renewal = renewal.step(failed, now).0;
            renewal = renewal.step(Event::Tick, now).0;
        }
        renewal.wakes_at().unwrap() - now
    };
    assert_eq!(failing_at(LIFE / 2), SLOWEST_RETRY);
    assert_eq!(
        failing_at(LIFE - Duration::from_secs(8)),
        Duration::from_secs(1)
    );
}

#[test]
fn recovered_ca_is_asked_at_once() {
    let failed = Event::Failed {
        id: id("orders"),
        draw: 1.0,
    };
    let (renewal, _) = assigned(&["orders"]).step(failed, START);
    let (_, actions) = renewal.step(Event::Reachable, START);
    assert_eq!(actions, [Action::Request(ids(&["orders"]))]);
}

#[test]
fn a_clock_that_is_set_back_puts_nothing_off() {
    let fast = START + LIFE;
    let failed = Event::Failed {
        id: id("orders"),
        draw: 1.0,
    };
    let (renewal, _) = assigned(&["orders"]).step(failed, fast);
    assert!(renewal.wakes_at() > Some(fast));
    let (_, actions) = renewal.step(Event::ClockSet, START);
    assert_eq!(actions, [Action::Request(ids(&["orders"]))]);
}

#[test]
fn what_was_held_back_by_a_clock_that_is_set_back_is_renewed_when_it_is_due() {
    let fast = START + LIFE * 3 / 4;
    let (renewal, _) = assigned(&["orders"]).step(held("orders", START), fast);
    assert!(renewal.wakes_at() > Some(fast));
    let (renewal, actions) = renewal.step(Event::ClockSet, START);
    assert_eq!(actions, []);
    assert_eq!(renewal.wakes_at(), Some(START + LIFE / 2));
}

#[derive(Clone, Debug)]
enum Input {
    Assign(Vec<bool>),
    Answer(usize, Answer),
    Reachable,
    /// The clock jumps by so many seconds.
    Set(i64),
    Elapse(u64),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Held(u64),
    Failed,
    Refused,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

fn input() -> impl Strategy<Value = Input> {
    let answer = prop_oneof![
        (1_u64..4000).prop_map(Answer::Held),
        Just(Answer::Failed),
        Just(Answer::Refused)
    ];
    prop_oneof![
        prop::collection::vec(any::<bool>(), NAMES.len()).prop_map(Input::Assign),
        (0..NAMES.len(), answer).prop_map(|(which, answer)| Input::Answer(which, answer)),
        Just(Input::Reachable),
        (-9000_i64..9000).prop_map(Input::Set),
        (0_u64..2000).prop_map(Input::Elapse),
    ]
}

/// What an honest driver knows: which certificates it hands out, and which requests are open.
#[derive(Default)]
struct Driver {
    renewal: Renewal,
    handed_out: BTreeMap<SpiffeId, OffsetDateTime>,
    open: BTreeSet<SpiffeId>,
    wanted: BTreeSet<SpiffeId>,
}

impl Driver {
    fn event(&mut self, event: Event, now: OffsetDateTime) {
        let (renewal, actions) = std::mem::take(&mut self.renewal).step(event, now);
        self.renewal = renewal;
        for action in actions {
            match action {
                Action::Withdraw(id) => {
                    self.handed_out.remove(&id);
                }
                Action::Request(batch) => {
                    for id in batch {
                        assert!(self.open.insert(id.clone()), "{id} asked for twice at once");
                    }
                }
            }
        }
    }

    fn input(&mut self, input: &Input, now: OffsetDateTime) {
        match input {
            Input::Assign(mask) => {
                self.wanted = NAMES
                    .iter()
                    .zip(mask)
                    .filter(|(_, on)| **on)
                    .map(|(n, _)| id(n))
                    .collect();
                // An answer to a request for something that was dropped changes nothing.
                self.open.retain(|id| self.wanted.contains(id));
                self.event(Event::Assigned(self.wanted.clone()), now);
            }
            Input::Answer(which, answer) if self.open.remove(&id(NAMES[*which])) => {
                self.answer(&id(NAMES[*which]), *answer, now);
            }
            Input::Answer(..) => {}
            Input::Reachable => self.event(Event::Reachable, now),
            Input::Set(_) => {
                self.event(Event::ClockSet, now);
                self.nothing_waits_for_the_clock_before();
            }
            Input::Elapse(_) => self.event(Event::Tick, now),
        }
    }

    fn answer(&mut self, id: &SpiffeId, answer: Answer, now: OffsetDateTime) {
        let id = id.clone();
        let event = match answer {
            Answer::Held(seconds) => {
                let life = Duration::from_secs(seconds);
                self.handed_out.insert(id.clone(), now + life);
                Event::Held {
                    id,
                    not_after: now + life,
                    renews_at: now + life / 2,
                }
            }
            Answer::Failed => Event::Failed { id, draw: 0.3 },
            Answer::Refused => Event::Refused { id, draw: 0.7 },
        };
        self.event(event, now);
    }

    #[track_caller]
    fn nothing_waits_for_the_clock_before(&self) {
        for entry in self.renewal.entries.values() {
            let Step::Waiting(until) = entry.step else {
                continue;
            };
            assert!(entry.renews_at.is_some_and(|planned| until <= planned));
        }
    }

    #[track_caller]
    fn check(&self, now: OffsetDateTime) {
        for (id, end) in &self.handed_out {
            assert!(*end > now, "{id} is handed out after its end");
            assert!(
                self.wanted.contains(id),
                "{id} is handed out though not assigned"
            );
        }
        for id in self.wanted.difference(&self.open) {
            let entry = &self.renewal.entries[id];
            let Step::Waiting(until) = entry.step else {
                panic!("{id} has neither a request nor a time");
            };
            assert!(until > now && self.renewal.wakes_at() <= Some(until));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn invariants_hold_for_any_history(inputs in prop::collection::vec(input(), 1..60)) {
        let mut driver = Driver::default();
        let mut now = START;
        for input in &inputs {
            if let Input::Elapse(seconds) = input {
                now += Duration::from_secs(*seconds);
            }
            if let Input::Set(seconds) = input {
                now += time::Duration::seconds(*seconds);
                driver.input(input, now);
            }
            // The driver ticks whenever time has passed, before it hands anything out.
            driver.event(Event::Tick, now);
            driver.input(input, now);
            driver.check(now);
        }
    }
}

#[test]
fn what_is_to_be_replaced_is_asked_for_at_once_and_not_twice() {
    let (renewal, _) = assigned(&["orders"]).step(held("orders", START), START);
    let replace = || Event::Replace(ids(&["orders", "unknown"]));
    let (renewal, actions) = renewal.step(replace(), START);
    assert_eq!(actions, [Action::Request(ids(&["orders"]))]);
    let (_, again) = renewal.step(replace(), START);
    assert_eq!(again, []);
}
