//! Which replica to leave because it signs nothing, for which other one, and when to come back: a
//! machine without IO, clock or randomness.
//!
//! The agent decides, not the replica: only the agent knows whether it has anywhere else to go, and
//! one that has not must keep its stream, on which revocations still come. Invariants: a replica that
//! was left is not gone back to before its pause has ended; pauses grow while it goes on refusing, and
//! are drawn, so that agents neither leave nor return all at once: they leave as their renewals, which
//! are spread already, are refused.

use std::collections::BTreeMap;
use std::time::Duration;

use identity::join_token::CaAddress;
use tokio::time::Instant;

use crate::ca::Addresses;

const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);

/// What a replica said to a request to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Signed(CaAddress),
    /// It cannot, and another may.
    Refused(CaAddress),
}

/// Where the agent is on its way around replicas that do not sign.
#[derive(Debug, Default)]
pub(crate) struct Detour {
    shunned: BTreeMap<CaAddress, Shunned>,
    /// The one that was left first, for as long as the agent is elsewhere.
    home: Option<CaAddress>,
}

#[derive(Clone, Copy, Debug)]
struct Shunned {
    until: Instant,
    times: u32,
}

impl Detour {
    /// Where to go from the replica that is in use, if it has refused and there is anywhere.
    /// `draw` is uniform in `[0, 1)`.
    pub(super) fn judged(
        &mut self,
        verdict: &Verdict,
        addresses: &Addresses,
        (now, draw): (Instant, f64),
    ) -> Option<CaAddress> {
        match verdict {
            Verdict::Signed(by) => {
                self.shunned.remove(by);
                None
            }
            Verdict::Refused(by) => {
                self.shun(by, (now, draw));
                let current = addresses.current()?;
                let mut others = addresses.iter().filter(|other| *other != current);
                let there = others.find(|other| !self.is_shunned(other, now));
                there.filter(|_| current == by).cloned()
            }
        }
    }

    /// A replica that a detour was to lead to, or has led to, cannot be used.
    pub(super) fn in_vain(&mut self, address: &CaAddress, moment: (Instant, f64)) {
        self.shun(address, moment);
    }

    pub(super) fn arrived(&mut self, from: Option<&CaAddress>, at: &CaAddress) {
        if self.home.is_none() {
            self.home = from.cloned();
        }
        self.home = self.home.take().filter(|home| home != at);
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.home.is_some()
    }

    /// The replica that was left, and when to try it again.
    pub(super) fn way_back(&self, addresses: &Addresses) -> Option<(CaAddress, Instant)> {
        let home = self.home.as_ref()?;
        let mut known = addresses.iter();
        let home = known.find(|known| *known == home)?.clone();
        let until = self.shunned.get(&home)?.until;
        Some((home, until))
    }

    fn is_shunned(&self, address: &CaAddress, now: Instant) -> bool {
        let shunned = self.shunned.get(address);
        shunned.is_some_and(|shunned| shunned.until > now)
    }

    /// What is said again during a pause makes it no longer.
    fn shun(&mut self, address: &CaAddress, (now, draw): (Instant, f64)) {
        if self.is_shunned(address, now) {
            return;
        }
        let times = self.shunned.get(address).map_or(0, |before| before.times);
        let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(times));
        let pause = doubled.min(LONGEST_PAUSE);
        let drawn = pause.mul_f64(0.5 + draw.clamp(0.0, 1.0) / 2.0);
        let shunned = Shunned {
            until: now + drawn,
            times: times.saturating_add(1),
        };
        self.shunned.insert(address.clone(), shunned);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(name: &str) -> CaAddress {
        format!("{name}:1").parse().unwrap()
    }

    fn addresses(names: &[&str]) -> Addresses {
        Addresses::new(names.iter().map(|name| address(name)))
    }

    fn refused(name: &str) -> Verdict {
        Verdict::Refused(address(name))
    }

    #[test]
    fn an_agent_with_one_address_stays() {
        let mut detour = Detour::default();
        let now = Instant::now();
        let there = detour.judged(&refused("a"), &addresses(&["a"]), (now, 0.0));
        assert_eq!(there, None);
    }

    #[test]
    fn an_agent_stays_where_it_is_when_all_have_refused_until_a_pause_has_ended() {
        let mut detour = Detour::default();
        let (here, now) = (addresses(&["b", "a"]), Instant::now());
        detour.judged(&refused("a"), &here, (now, 1.0));
        assert_eq!(detour.judged(&refused("b"), &here, (now, 1.0)), None);
        let later = now + FIRST_PAUSE;
        let there = detour.judged(&refused("b"), &here, (later, 1.0));
        assert_eq!(there, Some(address("a")));
    }

    #[test]
    fn what_another_replica_has_said_is_no_reason_to_leave_this_one() {
        let mut detour = Detour::default();
        let there = detour.judged(
            &refused("b"),
            &addresses(&["a", "b", "c"]),
            (Instant::now(), 0.0),
        );
        assert_eq!(there, None);
    }

    #[test]
    fn the_replica_that_was_left_first_is_tried_again_after_longer_and_longer_pauses() {
        let mut detour = Detour::default();
        let (known, mut now) = (addresses(&["a", "b"]), Instant::now());
        for pause in [30, 60, 120, 240, 480, 600, 600] {
            detour.judged(&refused("a"), &known, (now, 1.0));
            detour.arrived(Some(&address("a")), &address("b"));
            let (home, at) = detour.way_back(&known).unwrap();
            assert_eq!((home, at - now), (address("a"), Duration::from_secs(pause)));
            now = at;
            detour.arrived(Some(&address("b")), &address("a"));
            assert_eq!(detour.way_back(&known), None);
        }
    }

    #[test]
    fn a_replica_that_signs_again_is_trusted_as_before() {
        let mut detour = Detour::default();
        let (known, now) = (addresses(&["a", "b"]), Instant::now());
        detour.judged(&refused("a"), &known, (now, 1.0));
        let signed = Verdict::Signed(address("a"));
        detour.judged(&signed, &known, (now, 1.0));
        detour.judged(&refused("a"), &known, (now, 1.0));
        detour.arrived(Some(&address("a")), &address("b"));
        let (_, at) = detour.way_back(&known).unwrap();
        assert_eq!(at - now, FIRST_PAUSE);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn a_detour_leads_to_another_known_replica_whose_pause_has_ended(
            steps in prop::collection::vec((0..4_usize, any::<bool>(), 0..700_u64, 0.0..1.0), 1..60),
        ) {
            let names = ["a", "b", "c", "d"];
            let (mut known, mut detour) = (addresses(&names), Detour::default());
            let mut now = Instant::now();
            let mut left: BTreeMap<CaAddress, Instant> = BTreeMap::new();
            for (which, signs, seconds, draw) in steps {
                now += Duration::from_secs(seconds);
                let by = address(names[which]);
                let verdict = match signs {
                    true => Verdict::Signed(by.clone()),
                    false => Verdict::Refused(by.clone()),
                };
                let from = known.current().unwrap().clone();
                let Some(to) = detour.judged(&verdict, &known, (now, draw)) else {
                    continue;
                };
                prop_assert!(to != from && !signs && by == from);
                if let Some(since) = left.get(&to) {
                    prop_assert!(now - *since >= FIRST_PAUSE / 2);
                }
                left.insert(from.clone(), now);
                known.prefer(&to);
                detour.arrived(Some(&from), &to);
                prop_assert_eq!(known.current(), Some(&to));
            }
        }
    }
}
