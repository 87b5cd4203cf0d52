use crypto::random::SeededRandom;
use proptest::prelude::*;

use http::StatusCode;
use policy::RetryMethods;

use super::*;
use crate::failure::Reason;
use crate::traffic::settings::{Backoff, Budget as Settings};

const PATH: &str = "/shop.Orders/Get";
const BROKEN: Ending = Ending::Broken(Reason::UpstreamReset);
const UNSENT: Ending = Ending::Unsent(Reason::ConnectFailed);

fn policy(limit: u32) -> Retry {
    Retry {
        limit,
        on: Conditions {
            connect_failure: true,
            reset: true,
            statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
        },
        methods: RetryMethods::Idempotent,
        backoff: Backoff::default(),
        budget: Settings {
            ratio: 1.0,
            min_per_second: 1,
        },
    }
}

fn answered(status: u16, retry_after: Option<Duration>) -> Ending {
    Ending::Answered {
        status: StatusCode::from_u16(status).unwrap(),
        grpc_status: None,
        reason: None,
        retry_after,
    }
}

fn left(body: bool) -> Left {
    Left { body, others: true }
}

/// What follows each ending of a call, one after another.
fn follow(retry: Option<&Retry>, method: &Method, endings: &[(Ending, bool)]) -> Vec<Next> {
    let now = Instant::now();
    let budget = Budget::new(now);
    let mut random = SeededRandom::new(3);
    let mut retries = Retries::new(retry.map(|it| (it, &budget)), (method, PATH), now);
    let after = |(ending, replayable): &(Ending, bool)| {
        retries.after(ending, left(*replayable), now, &mut random)
    };
    endings.iter().map(after).collect()
}

#[track_caller]
fn check_refused(method: &Method, ending: Ending, replayable: bool, why: Why) {
    let next = follow(Some(&policy(2)), method, &[(ending, replayable)]);
    assert_eq!(next, [Next::Finish(why)]);
}

#[test]
fn what_the_upstream_may_have_seen_is_not_sent_again_without_a_route() {
    for ending in [BROKEN, Ending::TimedOut, answered(503, None)] {
        let next = follow(None, &Method::GET, &[(ending, true)]);
        assert_eq!(next, [Next::Finish(Why::NotMeant)]);
    }
}

#[test]
fn a_post_that_may_have_been_seen_is_not_repeated() {
    check_refused(&Method::POST, BROKEN, true, Why::Method);
    check_refused(&Method::POST, answered(503, None), true, Why::Method);
}

#[test]
fn a_request_whose_body_is_gone_is_not_repeated() {
    check_refused(&Method::PUT, BROKEN, false, Why::BodyGone);
    check_refused(&Method::PUT, UNSENT, false, Why::BodyGone);
}

#[test]
fn an_outcome_that_no_condition_names_is_passed_on() {
    check_refused(&Method::GET, answered(500, None), true, Why::NotMeant);
    check_refused(&Method::GET, answered(404, None), true, Why::NotMeant);
    check_refused(&Method::GET, Ending::Abandoned, true, Why::NotMeant);
}

#[test]
fn an_endpoint_that_asks_for_longer_than_the_route_gives_is_left_alone() {
    let ending = answered(503, Some(Duration::from_secs(5)));
    check_refused(&Method::GET, ending, true, Why::AskedForLonger);
}

#[test]
fn retry_after_is_waited_for() {
    let asked = Duration::from_millis(240);
    let retry = policy(1);
    let next = follow(
        Some(&retry),
        &Method::GET,
        &[(answered(503, Some(asked)), true)],
    );
    let [Next::Again(pause)] = next[..] else {
        panic!("{next:?}")
    };
    assert!(pause >= asked && pause <= retry.backoff.max);
}

#[test]
fn what_nobody_has_seen_goes_elsewhere_at_once_even_a_post_without_a_route() {
    let next = follow(None, &Method::POST, &[(UNSENT, true); 3]);
    let at_once = Next::Again(Duration::ZERO);
    assert_eq!(next, [at_once, at_once, Next::Finish(Why::NotMeant)]);
}

#[test]
fn who_cannot_be_reached_is_not_tried_again_at_once_but_who_left_is() {
    let now = Instant::now();
    let mut random = SeededRandom::new(3);
    let mut retries = Retries::new(None, (&Method::GET, PATH), now);
    let left = Left {
        body: true,
        others: false,
    };
    let next = retries.after(&UNSENT, left, now, &mut random);
    assert_eq!(next, Next::Finish(Why::NotMeant));
    let gone = Ending::Unprocessed(Reason::UpstreamReset);
    let next = retries.after(&gone, left, now, &mut random);
    assert_eq!(next, Next::Again(Duration::ZERO));
}

#[test]
fn retries_end_at_the_limit() {
    let next = follow(Some(&policy(2)), &Method::GET, &[(BROKEN, true); 3]);
    assert!(matches!(next[..2], [Next::Again(_), Next::Again(_)]));
    assert_eq!(next[2], Next::Finish(Why::Limit));
}

#[test]
fn a_listed_grpc_method_is_repeated_and_no_other() {
    let listing = |path: &str| Retry {
        methods: RetryMethods::Grpc([path[1..].parse().unwrap()].into()),
        ..policy(1)
    };
    let next = follow(Some(&listing(PATH)), &Method::POST, &[(BROKEN, true)]);
    assert!(matches!(next[..], [Next::Again(_)]));
    let next = follow(
        Some(&listing("/shop.Orders/Place")),
        &Method::POST,
        &[(BROKEN, true)],
    );
    assert_eq!(next, [Next::Finish(Why::Method)]);
    let next = follow(Some(&listing(PATH)), &Method::GET, &[(BROKEN, true)]);
    assert_eq!(next, [Next::Finish(Why::Method)]);
}

#[test]
fn a_grpc_status_counts_as_the_http_status_that_it_is() {
    let ending = |grpc_status| Ending::Answered {
        status: StatusCode::OK,
        grpc_status: Some(grpc_status),
        reason: None,
        retry_after: None,
    };
    let on = Conditions {
        statuses: vec![StatusCode::SERVICE_UNAVAILABLE],
        ..Conditions::default()
    };
    assert!(
        [0, 1, 3, 5, 7, 12, 13]
            .iter()
            .all(|it| !on.mean(&ending(*it)))
    );
    assert!(on.mean(&ending(14)));
}

#[test]
fn an_empty_budget_ends_it() {
    let now = Instant::now();
    let (budget, mut random) = (Budget::new(now), SeededRandom::new(1));
    let retry = Retry {
        budget: Settings {
            ratio: 0.2,
            min_per_second: 0,
        },
        ..policy(5)
    };
    let mut retries = Retries::new(Some((&retry, &budget)), (&Method::GET, PATH), now);
    let next = retries.after(&BROKEN, left(true), now, &mut random);
    assert_eq!(next, Next::Finish(Why::Budget));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_call_ends(limit in 0u32..5, endings in proptest::collection::vec(0usize..5, 12), seed: u64) {
        let now = Instant::now();
        let (budget, retry) = (Budget::new(now), policy(limit));
        let mut random = SeededRandom::new(seed);
        let mut retries = Retries::new(Some((&retry, &budget)), (&Method::GET, PATH), now);
        let all = [BROKEN, UNSENT, Ending::TimedOut, answered(503, None), answered(200, None)];
        let again = endings
            .into_iter()
            .map(|it| retries.after(&all[it], left(true), now, &mut random))
            .take_while(|it| matches!(it, Next::Again(_)))
            .count();
        prop_assert!(again <= (limit + MOST_UNSEEN - 1) as usize);
    }
}
