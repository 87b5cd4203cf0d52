use proptest::prelude::*;

use super::*;
use crate::traffic::settings::SuccessRate;

const EJECT: Duration = Duration::from_secs(10);

fn settings() -> Settings {
    Settings {
        consecutive_failures: Some(3),
        success_rate: None,
        eject_for: EJECT,
        max_ejected: 0.5,
    }
}

fn ejected(now: Instant) -> Breaker {
    let mut breaker = Breaker::new();
    breaker.eject(&settings(), now);
    breaker
}

#[test]
fn an_ejected_endpoint_gets_nothing_before_its_time() {
    let now = Instant::now();
    let mut breaker = ejected(now);
    let just_before = now + EJECT - Duration::from_nanos(1);
    assert_eq!(breaker.access(&settings(), just_before), Access::Nothing);
    assert!(!breaker.begin_probe(just_before));
}

#[test]
fn a_success_between_failures_keeps_it_in_use() {
    let (now, mut breaker) = (Instant::now(), Breaker::new());
    for success in [false, false, true, false, false] {
        assert_eq!(breaker.record(success, &settings(), now), Verdict::Keep);
    }
    assert_eq!(breaker.record(false, &settings(), now), Verdict::Eject);
}

#[test]
fn without_settings_nothing_ejects() {
    let (now, mut breaker) = (Instant::now(), Breaker::new());
    let verdicts = (0..1000).map(|_| breaker.record(false, &Settings::default(), now));
    assert!(verdicts.into_iter().all(|it| it == Verdict::Keep));
}

#[test]
fn a_low_success_rate_ejects_though_no_two_failures_follow_each_other() {
    let settings = Settings {
        consecutive_failures: None,
        success_rate: Some(SuccessRate {
            below: 0.8,
            over: EJECT,
            min_requests: 20,
        }),
        ..settings()
    };
    let (now, mut breaker) = (Instant::now(), Breaker::new());
    let verdicts = (0..20).map(|turn| breaker.record(turn % 2 == 0, &settings, now));
    assert_eq!(verdicts.last(), Some(Verdict::Eject));
}

#[test]
fn one_request_probes_and_a_second_gets_nothing() {
    let later = Instant::now() + EJECT;
    let mut breaker = ejected(later - EJECT);
    assert_eq!(breaker.access(&settings(), later), Access::Probe);
    assert!(breaker.begin_probe(later));
    assert!(!breaker.begin_probe(later));
    assert_eq!(breaker.access(&settings(), later), Access::Nothing);
}

#[test]
fn a_probe_that_fails_ejects_for_twice_as_long() {
    let later = Instant::now() + EJECT;
    let mut breaker = ejected(later - EJECT);
    breaker.begin_probe(later);
    breaker.end_probe(Some(false), &settings(), later);
    assert_eq!(breaker.probe_at(), Some(later + 2 * EJECT));
}

#[test]
fn a_probe_that_says_nothing_leaves_the_next_request_to_decide() {
    let later = Instant::now() + EJECT;
    let mut breaker = ejected(later - EJECT);
    breaker.begin_probe(later);
    breaker.end_probe(None, &settings(), later);
    assert_eq!(breaker.access(&settings(), later), Access::Probe);
}

#[test]
fn an_endpoint_that_is_back_starts_slowly() {
    let later = Instant::now() + EJECT;
    let mut breaker = ejected(later - EJECT);
    breaker.begin_probe(later);
    breaker.end_probe(Some(true), &settings(), later);
    assert_eq!(
        breaker.access(&settings(), later),
        Access::Open(SLOWEST_START)
    );
    assert_eq!(
        breaker.access(&settings(), later + EJECT / 2),
        Access::Open(0.5)
    );
    assert_eq!(
        breaker.access(&settings(), later + EJECT),
        Access::Open(1.0)
    );
}

#[test]
fn good_conduct_as_long_as_the_last_ejection_is_a_new_beginning() {
    let later = Instant::now() + EJECT;
    let mut breaker = ejected(later - EJECT);
    breaker.begin_probe(later);
    breaker.end_probe(Some(true), &settings(), later);
    breaker.record(true, &settings(), later + EJECT);
    breaker.eject(&settings(), later + EJECT);
    assert_eq!(breaker.probe_at(), Some(later + 2 * EJECT));
}

#[test]
fn ejections_grow_to_a_bound() {
    let mut now = Instant::now();
    let mut breaker = ejected(now);
    for _ in 0..100 {
        now = breaker.probe_at().unwrap();
        breaker.begin_probe(now);
        breaker.end_probe(Some(false), &settings(), now);
    }
    assert_eq!(breaker.probe_at(), Some(now + LONGEST));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn never_is_a_second_probe_on_its_way(
        steps in proptest::collection::vec((0u8..5, 0u64..40), 0..80),
    ) {
        let mut now = Instant::now();
        let (mut breaker, mut on_their_way) = (Breaker::new(), 0);
        for (what, seconds) in steps {
            now += Duration::from_secs(seconds);
            match what {
                0 if breaker.record(false, &settings(), now) == Verdict::Eject => {
                    breaker.eject(&settings(), now);
                }
                0 | 1 => drop(breaker.record(what == 1, &settings(), now)),
                2 if breaker.begin_probe(now) => on_their_way += 1,
                2 => {}
                _ if on_their_way == 1 => {
                    on_their_way = 0;
                    breaker.end_probe(Some(what == 3), &settings(), now);
                }
                _ => {}
            }
            prop_assert!(on_their_way <= 1);
            prop_assert!(on_their_way == 0 || breaker.access(&settings(), now) == Access::Nothing);
        }
    }
}
