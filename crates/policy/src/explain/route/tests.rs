use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::revision::Revision;
use crate::world::MeshNames;

const CALLER: &str = "spiffe://td/ns/shop/sa/checkout";

fn object(kind: &str, name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "countersign.dev/v1", "kind": kind,
        "metadata": {"namespace": "shop", "name": name}, "spec": spec,
    })
    .to_string()
}

fn service(name: &str) -> String {
    let ports = json!([{"name": "http", "port": 80, "protocol": "http"}]);
    object(
        "Service",
        name,
        &json!({"workloads": ["shop/orders"], "ports": ports}),
    )
}

/// Lets the caller in where the field `x-env` says so.
fn policy(service: &str, env: Option<&str>) -> String {
    let mut rule = json!({"id": "callers", "from": [{"workload": "shop/checkout"}]});
    if let Some(env) = env {
        rule["to"] = json!({"http": [{"headers": {"x-env": env}}]});
    }
    let targets = json!([{"service": service, "port": "http"}]);
    object(
        "Policy",
        service,
        &json!({"targets": targets, "allow": [rule]}),
    )
}

fn snapshot(rules: &Value) -> PolicySnapshot {
    let route = json!({"service": "orders", "port": "http", "rules": rules});
    let objects = [
        service("orders"),
        service("orders-v2"),
        service("shadow"),
        policy("orders", None),
        policy("orders-v2", Some("prod")),
        object("Route", "orders", &route),
    ];
    let mesh = MeshNames::new("td".parse().unwrap(), identity::IdTemplate::default());
    let objects = objects.iter().map(String::as_str);
    let revision = Revision {
        epoch: 1,
        number: 1,
    };
    PolicySnapshot::compile_json(
        revision,
        &[7; 32],
        crate::ENGINE_VERSION,
        &mesh,
        objects,
        &[],
    )
}

fn ask(
    snapshot: &PolicySnapshot,
    service: &str,
    (method, target): (&str, &str),
    headers: &[(&str, &str)],
) -> Option<RouteExplanation> {
    let path = RequestPath::parse(method, target);
    let owned = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let headers: Vec<_> = owned.collect::<BTreeMap<_, _>>().into_iter().collect();
    snapshot.explain_route(&Question {
        source: &CALLER.parse().unwrap(),
        target: Target {
            service: &service.parse().unwrap(),
            port: &"http".parse().unwrap(),
        },
        request: Request::Http {
            method,
            path: &path,
            headers: &headers,
        },
    })
}

fn explain(rules: &Value, request: (&str, &str), headers: &[(&str, &str)]) -> RouteExplanation {
    ask(&snapshot(rules), "shop/orders", request, headers).unwrap()
}

fn canary_and_rest() -> Value {
    json!([
        {"match": [{"path": "/v1/{rest=**}", "methods": ["GET"], "headers": {"x-canary": "true"}}],
         "backends": [{"service": "orders-v2"}]},
        {"match": [{"path": "/v1/{rest=**}"}], "backends": [{"service": "orders"}]},
        {"backends": [{"service": "orders", "weight": 3}, {"service": "orders-v2", "weight": 1}]},
    ])
}

#[test]
fn what_no_route_carries_is_not_explained_by_one() {
    let snapshot = snapshot(&canary_and_rest());
    assert_eq!(
        ask(&snapshot, "shop/orders-v2", ("GET", "/v1/a"), &[]),
        None
    );
    assert_eq!(
        ask(&snapshot, "shop/orders", ("GET", "/v1/../a"), &[]),
        None
    );
    let connection = Question {
        source: &CALLER.parse().unwrap(),
        target: Target {
            service: &"shop/orders".parse().unwrap(),
            port: &"http".parse().unwrap(),
        },
        request: Request::Connection,
    };
    assert_eq!(snapshot.explain_route(&connection), None);
}

#[test]
fn where_no_rule_matches_the_service_itself_is_called() {
    let rules = json!([{"match": [{"path": "/v2"}], "backends": [{"service": "orders-v2"}]}]);
    let told = explain(&rules, ("GET", "/v1"), &[]);
    assert_eq!((told.rule, told.verdict.as_str()), (None, "allow"));
    assert_eq!(
        told.message,
        "no rule matches, so the request goes to shop/orders:http itself"
    );
    assert_eq!(told.backends[0].explanation.target, "shop/orders:http");
    assert_eq!(told.nearest_misses[0].condition, "path");
}

#[test]
fn a_rule_that_just_failed_is_told_with_what_it_wanted() {
    let told = explain(&canary_and_rest(), ("GET", "/v1/a"), &[("x-canary", "1")]);
    assert_eq!((told.rule, told.others), (Some(2), vec![3]));
    let miss = RouteMiss {
        rule: 1,
        condition: "headers.x-canary".to_owned(),
        wanted: "true".to_owned(),
        got: "another value".to_owned(),
    };
    assert_eq!(told.nearest_misses, [miss]);
}

#[test]
fn of_rules_that_match_the_reason_for_the_first_is_told() {
    let canary = [("x-canary", "true")];
    let told = explain(&canary_and_rest(), ("GET", "/v1/a"), &canary);
    let expected = "rule 1 goes before rule 2, which matches too: it names a method";
    assert_eq!(told.message, expected);
    let told = explain(&canary_and_rest(), ("POST", "/v1/a"), &canary);
    let expected =
        "rule 2 goes before rule 3, which matches too: its path has more literal segments";
    assert_eq!(told.message, expected);
    let told = explain(&canary_and_rest(), ("POST", "/a"), &canary);
    assert_eq!(told.message, "rule 3 is the only one that matches");
    assert_eq!(told.matching, None);
}

#[test]
fn a_rule_with_more_headers_or_in_front_is_told_so() {
    let matching = |headers: Value| json!({"match": [{"headers": headers}], "backends": [{"service": "orders"}]});
    let rules = json!([
        matching(json!({"x-a": "1"})),
        matching(json!({"x-b": "1"})),
        matching(json!({"x-a": "1", "x-b": "1"})),
    ]);
    let told = explain(&rules, ("GET", "/"), &[("x-a", "1"), ("x-b", "1")]);
    assert!(
        told.message.ends_with("it names more headers"),
        "{}",
        told.message
    );
    let rules = json!([rules[0], rules[1]]);
    let told = explain(&rules, ("GET", "/"), &[("x-a", "1"), ("x-b", "1")]);
    assert!(
        told.message.ends_with("it stands first"),
        "{}",
        told.message
    );
}

#[test]
fn backends_of_different_verdicts_are_told_with_their_shares() {
    let told = explain(&canary_and_rest(), ("POST", "/a"), &[]);
    assert_eq!(told.verdict, "mixed");
    let backends = told.backends.iter();
    let backends = backends.map(|it| (it.percent, it.explanation.verdict.as_str()));
    assert_eq!(
        backends.collect::<Vec<_>>(),
        [(75.0, "allow"), (25.0, "deny")]
    );
}

#[test]
fn a_backend_without_weight_does_not_count_for_the_verdict() {
    let rules =
        json!([{"backends": [{"service": "orders"}, {"service": "orders-v2", "weight": 0}]}]);
    let told = explain(&rules, ("GET", "/"), &[]);
    assert_eq!(
        (told.verdict.as_str(), told.backends[1].percent),
        ("allow", 0.0)
    );
}

#[test]
fn policy_is_asked_about_the_fields_that_arrive() {
    let rule =
        |changes: Value| json!([{"backends": [{"service": "orders-v2"}], "headers": changes}]);
    let told = explain(
        &rule(json!({"remove": ["x-env"]})),
        ("GET", "/"),
        &[("x-env", "prod")],
    );
    assert_eq!(told.verdict, "deny");
    let told = explain(
        &rule(json!({"set": {"x-env": "prod"}})),
        ("GET", "/"),
        &[("x-env", "test")],
    );
    assert_eq!(told.verdict, "allow");
}

#[test]
fn only_what_applies_to_the_request_is_told() {
    let rules = json!([{
        "backends": [{"service": "orders"}],
        "timeout": {"request": "2s"},
        "retry": {"limit": 2},
        "hedge": {"after": "50ms"},
        "fault": {"delay": {"percent": 5, "by": "200ms"}, "abort": {"percent": 1, "status": 503}},
        "mirror": {"service": "shadow", "percent": 5},
    }]);
    let told = explain(&rules, ("GET", "/"), &[]);
    let names: Vec<_> = told.settings.keys().map(String::as_str).collect();
    assert_eq!(names, ["fault", "hedge", "retry", "timeout"]);
    let faults = "faults are injected on purpose: 5 % wait 200ms first, 1 % are answered 503";
    assert_eq!(told.notes, [faults]);
    let mirror = told.mirror.unwrap();
    assert_eq!(
        (mirror.percent, mirror.explanation.verdict.as_str()),
        (5.0, "deny")
    );
    let told = explain(&rules, ("POST", "/"), &[]);
    assert!(!told.settings.contains_key("hedge"));
    assert!(
        told.notes[0].starts_with("this POST may not be repeated"),
        "{:?}",
        told.notes
    );
}
