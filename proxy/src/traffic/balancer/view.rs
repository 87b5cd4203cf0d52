//! Who can be chosen at present: a cache that holds until something changes, or until the next
//! ejected endpoint may be tried again.

use crypto::random::Random;
use tokio::time::Instant;

use super::{Member, Settings};
use crate::traffic::breaker::Access;
use crate::traffic::settings::Breaker;

/// As long as this share of the own zone's endpoints is there, calls stay in the zone; below it,
/// a growing part of them leaves.
const ENOUGH_NEAR: f64 = 0.7;

#[derive(Debug, Default)]
pub(super) struct View {
    fresh: bool,
    /// In the own zone, or all of them if there is no zone or a panic.
    near: Vec<usize>,
    far: Vec<usize>,
    /// The share of calls that stays near.
    stay: f64,
    /// Ejected ones whose time is over.
    due: Vec<usize>,
    next_probe: Option<Instant>,
}

impl View {
    pub(super) fn invalidate(&mut self) {
        self.fresh = false;
    }

    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.next_probe
    }

    pub(super) fn take_probe(&mut self) -> Option<usize> {
        let index = self.due.pop();
        if index.is_some() {
            self.fresh = false;
        }
        index
    }

    /// The lists to choose from, one after the other.
    pub(super) fn tiers(&self, random: &mut dyn Random) -> [&[usize]; 2] {
        let stays = self.stay >= 1.0 || random.unit() < self.stay;
        if stays {
            [&self.near, &self.far]
        } else {
            [&self.far, &self.near]
        }
    }

    pub(super) fn refresh(&mut self, members: &[Member], settings: &Settings, now: Instant) {
        if self.fresh && self.next_probe.is_none_or(|at| now < at) {
            return;
        }
        self.near.clear();
        self.far.clear();
        self.due.clear();
        let breaker = &settings.breaker;
        let missing = members.iter().filter(|it| it.is_missing()).count();
        let panic = missing > most_missing(members, breaker);
        let mut near_total = 0;
        for (index, member) in members.iter().enumerate() {
            if member.healthy && member.breaker.access(breaker, now) == Access::Probe {
                self.due.push(index);
            }
            let near = panic || settings.own_zone.is_none() || member.zone == settings.own_zone;
            near_total += usize::from(near);
            let list = if near { &mut self.near } else { &mut self.far };
            if panic || !member.is_missing() {
                list.push(index);
            }
        }
        self.stay = match near_total {
            0 => 0.0,
            total => self.near.len() as f64 / total as f64 / ENOUGH_NEAR,
        };
        let later = members.iter().filter_map(|it| it.breaker.probe_at());
        self.next_probe = later.filter(|at| *at > now).min();
        self.fresh = true;
    }

    /// Whether one more may go missing.
    pub(super) fn may_lose_one(&self, members: &[Member], breaker: &Breaker) -> bool {
        let missing = members.iter().filter(|it| it.is_missing()).count();
        missing < most_missing(members, breaker)
    }
}

/// Rounded down: of one endpoint none may be missing, unless all may.
fn most_missing(members: &[Member], breaker: &Breaker) -> usize {
    let share = breaker.max_ejected.clamp(0.0, 1.0);
    // What is a whole number but for the rounding of the share is meant to be one.
    (members.len() as f64 * share + 1e-9) as usize
}
