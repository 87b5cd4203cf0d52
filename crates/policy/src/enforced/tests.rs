use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::parse::{parse_json, read};

fn object(kind: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "countersign.dev/v1",
        "kind": kind,
        "metadata": {"namespace": "shop", "name": "n"},
        "spec": spec,
    })
}

fn service_with(field: &str, value: Value) -> Value {
    let mut port = json!({"name": "http", "port": 80, "protocol": "http"});
    port[field] = value;
    object("Service", json!({"workloads": ["shop/a"], "ports": [port]}))
}

fn route_with(field: &str, value: Value) -> Value {
    let mut rule = json!({"backends": [{"service": "orders"}]});
    rule[field] = value;
    object(
        "Route",
        json!({"service": "orders", "port": "http", "rules": [rule]}),
    )
}

fn examples() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        (
            "balance",
            service_with("balance", json!({"algorithm": "random"})),
            "/spec/ports/0/balance",
        ),
        (
            "breaker",
            service_with("breaker", json!({"consecutiveFailures": 5})),
            "/spec/ports/0/breaker",
        ),
        (
            "bulkhead",
            service_with("bulkhead", json!({"pending": 1})),
            "/spec/ports/0/bulkhead",
        ),
        (
            "rateLimit",
            service_with("rateLimit", json!({"requestsPerSecond": 1})),
            "/spec/ports/0/rateLimit",
        ),
        (
            "health",
            service_with("health", json!({"path": "/healthz"})),
            "/spec/ports/0/health",
        ),
        (
            "match",
            route_with("match", json!([{"path": "/a"}])),
            "/spec/rules/0/match",
        ),
        (
            "weight",
            route_with("backends", json!([{"service": "a"}, {"service": "b"}])),
            "/spec/rules/0/backends",
        ),
        (
            "timeout",
            route_with("timeout", json!({"idle": "1s"})),
            "/spec/rules/0/timeout",
        ),
        (
            "retry",
            route_with("retry", json!({"limit": 1})),
            "/spec/rules/0/retry",
        ),
        (
            "hedge",
            route_with("hedge", json!({"after": "1s"})),
            "/spec/rules/0/hedge",
        ),
        (
            "fault",
            route_with("fault", json!({"abort": {"percent": 1, "status": 503}})),
            "/spec/rules/0/fault",
        ),
        (
            "mirror",
            route_with("mirror", json!({"service": "m"})),
            "/spec/rules/0/mirror",
        ),
        (
            "headers",
            route_with("headers", json!({"remove": ["x"]})),
            "/spec/rules/0/headers",
        ),
        (
            "Route",
            route_with("backends", json!([{"service": "a"}])),
            "/kind",
        ),
        (
            "Gateway",
            object(
                "Gateway",
                json!({"workloads": ["edge/g"], "listeners": [{
                    "name": "web", "port": 443, "hosts": ["shop.example"],
                    "tls": {"certificateFile": "/c", "keyFile": "/k"},
                    "routes": [{"service": "shop/orders", "port": "http"}],
                }]}),
            ),
            "/kind",
        ),
        (
            "External",
            object(
                "External",
                json!({
                    "hosts": ["api.example"], "port": 443,
                    "tls": {"mode": "originate", "roots": "system"}, "from": [{"any": "mtls-peer"}],
                }),
            ),
            "/kind",
        ),
        (
            "zone",
            object(
                "Service",
                json!({
                    "workloads": ["shop/a"], "ports": [{"name": "http", "port": 80, "protocol": "http"}],
                    "endpoints": [{"address": "::1", "ports": {"http": 1}, "zone": "a"}],
                }),
            ),
            "/spec/endpoints/0/zone",
        ),
    ]
}

#[test]
fn every_feature_that_is_not_enforced_is_refused_where_it_stands() {
    for (feature, value, pointer) in examples() {
        let resource = read(&value).unwrap();
        let refusal = check_against(&resource, |name| name != feature).unwrap_err();
        assert_eq!(
            (refusal.pointer.as_str(), refusal.code),
            (pointer, ParseCode::NotYetSupported),
            "{feature}"
        );
        assert_eq!(check_against(&resource, |_| true), Ok(()));
    }
}

#[test]
fn the_table_and_the_examples_name_the_same_features() {
    let table: BTreeSet<_> = ENFORCED.iter().map(|(feature, _)| *feature).collect();
    let shown = examples().into_iter().map(|(feature, ..)| feature);
    assert_eq!(table, shown.collect());
}

#[test]
fn what_is_enforced_is_taken_and_all_else_is_not() {
    let table: std::collections::BTreeMap<_, _> = ENFORCED.into_iter().collect();
    for (feature, value, _) in examples() {
        let needs_route = route_needed(&value) && !table["Route"];
        let taken = parse_json(&value).is_ok();
        assert_eq!(taken, table[feature] && !needs_route, "{feature}");
    }
}

fn route_needed(value: &Value) -> bool {
    value["kind"] == "Route"
}
