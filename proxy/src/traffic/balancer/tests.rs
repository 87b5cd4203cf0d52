use std::collections::{BTreeMap, BTreeSet};

use crypto::random::SeededRandom;
use http::HeaderName;
use proptest::prelude::*;

use super::*;

const FAST: Duration = Duration::from_millis(1);

fn endpoint(port: u16) -> Endpoint {
    Endpoint {
        host: "h".to_owned(),
        port,
    }
}

fn breaking(max_ejected: f64) -> BreakerSettings {
    BreakerSettings {
        consecutive_failures: Some(1),
        max_ejected,
        ..BreakerSettings::default()
    }
}

/// A balancer under test, with its randomness and its time.
struct Bench {
    balancer: Balancer,
    random: SeededRandom,
    now: Instant,
}

impl Bench {
    fn new(balance: Balance, breaker: BreakerSettings, count: u16) -> Self {
        let now = Instant::now();
        let mut balancer = Balancer::new(Settings {
            balance,
            breaker,
            own_zone: Some("a".into()),
        });
        balancer.update(
            (0..count).map(|port| (endpoint(port), Some("a".into()))),
            now,
        );
        Self {
            balancer,
            random: SeededRandom::new(7),
            now,
        }
    }

    fn pick(&mut self, tried: &Tried) -> Pick {
        self.try_pick(tried).unwrap()
    }

    fn try_pick(&mut self, tried: &Tried) -> Result<Pick, NoPick> {
        self.balancer.pick(tried, None, self.now, &mut self.random)
    }

    fn by_key(&mut self, key: u64) -> u16 {
        let hash = Some(hash_of(&key.to_be_bytes()));
        let pick = self
            .balancer
            .pick(&Tried::default(), hash, self.now, &mut self.random);
        let pick = pick.unwrap();
        let port = pick.endpoint.port;
        self.finish(pick, Health::Good);
        port
    }

    fn missing(&self) -> usize {
        self.balancer.members.len() - self.balancer.counts().available
    }

    fn finish(&mut self, pick: Pick, health: Health) {
        self.balancer.finish(pick, health, FAST, self.now);
    }

    /// Lets calls fail wherever they go until `port` has failed.
    fn fail(&mut self, port: u16) {
        loop {
            let pick = self.pick(&Tried::default());
            let meant = pick.endpoint.port == port;
            self.finish(pick, if meant { Health::Bad } else { Health::Good });
            if meant {
                return;
            }
        }
    }

    /// How many of `calls` each endpoint gets.
    fn spread(&mut self, calls: usize) -> BTreeMap<u16, usize> {
        let mut spread = BTreeMap::new();
        for _ in 0..calls {
            let pick = self.pick(&Tried::default());
            *spread.entry(pick.endpoint.port).or_default() += 1;
            self.finish(pick, Health::Good);
        }
        spread
    }
}

fn algorithms() -> impl Strategy<Value = Balance> {
    let hash = Balance::Hash(HeaderName::from_static("x-user"));
    prop_oneof![
        Just(Balance::Ewma),
        Just(Balance::LeastRequest),
        Just(Balance::RoundRobin),
        Just(Balance::Random),
        Just(hash),
    ]
}

#[test]
fn a_call_is_in_flight_until_its_last_byte() {
    let mut bench = Bench::new(Balance::LeastRequest, BreakerSettings::default(), 2);
    let pick = bench.pick(&Tried::default());
    let busy = pick.endpoint.port;
    let health = Some(Health::Good);
    let seat = bench.balancer.answered(pick, health, FAST, bench.now);
    assert_eq!(bench.spread(20).get(&busy), None);
    bench.balancer.leave(seat);
    assert!(bench.spread(20).contains_key(&busy));
}

#[test]
fn what_only_the_end_tells_is_counted_when_it_comes() {
    let mut bench = Bench::new(Balance::RoundRobin, breaking(1.0), 1);
    let pick = bench.pick(&Tried::default());
    let seat = bench.balancer.answered(pick, None, FAST, bench.now);
    assert!(bench.try_pick(&Tried::default()).is_ok());
    bench.balancer.judge_late(seat, Health::Bad, bench.now);
    bench.balancer.leave(seat);
    assert!(matches!(
        bench.try_pick(&Tried::default()),
        Err(NoPick::BreakerOpen(_))
    ));
}

#[test]
fn without_endpoints_nobody_is_picked() {
    let mut bench = Bench::new(Balance::Ewma, breaking(1.0), 0);
    assert_eq!(
        bench.try_pick(&Tried::default()).unwrap_err(),
        NoPick::NoEndpoints
    );
}

#[test]
fn the_only_endpoint_is_not_ejected_unless_all_may_be() {
    let mut bench = Bench::new(Balance::Ewma, breaking(0.9), 1);
    bench.fail(0);
    assert_eq!(bench.missing(), 0);
}

#[test]
fn when_all_may_be_ejected_and_are_calls_are_refused_until_one_may_try() {
    let mut bench = Bench::new(Balance::Ewma, breaking(1.0), 1);
    bench.fail(0);
    let opens = bench.now + Duration::from_secs(10);
    let refused = bench.try_pick(&Tried::default()).unwrap_err();
    assert_eq!(refused, NoPick::BreakerOpen(Some(opens)));
    bench.now = opens;
    assert!(bench.pick(&Tried::default()).probe);
    assert_eq!(
        bench.try_pick(&Tried::default()).unwrap_err(),
        NoPick::BreakerOpen(None)
    );
}

#[test]
fn an_ejected_endpoint_gets_one_call_and_is_back_if_that_goes_well() {
    let mut bench = Bench::new(Balance::Random, breaking(0.5), 2);
    bench.fail(0);
    assert_eq!(bench.spread(50), BTreeMap::from([(1, 50)]));
    bench.now += Duration::from_secs(10);
    let probe = bench.pick(&Tried::default());
    assert_eq!((probe.probe, probe.endpoint.port), (true, 0));
    assert_eq!(bench.spread(50), BTreeMap::from([(1, 50)]));
    bench.finish(probe, Health::Good);
    assert_eq!(bench.missing(), 0);
}

#[test]
fn an_endpoint_that_is_back_gets_its_share_by_and_by() {
    let mut bench = Bench::new(Balance::Random, breaking(0.5), 2);
    bench.fail(0);
    bench.now += Duration::from_secs(10);
    let probe = bench.pick(&Tried::default());
    bench.finish(probe, Health::Good);
    let at_first = bench.spread(1000)[&0];
    bench.now += Duration::from_secs(10);
    let in_the_end = bench.spread(1000)[&0];
    assert!(
        at_first < 200 && in_the_end > 400,
        "{at_first}, {in_the_end}"
    );
}

#[test]
fn a_probe_that_nobody_finished_well_or_badly_lets_the_next_call_probe() {
    let mut bench = Bench::new(Balance::Ewma, breaking(0.5), 2);
    bench.fail(0);
    bench.now += Duration::from_secs(10);
    let probe = bench.pick(&Tried::default());
    bench.finish(probe, Health::Unknown);
    assert!(bench.pick(&Tried::default()).probe);
}

#[test]
fn a_retry_is_no_probe() {
    let mut bench = Bench::new(Balance::RoundRobin, breaking(0.5), 3);
    bench.fail(0);
    let mut tried = Tried::default();
    tried.add(&bench.pick(&Tried::default()));
    bench.now += Duration::from_secs(10);
    assert!(!bench.pick(&tried).probe);
}

#[test]
fn when_too_few_are_well_all_are_used() {
    let mut bench = Bench::new(Balance::RoundRobin, breaking(0.5), 4);
    for port in 0..2 {
        bench.balancer.set_health(&endpoint(port), false, bench.now);
    }
    assert_eq!(bench.spread(40).into_keys().collect::<Vec<_>>(), [2, 3]);
    bench.balancer.set_health(&endpoint(2), false, bench.now);
    assert_eq!(bench.spread(40), (0..4).map(|port| (port, 10)).collect());
}

#[test]
fn a_caller_that_leaves_and_a_refusal_eject_nobody() {
    let mut bench = Bench::new(Balance::Ewma, breaking(1.0), 1);
    for health in [Health::Unknown, Health::Busy(None)] {
        let pick = bench.pick(&Tried::default());
        bench.finish(pick, health);
    }
    assert_eq!(bench.missing(), 0);
}

#[test]
fn of_two_the_one_with_the_lower_cost_is_picked() {
    let mut bench = Bench::new(Balance::Ewma, BreakerSettings::default(), 2);
    let slow = bench.pick(&Tried::default());
    let slow_port = slow.endpoint.port;
    bench
        .balancer
        .finish(slow, Health::Good, Duration::from_secs(1), bench.now);
    assert_eq!(bench.spread(100), BTreeMap::from([(1 - slow_port, 100)]));
}

#[test]
fn of_two_the_one_with_fewer_calls_in_flight_is_picked() {
    let mut bench = Bench::new(Balance::LeastRequest, BreakerSettings::default(), 2);
    let held = bench.pick(&Tried::default());
    assert_eq!(
        bench.spread(100),
        BTreeMap::from([(1 - held.endpoint.port, 100)])
    );
}

#[test]
fn calls_stay_in_their_zone_while_enough_of_it_is_left() {
    let mut bench = Bench::new(Balance::Random, BreakerSettings::default(), 0);
    let zones = ["a", "a", "a", "a", "b", "b", "b", "b"];
    let list = (0..)
        .zip(zones)
        .map(|(port, zone)| (endpoint(port), Some(zone.into())));
    bench.balancer.update(list, bench.now);
    bench.balancer.set_health(&endpoint(0), false, bench.now);
    assert_eq!(bench.spread(200).into_keys().collect::<Vec<_>>(), [1, 2, 3]);
    bench.balancer.set_health(&endpoint(1), false, bench.now);
    let spread = bench.spread(1000);
    let left: usize = (4..8)
        .map(|port| spread.get(&port).copied().unwrap_or(0))
        .sum();
    assert!((200..400).contains(&left), "{spread:?}");
}

#[test]
fn a_zone_without_endpoints_is_left() {
    let mut bench = Bench::new(Balance::Ewma, BreakerSettings::default(), 0);
    bench.balancer.update(
        [(endpoint(1), Some("b".into())), (endpoint(2), None)],
        bench.now,
    );
    assert_eq!(bench.spread(100).len(), 2);
}

#[test]
fn a_call_without_the_header_goes_anywhere() {
    let hash = Balance::Hash(HeaderName::from_static("x-user"));
    let mut bench = Bench::new(hash, BreakerSettings::default(), 5);
    assert_eq!(bench.spread(200).len(), 5);
}

#[test]
fn what_is_known_of_an_endpoint_outlives_a_change_of_the_list() {
    let mut bench = Bench::new(Balance::RoundRobin, breaking(0.5), 3);
    bench.fail(1);
    let on_its_way = bench.pick(&Tried::default());
    let list = [5, 4, 1, 0].map(|port| (endpoint(port), None));
    bench.balancer.update(list, bench.now);
    assert_eq!(bench.missing(), 1);
    bench.finish(on_its_way, Health::Good);
    assert!(!bench.spread(50).contains_key(&1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn one_call_tries_each_endpoint_once_before_any_twice(
        balance in algorithms(), count in 1u16..12, key: u64,
    ) {
        let mut bench = Bench::new(balance, BreakerSettings::default(), count);
        let (mut tried, mut ports) = (Tried::default(), BTreeSet::new());
        for _ in 0..count {
            let (now, hash) = (bench.now, Some(hash_of(&key.to_be_bytes())));
            let pick = bench.balancer.pick(&tried, hash, now, &mut bench.random).unwrap();
            prop_assert!(ports.insert(pick.endpoint.port));
            tried.add(&pick);
        }
        prop_assert!(!bench.balancer.has_untried(&tried));
        prop_assert!(ports.contains(&bench.pick(&tried).endpoint.port));
    }

    #[test]
    fn turns_are_taken_evenly(count in 1u16..12, rounds in 1usize..6) {
        let mut bench = Bench::new(Balance::RoundRobin, BreakerSettings::default(), count);
        let spread = bench.spread(rounds * usize::from(count));
        prop_assert_eq!(spread, (0..count).map(|port| (port, rounds)).collect());
    }

    #[test]
    fn only_the_keys_of_an_endpoint_that_goes_move(count in 2u16..12, gone in 0u16..12, reversed: bool) {
        let gone = gone % count;
        let hash = Balance::Hash(HeaderName::from_static("x-user"));
        let mut bench = Bench::new(hash, BreakerSettings::default(), count);
        let before: Vec<u16> = (0..200).map(|key| bench.by_key(key)).collect();
        let mut left: Vec<u16> = (0..count).filter(|port| *port != gone).collect();
        if reversed {
            left.reverse();
        }
        bench.balancer.update(left.into_iter().map(|port| (endpoint(port), None)), bench.now);
        for (key, port) in (0..).zip(before) {
            let now = bench.by_key(key);
            prop_assert_eq!(now == port, port != gone);
        }
    }

    #[test]
    fn keys_are_spread_over_all(count in 2u16..8) {
        let hash = Balance::Hash(HeaderName::from_static("x-user"));
        let mut bench = Bench::new(hash, BreakerSettings::default(), count);
        let mut spread = BTreeMap::<u16, usize>::new();
        (0..4000).for_each(|key| *spread.entry(bench.by_key(key)).or_default() += 1);
        let fair = 4000 / usize::from(count);
        prop_assert!(spread.values().all(|it| *it > fair * 3 / 4 && *it < fair * 5 / 4), "{spread:?}");
    }

    #[test]
    fn never_are_more_missing_than_permitted(
        count in 1u16..12, max in 0.0f64..=1.0, balance in algorithms(),
        steps in proptest::collection::vec((0u8..8, 0u64..15), 1..120),
    ) {
        let mut bench = Bench::new(balance, breaking(max), count);
        let mut probes = BTreeSet::new();
        let mut on_their_way: Vec<Pick> = Vec::new();
        for (what, seconds) in steps {
            bench.now += Duration::from_secs(seconds / 10);
            if what < 3 {
                if let Ok(pick) = bench.try_pick(&Tried::default()) {
                    prop_assert!(!pick.probe || probes.insert(pick.endpoint.port));
                    on_their_way.push(pick);
                }
            } else if !on_their_way.is_empty() {
                let pick = on_their_way.remove(usize::from(what) % on_their_way.len());
                if pick.probe {
                    probes.remove(&pick.endpoint.port);
                }
                bench.finish(pick, if what < 7 { Health::Bad } else { Health::Good });
            }
            let most = (f64::from(count) * max + 1e-9) as usize;
            prop_assert!(bench.missing() <= most);
        }
    }

    #[test]
    fn a_change_of_the_list_never_leaves_a_pick_behind(
        lists in proptest::collection::vec(proptest::collection::btree_set(0u16..6, 1..5), 1..10),
    ) {
        let mut bench = Bench::new(Balance::LeastRequest, breaking(0.5), 3);
        let mut on_their_way = Vec::new();
        for list in &lists {
            on_their_way.push(bench.pick(&Tried::default()));
            bench.balancer.update(list.iter().map(|port| (endpoint(*port), None)), bench.now);
        }
        on_their_way.into_iter().for_each(|pick| bench.finish(pick, Health::Good));
        let idle = |it: &Member| it.load.in_flight() == 0;
        prop_assert!(bench.balancer.members.iter().all(idle));
    }
}
