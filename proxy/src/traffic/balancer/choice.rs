//! The algorithms: one endpoint out of a list, other than those that the call has tried.

use crypto::random::Random;
use tokio::time::Instant;

use super::{Member, Settings, Tried};
use crate::traffic::chance::below;
use crate::traffic::settings::Balance;

/// Draws for an endpoint that starts slowly before any is taken.
const MOST_DRAWS: usize = 8;

/// One choice among the members of a balancer.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    pub members: &'a [Member],
    pub settings: &'a Settings,
    pub tried: &'a Tried,
    pub turn: &'a mut usize,
    pub hash: Option<u64>,
    pub now: Instant,
}

impl Choice<'_> {
    /// None if the call has tried all of them.
    pub(super) fn among(&mut self, list: &[usize], random: &mut dyn Random) -> Option<usize> {
        let now = self.now;
        match (&self.settings.balance, self.hash) {
            (Balance::Ewma, _) => self.of_two(list, random, |it| it.load.cost(now)),
            (Balance::LeastRequest, _) => {
                self.of_two(list, random, |it| f64::from(it.load.in_flight()))
            }
            (Balance::RoundRobin, _) => self.in_turn(list, random),
            (Balance::Hash(_), Some(hash)) => self.by_hash(list, hash),
            (Balance::Random | Balance::Hash(_), _) => self.at_random(list, random),
        }
    }

    /// The power of two choices: of two drawn, the cheaper.
    fn of_two(
        &self,
        list: &[usize],
        random: &mut dyn Random,
        cost: impl Fn(&Member) -> f64,
    ) -> Option<usize> {
        let one = self.untried(list, below(list.len(), random), None)?;
        let Some(other) = self.untried(list, below(list.len(), random), Some(one)) else {
            return Some(one);
        };
        let (bears_one, bears_other) = (self.bears(one, random), self.bears(other, random));
        let cheaper = cost(&self.members[one]) <= cost(&self.members[other]);
        let first = if bears_one == bears_other {
            cheaper
        } else {
            bears_one
        };
        Some(if first { one } else { other })
    }

    fn in_turn(&mut self, list: &[usize], random: &mut dyn Random) -> Option<usize> {
        let mut found = None;
        for _ in 0..list.len() {
            let start = *self.turn % list.len();
            *self.turn = self.turn.wrapping_add(1);
            found = self.untried(list, start, None);
            if found.is_some_and(|index| self.bears(index, random)) {
                break;
            }
        }
        found
    }

    fn at_random(&self, list: &[usize], random: &mut dyn Random) -> Option<usize> {
        let mut found = None;
        for _ in 0..MOST_DRAWS {
            found = self.untried(list, below(list.len(), random), None);
            if found.is_none_or(|index| self.bears(index, random)) {
                break;
            }
        }
        found
    }

    /// Weighted rendezvous hashing: each endpoint draws a lot for the key, and the best lot wins.
    /// A key moves only if its endpoint goes, or if a new one's lot is better.
    fn by_hash(&self, list: &[usize], hash: u64) -> Option<usize> {
        let lot = |index: &usize| {
            let member = &self.members[*index];
            let drawn = (mixed(member.hash ^ hash) >> 11) as f64 / (1u64 << 53) as f64;
            let share = member.share(&self.settings.breaker, self.now);
            // An exponential lot: the best of several falls to each in proportion to its share.
            -(1.0 - drawn).ln() / share
        };
        let untried = list
            .iter()
            .filter(|it| !self.tried.has(&self.members[**it]));
        let best = untried.min_by(|one, other| lot(one).total_cmp(&lot(other)));
        best.copied()
    }

    /// The first from `start` on that the call has not tried and that is not `other`.
    fn untried(&self, list: &[usize], start: usize, other: Option<usize>) -> Option<usize> {
        let (before, from) = list.split_at_checked(start)?;
        let mut in_order = from.iter().chain(before).copied();
        in_order.find(|index| Some(*index) != other && !self.tried.has(&self.members[*index]))
    }

    /// Whether an endpoint that starts slowly takes this call.
    fn bears(&self, index: usize, random: &mut dyn Random) -> bool {
        let share = self.members[index].share(&self.settings.breaker, self.now);
        share >= 1.0 || random.unit() < share
    }
}

/// A hash that all proxies agree on (FNV-1a, then mixed). It is no secret: who chooses the key
/// chooses the endpoint.
pub(crate) fn hash_of(key: &[u8]) -> u64 {
    let fnv = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mixed(fnv)
}

/// The finalizer of SplitMix64: every bit of the input reaches every bit of the output.
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
