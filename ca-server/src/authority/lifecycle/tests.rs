//! Claims on the machine, and its invariants over random histories.

use proptest::prelude::*;
use time::macros::datetime;

use super::*;

const START: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);
const LIFE: Duration = Duration::from_secs(100_000);
const RULES: Rules = Rules {
    settle: Duration::from_secs(900),
    settle_on_schedule: Duration::from_secs(9_000),
    longest_leaf: Duration::from_secs(3_600),
    unheard: Duration::from_secs(1_800),
    margin: Duration::from_secs(60),
};
const FIRST: Generation = Generation::FIRST;

fn second() -> Generation {
    FIRST.following()
}

fn validity(from: OffsetDateTime) -> Validity {
    Validity::try_new(from, from + LIFE).unwrap()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn acknowledged(sequence: u64) -> Facts {
    Facts {
        acknowledged: Some(sequence),
        ..Facts::default()
    }
}

/// One history: a state, and the time.
struct History {
    state: Lifecycle,
    now: OffsetDateTime,
}

impl History {
    fn new() -> Self {
        Self {
            state: Lifecycle::first(validity(START), START),
            now: START,
        }
    }

    /// Makes at once what is asked for.
    fn step(&mut self, event: &Event) -> Result<Vec<Action>, Refusal> {
        let (mut state, actions) = self.state.clone().step(event, self.now, &RULES)?;
        for action in &actions {
            if let Action::Make(generation, trigger) = *action {
                let made = Event::Made {
                    generation,
                    validity: validity(self.now),
                    trigger,
                };
                state = state.step(&made, self.now, &RULES)?.0;
            }
        }
        self.state = state;
        Ok(actions)
    }

    fn tick(&mut self, facts: Facts) -> Vec<Action> {
        self.step(&Event::Tick(facts)).unwrap()
    }

    fn after(&mut self, span: Duration) -> &mut Self {
        self.now += span;
        self
    }

    fn rotating() -> Self {
        let mut history = Self::new();
        history.step(&Event::Rotate).unwrap();
        assert_eq!(history.tick(acknowledged(1)), [Action::Publish(second())]);
        history
    }

    fn drained() -> Self {
        let mut history = Self::rotating();
        history.after(RULES.settle).tick(acknowledged(2));
        history
    }

    fn phases(&self) -> Vec<Phase> {
        self.state.members.iter().map(|it| it.phase).collect()
    }
}

#[test]
fn a_second_rotation_is_refused_while_one_is_under_way() {
    let mut history = History::rotating();
    assert_eq!(
        history.step(&Event::Rotate),
        Err(Refusal::InProgress(second(), Phase::Published))
    );
}

#[test]
fn a_published_authority_waits_for_who_has_not_acknowledged() {
    let mut history = History::rotating();
    assert_eq!(history.after(RULES.settle).tick(acknowledged(1)), []);
    assert_eq!(history.tick(acknowledged(2)), [Action::Activate(second())]);
    assert_eq!(history.phases(), [Phase::Draining, Phase::Active]);
}

#[test]
fn a_published_authority_waits_for_those_who_only_look_now_and_then() {
    let mut history = History::rotating();
    assert_eq!(
        history
            .after(RULES.settle - seconds(1))
            .tick(acknowledged(2)),
        []
    );
    assert_eq!(
        history.after(seconds(1)).tick(acknowledged(2)),
        [Action::Activate(second())]
    );
}

#[test]
fn at_the_deadline_activation_is_forced_with_an_alarm() {
    let mut history = History::rotating();
    history.now = history.state.deadline(&RULES);
    let actions = history.tick(acknowledged(1));
    assert_eq!(
        actions[..2],
        [
            Action::AlarmForced(second(), Phase::Active),
            Action::Activate(second())
        ]
    );
}

#[test]
fn nothing_is_activated_in_whose_name_nobody_can_sign() {
    let mut history = History::rotating();
    history.now = history.state.deadline(&RULES);
    let unsigned = Facts {
        successor_cannot_sign: true,
        ..acknowledged(2)
    };
    assert_eq!(history.tick(unsigned), []);
    assert_eq!(history.tick(acknowledged(2))[0], Action::Activate(second()));
}

#[test]
fn what_others_may_lead_to_drains_until_its_end_at_most() {
    let mut history = History::drained();
    let kept = || Facts {
        kept_above: BTreeSet::from([FIRST]),
        ..acknowledged(2)
    };
    let drained = RULES.unheard + RULES.longest_leaf + RULES.margin;
    assert_eq!(history.after(drained).tick(kept()), []);
    history.now = START + LIFE;
    let alarm = Action::AlarmForced(FIRST, Phase::Removed);
    assert!(history.tick(kept()).contains(&alarm));
}

#[test]
fn a_draining_authority_stays_while_a_leaf_leads_to_it() {
    let mut history = History::drained();
    let drained = RULES.unheard + RULES.longest_leaf + RULES.margin;
    assert_eq!(
        history.after(drained - seconds(1)).tick(acknowledged(2)),
        []
    );
    let mut facts = acknowledged(2);
    facts.leaves_until.insert(FIRST, history.now + seconds(100));
    assert_eq!(history.after(seconds(99)).tick(facts.clone()), []);
    assert_eq!(
        history.after(seconds(1)).tick(facts),
        [Action::Remove(FIRST)]
    );
    assert!(history.state.is_settled());
}

#[test]
fn who_is_not_due_gets_no_successor_and_who_is_gets_one() {
    let mut history = History::new();
    assert_eq!(history.after(LIFE / 2).tick(acknowledged(1)), []);
    assert_eq!(
        history.after(LIFE / 4).tick(acknowledged(1)),
        [Action::Make(second(), Trigger::Schedule)]
    );
}

#[test]
fn a_late_made_key_is_refused() {
    let mut history = History::rotating();
    let late = Event::Made {
        generation: second(),
        validity: validity(START),
        trigger: Trigger::Operator,
    };
    assert_eq!(history.step(&late), Err(Refusal::MadeBefore(second())));
}

fn compromise(generation: Generation) -> Event {
    Event::Compromised {
        generation,
        within: seconds(300),
    }
}

#[test]
fn a_compromised_authority_is_replaced_at_once_and_removed_when_all_have_replaced() {
    let mut history = History::new();
    history.step(&compromise(FIRST)).unwrap();
    assert_eq!(
        history.tick(acknowledged(1)),
        [Action::Make(second(), Trigger::Compromise)]
    );
    assert_eq!(history.tick(acknowledged(1)), [Action::Publish(second())]);
    assert_eq!(
        history.tick(acknowledged(2)),
        [Action::Activate(second()), Action::Reissue(FIRST)]
    );
    assert_eq!(history.tick(acknowledged(2)), []);
    assert_eq!(history.tick(acknowledged(3)), [Action::Remove(FIRST)]);
}

#[test]
fn a_compromised_authority_is_removed_in_time_whoever_is_silent() {
    let mut history = History::new();
    history.step(&compromise(FIRST)).unwrap();
    history.tick(acknowledged(1));
    history.tick(acknowledged(1));
    assert_eq!(history.after(seconds(74)).tick(acknowledged(1)), []);
    assert_eq!(
        history.after(seconds(1)).tick(acknowledged(1)),
        [Action::Activate(second())]
    );
    assert_eq!(
        history.after(seconds(75)).tick(acknowledged(1)),
        [Action::Reissue(FIRST)]
    );
    assert_eq!(
        history.after(seconds(150)).tick(acknowledged(1)),
        [
            Action::AlarmForced(FIRST, Phase::Removed),
            Action::Remove(FIRST)
        ]
    );
}

#[test]
fn a_compromised_successor_never_signs() {
    let mut history = History::rotating();
    let before = history.state.sequence();
    assert_eq!(
        history.step(&compromise(second())),
        Ok(vec![Action::Remove(second())])
    );
    assert_eq!(history.phases(), [Phase::Active, Phase::Removed]);
    assert_eq!(history.state.sequence(), before + 1);
}

#[test]
fn an_authority_is_compromised_once() {
    let mut history = History::new();
    history.step(&compromise(FIRST)).unwrap();
    assert_eq!(
        history.step(&compromise(FIRST)),
        Err(Refusal::Tainted(FIRST))
    );
}

#[test]
fn a_state_with_two_active_authorities_is_not_read() {
    let mut state = History::drained().state;
    state.members[0].phase = Phase::Active;
    let text = serde_json::to_string(&state).unwrap();
    assert!(serde_json::from_str::<Lifecycle>(&text).is_err());
}

/// What a random world does next.
#[derive(Clone, Debug)]
enum Move {
    Tick {
        span: u64,
        acknowledged: u64,
        leaves: u64,
    },
    Rotate,
    Compromise {
        which: prop::sample::Index,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let tick = (0..20_000_u64, 0..12_u64, 0..8_000_u64).prop_map(|(span, acknowledged, leaves)| {
        Move::Tick {
            span,
            acknowledged,
            leaves,
        }
    });
    let compromise = any::<prop::sample::Index>().prop_map(|which| Move::Compromise { which });
    prop::collection::vec(
        prop_oneof![8 => tick, 2 => Just(Move::Rotate), 1 => compromise],
        1..60,
    )
}

impl History {
    fn play(&mut self, next: &Move) {
        let before = self.state.clone();
        let event = match next {
            Move::Tick {
                span,
                acknowledged: lowest,
                leaves,
            } => {
                self.now += seconds(*span);
                let mut facts = acknowledged((*lowest).min(before.sequence()));
                for member in before.bundled().filter(|it| it.phase != Phase::Published) {
                    let until = member.since + seconds(*leaves);
                    facts.leaves_until.insert(member.generation, until);
                }
                Event::Tick(facts)
            }
            Move::Rotate => Event::Rotate,
            Move::Compromise { which } => compromise(which.get(before.members()).generation),
        };
        if self.step(&event).is_err() {
            assert_eq!(self.state, before);
            return;
        }
        self.check_forward(&before, &event);
    }

    #[track_caller]
    fn check_forward(&self, before: &Lifecycle, event: &Event) {
        let contents = |state: &Lifecycle| -> Vec<_> {
            let bundled = state.bundled();
            bundled
                .map(|it| (it.generation, it.is_reissued()))
                .collect()
        };
        assert_eq!(
            contents(before) != contents(&self.state),
            self.state.sequence() > before.sequence()
        );
        let text = serde_json::to_string(&self.state).unwrap();
        assert_eq!(
            serde_json::from_str::<Lifecycle>(&text).unwrap(),
            self.state
        );
        for old in before.members() {
            let new = self.state.members.iter();
            let Some(new) = new.clone().find(|it| it.generation == old.generation) else {
                assert_eq!(old.phase, Phase::Removed);
                continue;
            };
            assert!(new.phase >= old.phase, "{old:?} went back to {new:?}");
            let Event::Tick(facts) = event else { continue };
            if old.phase == Phase::Published && new.phase == Phase::Active {
                let forced = before.active().taint.is_some() || self.now >= before.deadline(&RULES);
                assert!(forced || facts.have_acknowledged(old.published_in));
            }
            if old.phase == Phase::Draining && new.phase == Phase::Removed {
                let over = old.taint.is_some_and(|taint| self.now >= taint.until);
                let replaced = old.taint.and_then(|taint| taint.reissued_in);
                let wanted = replaced.unwrap_or_else(|| self.state.active().published_in);
                let forced = over || self.now >= old.not_after;
                assert!(forced || facts.have_acknowledged(wanted));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_history_breaks_an_invariant_and_each_authority_reaches_its_end(moves in moves()) {
        let mut history = History::new();
        for next in &moves {
            history.play(next);
        }
        let last = history.state.next();
        // Nobody ever acknowledges again, and every leaf lives as long as it can.
        for _ in 0..200 {
            history.play(&Move::Tick { span: 5_000, acknowledged: 0, leaves: 3_600 });
        }
        let ended = |member: &Member| member.generation >= last || member.phase == Phase::Removed;
        prop_assert!(history.state.members.iter().all(ended), "{:?}", history.state);
    }
}
