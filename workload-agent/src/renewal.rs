//! When each identity is asked for again: a machine without IO, clock or randomness.
//!
//! Invariants: an identity is never held past its `notAfter`; each one that is assigned is either
//! being asked for or has a time at which it will be; no identity is asked for twice at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use identity::SpiffeId;
use time::OffsetDateTime;

const FIRST_RETRY: Duration = Duration::from_millis(250);
const SLOWEST_RETRY: Duration = Duration::from_secs(30);
const AFTER_REFUSAL: Duration = Duration::from_secs(60);
const DOUBLINGS: u32 = 10;

/// All identities that the agent should hold, its own among them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Renewal {
    entries: BTreeMap<SpiffeId, Entry>,
}

/// What happened. `draw` is uniform in `[0, 1)`.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// These, and no others, are to be held.
    Assigned(BTreeSet<SpiffeId>),
    /// The agent's own first certificate, or one from the cache: held before anything assigned it.
    Adopted {
        id: SpiffeId,
        not_after: OffsetDateTime,
        renews_at: OffsetDateTime,
    },
    /// A certificate that was asked for has come.
    Held {
        id: SpiffeId,
        not_after: OffsetDateTime,
        renews_at: OffsetDateTime,
    },
    /// The request did not get an answer, or an answer that promises better.
    Failed {
        id: SpiffeId,
        draw: f64,
    },
    /// The CA refuses this identity to this agent.
    Refused {
        id: SpiffeId,
        draw: f64,
    },
    /// These are held, and are to be replaced at once.
    Replace(BTreeSet<SpiffeId>),
    /// The CA can be reached (again), or another replica than before.
    Reachable,
    /// The clock was set: what was planned by the one before means nothing any more.
    ClockSet,
    Tick,
}

/// What to do about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Action {
    /// Ask for these in one batch; each must be answered with `Held`, `Failed` or `Refused`.
    Request(BTreeSet<SpiffeId>),
    /// Its certificate has expired, or it is no longer this agent's: stop handing it out.
    Withdraw(SpiffeId),
}

#[derive(Clone, Debug)]
struct Entry {
    not_after: Option<OffsetDateTime>,
    /// Of the certificate that is held.
    renews_at: Option<OffsetDateTime>,
    step: Step,
    attempts: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Waiting(OffsetDateTime),
    InFlight,
}

impl Renewal {
    /// The next state, and what to do. Actions are in order: withdrawals first.
    pub(crate) fn step(mut self, event: Event, now: OffsetDateTime) -> (Self, Vec<Action>) {
        let mut actions = Vec::new();
        match event {
            Event::Assigned(ids) => actions.extend(self.assign(ids, now)),
            Event::Adopted {
                id,
                not_after,
                renews_at,
            } => {
                self.entries
                    .entry(id.clone())
                    .or_insert_with(|| Entry::due(now));
                self.hold(&id, not_after, renews_at, now);
            }
            Event::Held {
                id,
                not_after,
                renews_at,
            } => self.hold(&id, not_after, renews_at, now),
            Event::Failed { id, draw } => {
                self.retry(&id, now, |entry| entry.retry_delay(now, draw))
            }
            Event::Refused { id, draw } => {
                self.retry(&id, now, |entry| entry.refused_delay(now, draw));
            }
            Event::Replace(ids) => self.replace(&ids, now),
            Event::Reachable => self.retry_now(now),
            Event::ClockSet => {
                self.retry_now(now);
                self.plan_again();
            }
            Event::Tick => {}
        }
        actions.extend(self.expire(now));
        actions.extend(self.request_due(now));
        (self, actions)
    }

    /// When the next `Tick` is due. Absent only while every identity is being asked for.
    pub(crate) fn wakes_at(&self) -> Option<OffsetDateTime> {
        let times = self.entries.values().flat_map(|entry| {
            let waiting = match entry.step {
                Step::Waiting(until) => Some(until),
                Step::InFlight => None,
            };
            waiting.into_iter().chain(entry.not_after)
        });
        times.min()
    }

    /// Whether a certificate for `id` is still wanted: an answer may come after the assignment
    /// has gone.
    pub(crate) fn wants(&self, id: &SpiffeId) -> bool {
        self.entries.contains_key(id)
    }

    fn assign(&mut self, ids: BTreeSet<SpiffeId>, now: OffsetDateTime) -> Vec<Action> {
        let gone: Vec<SpiffeId> = self
            .entries
            .extract_if(.., |id, _| !ids.contains(id))
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            self.entries.entry(id).or_insert_with(|| Entry::due(now));
        }
        gone.into_iter().map(Action::Withdraw).collect()
    }

    fn hold(
        &mut self,
        id: &SpiffeId,
        not_after: OffsetDateTime,
        renews_at: OffsetDateTime,
        now: OffsetDateTime,
    ) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.attempts = 0;
        entry.not_after = Some(not_after);
        entry.renews_at = Some(renews_at);
        // A certificate that arrives with its renewal already due is not asked for in a loop.
        let earliest = now + FIRST_RETRY;
        entry.step = Step::Waiting(renews_at.max(earliest));
    }

    fn retry(
        &mut self,
        id: &SpiffeId,
        now: OffsetDateTime,
        delay: impl FnOnce(&Entry) -> Duration,
    ) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        entry.step = Step::Waiting(now + delay(entry));
        entry.attempts = entry.attempts.saturating_add(1);
    }

    fn replace(&mut self, ids: &BTreeSet<SpiffeId>, now: OffsetDateTime) {
        for id in ids {
            if let Some(entry) = self.entries.get_mut(id)
                && entry.step != Step::InFlight
            {
                entry.attempts = 0;
                entry.step = Step::Waiting(now);
            }
        }
    }

    fn retry_now(&mut self, now: OffsetDateTime) {
        for entry in self.entries.values_mut() {
            if entry.attempts > 0 && entry.step != Step::InFlight {
                entry.attempts = 0;
                entry.step = Step::Waiting(now);
            }
        }
    }

    /// A pause that the clock before has ended would last for as long as the clock was set back.
    fn plan_again(&mut self) {
        for entry in self.entries.values_mut() {
            if let (Step::Waiting(until), Some(renews_at)) = (entry.step, entry.renews_at) {
                entry.step = Step::Waiting(until.min(renews_at));
            }
        }
    }

    fn expire(&mut self, now: OffsetDateTime) -> Vec<Action> {
        let mut withdrawn = Vec::new();
        for (id, entry) in &mut self.entries {
            if entry.not_after.is_some_and(|end| end <= now) {
                entry.not_after = None;
                entry.renews_at = None;
                withdrawn.push(Action::Withdraw(id.clone()));
            }
        }
        withdrawn
    }

    fn request_due(&mut self, now: OffsetDateTime) -> Option<Action> {
        let mut due = BTreeSet::new();
        for (id, entry) in &mut self.entries {
            if matches!(entry.step, Step::Waiting(until) if until <= now) {
                entry.step = Step::InFlight;
                due.insert(id.clone());
            }
        }
        (!due.is_empty()).then_some(Action::Request(due))
    }
}

impl Entry {
    fn due(now: OffsetDateTime) -> Self {
        Self {
            not_after: None,
            renews_at: None,
            step: Step::Waiting(now),
            attempts: 0,
        }
    }

    /// Doubles with each attempt, and never takes more than an eighth of what is left of the
    /// certificate: several attempts fit in before it expires.
    fn retry_delay(&self, now: OffsetDateTime, draw: f64) -> Duration {
        let doubled = FIRST_RETRY * 2_u32.pow(self.attempts.min(DOUBLINGS));
        let ceiling = self.share_of_remaining(now, 8).min(SLOWEST_RETRY);
        jittered(doubled.min(ceiling).max(FIRST_RETRY), draw)
    }

    fn refused_delay(&self, now: OffsetDateTime, draw: f64) -> Duration {
        let ceiling = self.share_of_remaining(now, 4).min(AFTER_REFUSAL);
        jittered(ceiling.max(FIRST_RETRY), draw)
    }

    fn share_of_remaining(&self, now: OffsetDateTime, parts: u32) -> Duration {
        self.not_after.map_or(Duration::MAX, |end| {
            Duration::try_from(end - now).unwrap_or(Duration::ZERO) / parts
        })
    }
}

/// Between half of it and all of it.
fn jittered(delay: Duration, draw: f64) -> Duration {
    delay.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests;
