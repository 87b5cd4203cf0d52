use std::time::Duration;

use policy::{
    Backend, FaultAbort, FaultDelay, HttpMatch, Request, RequestPath, RetryBudget, RetryMethods,
    Timeouts,
};

use super::*;

fn fraction(parts: u16) -> Fraction {
    Fraction::from_parts(parts).unwrap()
}

fn rule(matches: Vec<HttpMatch>, backends: &[(&str, u32)]) -> RouteRule {
    let backend = |(service, weight): &(&str, u32)| Backend {
        service: service.parse().unwrap(),
        weight: *weight,
    };
    RouteRule {
        matches,
        backends: backends.iter().map(backend).collect(),
        timeouts: Timeouts::default(),
        retry: None,
        hedge: None,
        fault: None,
        mirror: None,
        headers: policy::HeaderChanges::default(),
    }
}

fn canary() -> RouteRule {
    let entry = HttpMatch {
        methods: ["GET"].into_iter().map(|it| it.parse().unwrap()).collect(),
        path: Some("/v1/{rest=**}".parse().unwrap()),
        headers: [("x-canary".parse().unwrap(), "true".parse().unwrap())].into(),
    };
    rule(vec![entry], &[("orders-v2", 100)])
}

fn everything() -> RouteRule {
    let milliseconds = Duration::from_millis;
    RouteRule {
        timeouts: Timeouts {
            per_try: Some(milliseconds(600)),
            ..Timeouts::default()
        },
        retry: Some(policy::Retry {
            limit: 2,
            on: [RetryOn::ConnectFailure, RetryOn::Status(503)].into(),
            methods: RetryMethods::Grpc(["shop.Orders/Get".parse().unwrap()].into()),
            backoff: policy::Backoff {
                base: milliseconds(25),
                max: milliseconds(250),
            },
            budget: RetryBudget {
                ratio: fraction(2_000),
                min_per_second: 10,
            },
        }),
        fault: Some(policy::Fault {
            delay: Some(FaultDelay {
                percent: fraction(500),
                by: milliseconds(200),
            }),
            abort: Some(FaultAbort {
                percent: fraction(100),
                status: 503,
            }),
        }),
        mirror: Some(policy::Mirror {
            service: "orders-shadow".parse().unwrap(),
            percent: fraction(500),
        }),
        headers: policy::HeaderChanges {
            set: [("x-env".parse().unwrap(), "prod".parse().unwrap())].into(),
            remove: ["x-debug".parse().unwrap()].into(),
        },
        ..rule(Vec::new(), &[("orders", 90), ("orders-v2", 10)])
    }
}

fn compile(rules: Vec<RouteRule>) -> Result<Plan, Unusable> {
    Plan::compile(&Route {
        name: "shop/orders".parse().unwrap(),
        service: "orders".parse().unwrap(),
        port: "http".parse().unwrap(),
        rules,
    })
}

fn follow<'a>(plan: &'a Plan, method: &str, headers: &[(&str, &str)]) -> &'a Rule {
    let path = RequestPath::parse(method, "/v1/orders/7");
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let headers: Vec<_> = headers.iter().map(owned).collect();
    let request = Request::Http {
        method,
        path: &path,
        headers: &headers,
    };
    plan.rules.find(&request).unwrap()
}

#[test]
fn a_rule_that_cannot_be_expressed_makes_the_plan_unusable() {
    let nobody = compile(vec![rule(Vec::new(), &[("orders", 0)])]);
    assert_eq!(nobody.unwrap_err(), Unusable::NoBackend);
}

#[test]
fn each_rule_keeps_all_that_it_says() {
    let plan = compile(vec![canary(), everything()]).unwrap();
    let rule = follow(&plan, "POST", &[]);
    assert_eq!(rule.backends.iter().count(), 2);
    assert_eq!(rule.timeout.per_try, Some(Duration::from_millis(600)));
    let retry = rule.retry.as_ref().unwrap();
    assert_eq!(retry.on.statuses, [StatusCode::SERVICE_UNAVAILABLE]);
    assert!(retry.on.connect_failure && !retry.on.reset);
    assert!(retry.methods.permit("POST", "/shop.Orders/Get"));
    assert_eq!(rule.budget, retry.budget);
    let delay = (Percent::new(5.0).unwrap(), Duration::from_millis(200));
    assert_eq!(rule.fault.delay, Some(delay));
    assert_eq!(
        rule.mirror.as_ref().unwrap().to.to_string(),
        "shop/orders-shadow:http"
    );
    assert_eq!(rule.headers.remove, [HeaderName::from_static("x-debug")]);
    assert_eq!(rule.headers.set.len(), 1);
}

#[test]
fn a_match_is_compiled_with_method_path_and_headers() {
    let plan = compile(vec![canary(), everything()]).unwrap();
    let headers = [("x-canary", "true")];
    let is_canary = |it: &Rule| it.backends.iter().count() == 1;
    assert!(is_canary(follow(&plan, "GET", &headers)));
    assert!(!is_canary(follow(&plan, "POST", &headers)));
    assert!(!is_canary(follow(&plan, "GET", &[])));
}
