use identity::IdTemplate;

use super::*;
use crate::{MeshNames, ObjectSet, Revision, Target, parse_documents};

const OBJECTS: &str = r#"
{apiVersion: countersign.dev/v1, kind: Service, metadata: {namespace: shop, name: orders}, spec: {workloads: [shop/orders], ports: [{name: http, port: 80, protocol: http}, {name: raw, port: 81, protocol: tcp}]}}
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: api}
spec:
  targets: [{service: orders, port: http}]
  allow:
  - {id: far, from: [{workload: bi/reports}], to: {http: [{methods: [PUT], path: /x}]}}
  - {id: near, from: [{namespace: shop}], to: {http: [{methods: [POST], path: "/orders/{id}"}, {path: /other}]}}
  - {id: keyed, from: [{namespace: shop}], to: {http: [{methods: [GET], path: "/orders/{id}", headers: {x-key: secret}}]}}
---
apiVersion: countersign.dev/v1
kind: Baseline
metadata: {name: org}
spec: {scope: {mesh: true}, deny: [{id: out, from: [{namespace: legacy}]}], allow: [{id: scrape, from: [{namespace: obs}], to: {http: [{path: /m}]}}]}
"#;

fn explain(
    source: &str,
    port: &str,
    request: Option<(&str, &str)>,
    headers: &[(&str, &str)],
) -> Explanation {
    let objects: ObjectSet = parse_documents(OBJECTS).unwrap().into_iter().collect();
    let mesh = MeshNames::new("td".parse().unwrap(), IdTemplate::default());
    let revision = Revision {
        epoch: 1,
        number: 4,
    };
    let snapshot = PolicySnapshot::compile(revision, &[0; 32], &mesh, &objects, &[]);
    let path = request.map(|(method, path)| (method, RequestPath::parse(method, path)));
    let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    let headers: Vec<_> = headers.iter().map(owned).collect();
    snapshot.explain(&Question {
        source: &source.parse().unwrap(),
        target: Target {
            service: &"shop/orders".parse().unwrap(),
            port: &port.parse().unwrap(),
        },
        request: match &path {
            Some((method, path)) => Request::Http {
                method,
                path,
                headers: &headers,
            },
            None => Request::Connection,
        },
    })
}

fn misses(explanation: &Explanation) -> Vec<(&str, &str, &str, &str)> {
    let misses = explanation.nearest_misses.iter();
    misses
        .map(|miss| (&*miss.rule.id, &*miss.condition, &*miss.wanted, &*miss.got))
        .collect()
}

#[test]
fn nearest_miss_comes_first_and_names_what_failed() {
    let explanation = explain(
        "spiffe://td/ns/shop/sa/a",
        "http",
        Some(("GET", "/orders/7")),
        &[],
    );
    let expected = [
        ("keyed", "headers.x-key", "secret", "no such header"),
        ("near", "methods", "POST", "GET"),
        (
            "far",
            "from",
            "workload bi/reports",
            "workload shop/a (spiffe://td/ns/shop/sa/a)",
        ),
        (
            "scrape",
            "from",
            "namespace obs",
            "workload shop/a (spiffe://td/ns/shop/sa/a)",
        ),
    ];
    assert_eq!(misses(&explanation)[..2], expected[..2]);
    let last: std::collections::BTreeSet<_> = misses(&explanation)[2..].iter().copied().collect();
    assert_eq!(last, expected[2..].iter().copied().collect());
}

#[test]
fn header_values_of_the_caller_are_not_shown() {
    let request = Some(("GET", "/orders/7"));
    let explanation = explain(
        "spiffe://td/ns/shop/sa/a",
        "http",
        request,
        &[("x-key", "hunter2")],
    );
    assert_eq!(misses(&explanation)[0].3, "another value");
}

#[test]
fn a_rule_with_requests_missed_a_connection_because_of_them() {
    let explanation = explain("spiffe://td/ns/obs/sa/a", "raw", None, &[]);
    let expected = (
        "scrape",
        "to",
        "an HTTP request",
        "a connection of opaque bytes",
    );
    assert_eq!(misses(&explanation), [expected]);
}

#[test]
fn past_a_baseline_deny_there_is_no_near_miss() {
    let explanation = explain(
        "spiffe://td/ns/legacy/sa/a",
        "http",
        Some(("GET", "/orders/7")),
        &[],
    );
    assert_eq!(explanation.reason.as_deref(), Some("baseline-deny"));
    assert_eq!(explanation.rule.unwrap().object, "Baseline org");
    assert_eq!(explanation.nearest_misses, []);
}

#[test]
fn explanation_is_shown_in_camel_case() {
    let explanation = explain(
        "spiffe://td/ns/shop/sa/a",
        "http",
        Some(("POST", "/orders/7?q")),
        &[],
    );
    let shown = serde_json::to_value(&explanation).unwrap();
    assert_eq!(shown["decisionId"], explanation.decision_id.as_str());
    let shown = [
        "verdict",
        "message",
        "path",
        "pathShape",
        "revision",
        "evaluator",
    ]
    .map(|key| shown[key].clone());
    let expected = [
        "allow",
        "allowed by Policy/shop/api#near",
        "/orders/7",
        "/orders/{id}",
        "00000001-4",
        "countersign-policy engine 3",
    ];
    assert_eq!(shown, expected.map(serde_json::Value::from));
}
