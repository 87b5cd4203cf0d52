//! Which endpoint an attempt goes to: the caller's view of one port of a Service.
//!
//! Invariant: the breaker never takes out more endpoints than `maxEjected` permits; when more are
//! missing for whatever cause, all are used (panic), for then it is the judgement that is not
//! trusted. One call does not get the same endpoint twice while others are left. What is known
//! of an endpoint outlives a change of the list.

use std::sync::Arc;
use std::time::Duration;

use crypto::random::Random;
use tokio::time::Instant;

use self::choice::Choice;
use self::view::View;
use super::breaker::{Access, Breaker, Verdict};
use super::load::Load;
use super::outcome::Health;
use super::settings::{Balance, Breaker as BreakerSettings};
use crate::balance::{Endpoint, Zone};

mod choice;
mod view;

pub(crate) use self::choice::hash_of;

/// One worker's view of the endpoints of one port.
#[derive(Debug)]
pub(crate) struct Balancer {
    settings: Settings,
    members: Vec<Member>,
    view: View,
    turn: usize,
    next_id: u64,
}

/// How to choose, and whom to leave alone.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    pub balance: Balance,
    pub breaker: BreakerSettings,
    /// Endpoints in it come first. Without one, all are alike.
    pub own_zone: Option<Zone>,
}

#[derive(Debug)]
struct Member {
    id: MemberId,
    endpoint: Arc<Endpoint>,
    zone: Option<Zone>,
    /// For consistent hashing; follows from the endpoint alone.
    hash: u64,
    load: Load,
    breaker: Breaker,
    /// By active health.
    healthy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MemberId(u64);

/// An endpoint chosen for one attempt. Give it back to [`Balancer::finish`].
#[derive(Debug)]
pub(crate) struct Pick {
    pub endpoint: Arc<Endpoint>,
    /// This attempt decides whether the endpoint is used again.
    pub probe: bool,
    id: MemberId,
    index: usize,
    began: Instant,
}

/// A call in flight at an endpoint. Give it back to [`Balancer::leave`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    id: MemberId,
    index: usize,
}

/// The endpoints that one call has tried.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    ids: Vec<MemberId>,
}

/// Endpoints of a port, as one balancer sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Neither ejected nor unhealthy.
    pub available: usize,
    pub ejected: usize,
    pub unhealthy: usize,
}

/// Nobody can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPick {
    NoEndpoints,
    /// All are ejected, and may be. From that moment one call may try.
    BreakerOpen(Option<Instant>),
}

impl Balancer {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            members: Vec::new(),
            view: View::default(),
            turn: 0,
            next_id: 0,
        }
    }

    /// Other settings. What is known of the endpoints stays.
    pub(crate) fn configure(&mut self, settings: Settings) {
        if self.settings != settings {
            self.settings = settings;
            self.view.invalidate();
        }
    }

    /// Another list of endpoints; each at most once.
    pub(crate) fn update(
        &mut self,
        endpoints: impl IntoIterator<Item = (Endpoint, Option<Zone>)>,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.members);
        for (endpoint, zone) in endpoints {
            let known = before.iter().position(|it| *it.endpoint == endpoint);
            let mut member = match known {
                Some(index) => before.swap_remove(index),
                None => self.member(endpoint, now),
            };
            member.zone = zone;
            self.members.push(member);
        }
        self.view.invalidate();
    }

    /// What active health says of an endpoint. One that is back starts slowly.
    pub(crate) fn set_health(&mut self, endpoint: &Endpoint, healthy: bool, now: Instant) {
        let member = self.members.iter_mut().find(|it| *it.endpoint == *endpoint);
        if let Some(member) = member.filter(|it| it.healthy != healthy) {
            member.healthy = healthy;
            if healthy {
                member.breaker.begin_slowly(now);
            }
            self.view.invalidate();
        }
    }

    /// Chooses for the next attempt of a call. `hash` is that of the call, for
    /// [`Balance::Hash`]; a call without one goes anywhere.
    ///
    /// # Errors
    /// If nobody can be called.
    pub(crate) fn pick(
        &mut self,
        tried: &Tried,
        hash: Option<u64>,
        now: Instant,
        random: &mut dyn Random,
    ) -> Result<Pick, NoPick> {
        if self.members.is_empty() {
            return Err(NoPick::NoEndpoints);
        }
        self.view.refresh(&self.members, &self.settings, now);
        if let Some(probe) = self.probe(tried, now) {
            return Ok(probe);
        }
        let mut choice = Choice {
            members: &self.members,
            settings: &self.settings,
            tried,
            turn: &mut self.turn,
            hash,
            now,
        };
        let tiers = self.view.tiers(random);
        let mut among = |tried| {
            choice.tried = tried;
            tiers
                .into_iter()
                .find_map(|tier| choice.among(tier, random))
        };
        // Who has tried all others may try one again.
        let index = match among(tried) {
            Some(index) => Some(index),
            None => among(&Tried::NOBODY),
        };
        let index = index.ok_or_else(|| NoPick::BreakerOpen(self.view.next_probe()))?;
        Ok(self.begin(index, false, now))
    }

    /// An attempt ended without an answer that is still to come.
    pub(crate) fn finish(&mut self, pick: Pick, health: Health, took: Duration, now: Instant) {
        let seat = self.answered(pick, Some(health), took, now);
        self.leave(seat);
    }

    /// The head of an answer came, after `took`; `None` if only its end tells what it is worth.
    /// Until it [leaves](Self::leave), the call is in flight.
    #[expect(clippy::needless_pass_by_value, reason = "a pick is answered once")]
    pub(crate) fn answered(
        &mut self,
        pick: Pick,
        health: Option<Health>,
        took: Duration,
        now: Instant,
    ) -> Seat {
        let seat = Seat {
            id: pick.id,
            index: pick.index,
        };
        if let Some(index) = self.index(seat) {
            // An end may be long in coming: a probe that got so far is a good one.
            let head = health.unwrap_or(Health::Good);
            self.observe(index, head, took, now);
            if pick.probe {
                let breaker = &self.settings.breaker;
                let breaks = &mut self.members[index].breaker;
                breaks.end_probe(success(head), breaker, now);
                self.view.invalidate();
            } else if let Some(health) = health {
                self.judge(index, health, now);
            }
        }
        seat
    }

    /// What only the end of an answer told.
    pub(crate) fn judge_late(&mut self, seat: Seat, health: Health, now: Instant) {
        if let Some(index) = self.index(seat) {
            // The time to its head was observed when that came.
            if health != Health::Good {
                self.observe(index, health, Duration::ZERO, now);
            }
            self.judge(index, health, now);
        }
    }

    /// The last byte of an answer came, or it was given up.
    pub(crate) fn leave(&mut self, seat: Seat) {
        if let Some(index) = self.index(seat) {
            self.members[index].load.leave();
        }
    }

    fn index(&self, seat: Seat) -> Option<usize> {
        let is = |member: &Member| member.id == seat.id;
        match self.members.get(seat.index) {
            Some(member) if is(member) => Some(seat.index),
            _ => self.members.iter().position(is),
        }
    }

    fn observe(&mut self, index: usize, health: Health, took: Duration, now: Instant) {
        let load = &mut self.members[index].load;
        match health {
            Health::Good => load.answered(took, now),
            Health::Bad => load.failed(took, None, now),
            Health::Busy(wish) => load.failed(took, wish, now),
            Health::Unknown => {}
        }
    }

    fn judge(&mut self, index: usize, health: Health, now: Instant) {
        let breaker = &self.settings.breaker;
        if let Some(success) = success(health)
            && self.members[index].breaker.record(success, breaker, now) == Verdict::Eject
            && self.view.may_lose_one(&self.members, breaker)
        {
            self.members[index].breaker.eject(breaker, now);
            self.view.invalidate();
        }
    }

    /// Whether there is an endpoint that the call has not tried.
    pub(crate) fn has_untried(&self, tried: &Tried) -> bool {
        self.members.iter().any(|member| !tried.has(member))
    }

    /// How many are in use and left alone at present.
    pub(crate) fn counts(&self) -> Counts {
        let count = |what: fn(&Member) -> bool| self.members.iter().filter(|it| what(it)).count();
        Counts {
            available: count(|it| !it.is_missing()),
            ejected: count(|it| it.breaker.is_ejected()),
            unhealthy: count(|it| !it.healthy),
        }
    }

    /// The first attempt of a call may be the one that tries an ejected endpoint again.
    fn probe(&mut self, tried: &Tried, now: Instant) -> Option<Pick> {
        if !tried.ids.is_empty() {
            return None;
        }
        let index = self.view.take_probe()?;
        let member = self.members.get_mut(index)?;
        let begun = member.breaker.begin_probe(now);
        begun.then(|| self.begin(index, true, now))
    }

    fn begin(&mut self, index: usize, probe: bool, now: Instant) -> Pick {
        let member = &mut self.members[index];
        member.load.begin();
        Pick {
            endpoint: Arc::clone(&member.endpoint),
            probe,
            id: member.id,
            index,
            began: now,
        }
    }

    fn member(&mut self, endpoint: Endpoint, now: Instant) -> Member {
        self.next_id += 1;
        Member {
            id: MemberId(self.next_id),
            hash: hash_of(endpoint.to_string().as_bytes()),
            endpoint: Arc::new(endpoint),
            zone: None,
            load: Load::new(now),
            breaker: Breaker::new(),
            healthy: true,
        }
    }
}

impl Member {
    fn is_missing(&self) -> bool {
        !self.healthy || self.breaker.is_ejected()
    }

    /// The share of calls that it bears, compared with others.
    fn share(&self, settings: &BreakerSettings, now: Instant) -> f64 {
        match self.breaker.access(settings, now) {
            Access::Open(share) => share,
            // Only in a panic is such a one asked for.
            Access::Probe | Access::Nothing => 1.0,
        }
    }
}

impl Pick {
    /// When the attempt began.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }
}

impl Tried {
    const NOBODY: Self = Self { ids: Vec::new() };

    pub(crate) fn add(&mut self, pick: &Pick) {
        self.ids.push(pick.id);
    }

    /// How many it has tried.
    pub(crate) fn count(&self) -> usize {
        self.ids.len()
    }

    fn has(&self, member: &Member) -> bool {
        self.ids.contains(&member.id)
    }
}

/// What the breaker counts it as, if it does.
fn success(health: Health) -> Option<bool> {
    match health {
        Health::Good => Some(true),
        Health::Bad => Some(false),
        Health::Busy(_) | Health::Unknown => None,
    }
}

#[cfg(test)]
mod tests;
