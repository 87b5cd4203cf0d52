//! How authorities of one kind follow each other: a pure machine, `(state, event, now) → (state,
//! actions)`. The root is one kind; a kind that no bundle publishes is one whose gate is always open.
//!
//! Invariants: at most one authority is active, and from the first on there always is one. None is
//! made active, and none is removed, while a live agent has not acknowledged the bundle that makes
//! it safe, unless the deadline has passed or a compromise leaves no choice; then it raises an alarm.
//! The bundle's sequence grows with its content, and with nothing else.

mod member;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use identity::Validity;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub(crate) use member::{Generation, Member, Phase, Taint, Trigger};

/// Removed authorities that are remembered.
const REMEMBERED: usize = 8;

/// All authorities of one kind, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Raw")]
pub(crate) struct Lifecycle {
    /// Of the bundle that they make; grows with its content.
    sequence: u64,
    members: Vec<Member>,
}

/// What differs between kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Between publication and activation, for those who look at the bundle now and then: three
    /// times the largest refresh hint.
    pub(crate) settle: Duration,
    /// The same where nobody is in a hurry.
    pub(crate) settle_on_schedule: Duration,
    /// Of what an authority signs, directly or not.
    pub(crate) longest_leaf: Duration,
    /// For so long somebody who has not heard of a step may go on signing what is recorded later.
    pub(crate) unheard: Duration,
    pub(crate) margin: Duration,
}

/// What the world looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The lowest sequence that a live agent has acknowledged; `None` without live agents.
    pub(crate) acknowledged: Option<u64>,
    /// Nobody can sign in the name of the published authority yet.
    pub(crate) successor_cannot_sign: bool,
    /// Authorities that others may still lead to, of which this machine has no records.
    pub(crate) kept_above: BTreeSet<Generation>,
    /// The end of the last recorded leaf that leads to an authority.
    pub(crate) leaves_until: BTreeMap<Generation, OffsetDateTime>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Time has passed, or an agent has acknowledged.
    Tick(Facts),
    /// Somebody wants a successor although none is due.
    Rotate,
    /// Somebody else may hold the key; it is trusted at most for `within` more.
    Compromised {
        generation: Generation,
        within: Duration,
    },
    /// The key that [`Action::Make`] asked for is there, and kept together with this step.
    Made {
        generation: Generation,
        validity: Validity,
        trigger: Trigger,
    },
}

/// What to do about it; the bundle follows from the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make a key, and say so by [`Event::Made`].
    Make(Generation, Trigger),
    Publish(Generation),
    /// It signs from now on.
    Activate(Generation),
    /// Agents replace at once what leads to it.
    Reissue(Generation),
    /// It is trusted no more; forget the key.
    Remove(Generation),
    /// Live agents have not acknowledged, and it was done all the same.
    AlarmForced(Generation, Phase),
}

/// Why an operator's wish is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("authority {0} is on its way already; its state is `{1}`")]
    InProgress(Generation, Phase),
    #[error("there is no authority {0}")]
    Unknown(Generation),
    #[error("authority {0} is removed already")]
    Removed(Generation),
    #[error("authority {0} is marked as compromised already")]
    Tainted(Generation),
    #[error("authority {0} was made already")]
    MadeBefore(Generation),
}

impl Lifecycle {
    /// The very first authority, which is active at once: nobody trusts any other.
    pub(crate) fn first(validity: Validity, now: OffsetDateTime) -> Self {
        let mut first = Member::new(Generation::FIRST, validity, Trigger::Schedule, now);
        first.phase = Phase::Active;
        first.published_in = 1;
        Self {
            sequence: 1,
            members: vec![first],
        }
    }

    /// Of the bundle that these authorities make.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// What signs.
    pub(crate) fn active(&self) -> &Member {
        self.in_phase(Phase::Active).expect(
            "there is always an active authority: `first` makes one, `activate` replaces it",
        )
    }

    /// Those whose certificates the bundle holds.
    pub(crate) fn bundled(&self) -> impl Iterator<Item = &Member> {
        self.members
            .iter()
            .filter(|member| member.phase.is_bundled())
    }

    /// What is to follow the active one.
    pub(crate) fn successor(&self) -> Option<&Member> {
        self.in_phase(Phase::Prepared)
            .or_else(|| self.in_phase(Phase::Published))
    }

    /// Whether anything is under way that waits for more than its schedule.
    pub(crate) fn is_settled(&self) -> bool {
        let quiet = |member: &Member| matches!(member.phase, Phase::Active | Phase::Removed);
        self.members.iter().all(quiet) && self.active().taint.is_none()
    }

    /// When a published authority is made active even if not all have acknowledged: what it
    /// replaces could not sign a leaf of full life any more.
    pub(crate) fn deadline(&self, rules: &Rules) -> OffsetDateTime {
        self.active().not_after - rules.longest_leaf - rules.margin
    }

    /// The next state, and what to do.
    ///
    /// # Errors
    /// A [`Refusal`] of what somebody wanted; a [`Event::Tick`] is never refused.
    pub(crate) fn step(
        mut self,
        event: &Event,
        now: OffsetDateTime,
        rules: &Rules,
    ) -> Result<(Self, Vec<Action>), Refusal> {
        let mut actions = Vec::new();
        match event {
            Event::Tick(facts) => self.tick(facts, now, rules, &mut actions),
            Event::Rotate => {
                if let Some(successor) = self.successor() {
                    return Err(Refusal::InProgress(successor.generation, successor.phase));
                }
                actions.push(Action::Make(self.next(), Trigger::Operator));
            }
            Event::Compromised { generation, within } => {
                self.compromised(*generation, *within, now, &mut actions)?;
            }
            Event::Made {
                generation,
                validity,
                trigger,
            } => {
                if *generation != self.next() {
                    return Err(Refusal::MadeBefore(*generation));
                }
                let made = Member::new(*generation, *validity, *trigger, now);
                self.members.push(made);
            }
        }
        self.forget_old();
        Ok((self, actions))
    }

    fn tick(
        &mut self,
        facts: &Facts,
        now: OffsetDateTime,
        rules: &Rules,
        actions: &mut Vec<Action>,
    ) {
        self.publish(now, rules, actions);
        self.activate(facts, now, rules, actions);
        self.reissue(facts, now, actions);
        self.remove(facts, now, rules, actions);
        let active = self.active();
        if self.successor().is_none() && (active.taint.is_some() || active.is_due(now)) {
            let trigger = match active.taint {
                Some(_) => Trigger::Compromise,
                None => Trigger::Schedule,
            };
            actions.push(Action::Make(self.next(), trigger));
        }
    }

    fn publish(&mut self, now: OffsetDateTime, rules: &Rules, actions: &mut Vec<Action>) {
        let sequence = self.sequence + 1;
        let Some(member) = self.find(|member| member.phase == Phase::Prepared) else {
            return;
        };
        let settle = match member.trigger {
            Trigger::Schedule => rules.settle_on_schedule,
            Trigger::Operator | Trigger::Compromise => rules.settle,
        };
        member.enter(Phase::Published, now);
        member.published_in = sequence;
        member.activates_from = Some(now + settle);
        actions.push(Action::Publish(member.generation));
        self.sequence = sequence;
    }

    fn activate(
        &mut self,
        facts: &Facts,
        now: OffsetDateTime,
        rules: &Rules,
        actions: &mut Vec<Action>,
    ) {
        let Some(successor) = self.in_phase(Phase::Published) else {
            return;
        };
        if facts.successor_cannot_sign {
            return;
        }
        let acknowledged = facts.have_acknowledged(successor.published_in);
        let settled = successor.activates_from.is_none_or(|from| now >= from);
        let late = now >= self.deadline(rules);
        // Whoever does not know the successor yet could not find back to the CA.
        let hurried = self
            .active()
            .taint
            .is_some_and(|taint| acknowledged || now >= taint.after(1, 4));
        let forced = late || hurried;
        if !(forced || acknowledged && settled) {
            return;
        }
        let generation = successor.generation;
        if !acknowledged && late {
            actions.push(Action::AlarmForced(generation, Phase::Active));
        }
        if let Some(old) = self.find(|member| member.phase == Phase::Active) {
            old.enter(Phase::Draining, now);
        }
        if let Some(new) = self.find(|member| member.generation == generation) {
            new.enter(Phase::Active, now);
        }
        actions.push(Action::Activate(generation));
    }

    /// Everybody trusts the successor, or half of the time is over: what leads to the compromised
    /// authority is replaced.
    fn reissue(&mut self, facts: &Facts, now: OffsetDateTime, actions: &mut Vec<Action>) {
        let trusted = facts.have_acknowledged(self.active().published_in);
        let mut sequence = self.sequence;
        for member in &mut self.members {
            let Some(taint) = member.taint.as_mut() else {
                continue;
            };
            let waits = member.phase == Phase::Draining && taint.reissued_in.is_none();
            if waits && (trusted || now >= taint.after(1, 2)) {
                sequence += 1;
                taint.reissued_in = Some(sequence);
                actions.push(Action::Reissue(member.generation));
            }
        }
        self.sequence = sequence;
    }

    /// A leaf is recorded before it is used, but a replica may learn late that it signs with the
    /// successor: what drains does so for the life of a leaf at least, beyond when each has heard of it.
    fn remove(
        &mut self,
        facts: &Facts,
        now: OffsetDateTime,
        rules: &Rules,
        actions: &mut Vec<Action>,
    ) {
        let successor_in = self.active().published_in;
        let mut sequence = self.sequence;
        let draining = self.members.iter_mut();
        for member in draining.filter(|member| member.phase == Phase::Draining) {
            let (safe, late) = match member.taint {
                None => {
                    let leaves = facts.leaves_until.get(&member.generation);
                    let drained = member.since + rules.unheard + rules.longest_leaf + rules.margin;
                    let unused = now >= drained && leaves.is_none_or(|until| *until <= now);
                    let unused = unused && !facts.kept_above.contains(&member.generation);
                    let trusted = facts.have_acknowledged(successor_in);
                    (unused && trusted, now >= member.not_after)
                }
                Some(taint) => {
                    let replaced = taint
                        .reissued_in
                        .is_some_and(|it| facts.have_acknowledged(it));
                    (replaced, now >= taint.until || now >= member.not_after)
                }
            };
            if !(safe || late) {
                continue;
            }
            if !safe {
                actions.push(Action::AlarmForced(member.generation, Phase::Removed));
            }
            sequence += 1;
            member.enter(Phase::Removed, now);
            actions.push(Action::Remove(member.generation));
        }
        self.sequence = sequence;
    }

    fn compromised(
        &mut self,
        generation: Generation,
        within: Duration,
        now: OffsetDateTime,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let sequence = self.sequence + 1;
        let member = self
            .find(|member| member.generation == generation)
            .ok_or(Refusal::Unknown(generation))?;
        if member.phase == Phase::Removed {
            return Err(Refusal::Removed(generation));
        }
        if member.taint.is_some() {
            return Err(Refusal::Tainted(generation));
        }
        member.taint = Some(Taint::new(now, within));
        // Nothing was ever signed by a successor.
        if matches!(member.phase, Phase::Prepared | Phase::Published) {
            let was_bundled = member.phase.is_bundled();
            member.enter(Phase::Removed, now);
            actions.push(Action::Remove(generation));
            if was_bundled {
                self.sequence = sequence;
            }
        }
        Ok(())
    }

    fn next(&self) -> Generation {
        let last = self.members.iter().map(|member| member.generation).max();
        last.map_or(Generation::FIRST, Generation::following)
    }

    fn in_phase(&self, phase: Phase) -> Option<&Member> {
        self.members.iter().find(|member| member.phase == phase)
    }

    fn find(&mut self, is_it: impl Fn(&Member) -> bool) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| is_it(member))
    }

    fn forget_old(&mut self) {
        let removed = self.members.iter();
        let removed = removed.filter(|it| it.phase == Phase::Removed).count();
        let mut surplus = removed.saturating_sub(REMEMBERED);
        self.members.retain(|member| {
            let forget = surplus > 0 && member.phase == Phase::Removed;
            surplus -= usize::from(forget);
            !forget
        });
    }
}

impl Facts {
    fn have_acknowledged(&self, sequence: u64) -> bool {
        self.acknowledged.is_none_or(|lowest| lowest >= sequence)
    }
}

/// As it was stored, and perhaps changed by hand.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    sequence: u64,
    members: Vec<Member>,
}

/// What no sequence of steps leads to.
#[derive(Debug, thiserror::Error)]
enum Impossible {
    #[error("{0} authorities are active, not one")]
    Active(usize),
    #[error("the generations do not grow")]
    Order,
}

impl TryFrom<Raw> for Lifecycle {
    type Error = Impossible;

    fn try_from(raw: Raw) -> Result<Self, Impossible> {
        let active = raw.members.iter();
        let active = active.filter(|it| it.phase == Phase::Active).count();
        if active != 1 {
            return Err(Impossible::Active(active));
        }
        if !raw.members.is_sorted_by(|a, b| a.generation < b.generation) {
            return Err(Impossible::Order);
        }
        Ok(Self {
            sequence: raw.sequence,
            members: raw.members,
        })
    }
}

#[cfg(test)]
mod tests;
