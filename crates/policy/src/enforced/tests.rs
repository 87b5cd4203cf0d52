use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::*;
use crate::parse::{parse_json, read};

/// A feature, the kind and spec of an object that states it, and where.
const EXAMPLES: [(&str, &str, &str, &str); 18] = [
    (
        "balance",
        "Service",
        "PORT balance: {algorithm: random}",
        "/spec/ports/0/balance",
    ),
    (
        "breaker",
        "Service",
        "PORT breaker: {consecutiveFailures: 5}",
        "/spec/ports/0/breaker",
    ),
    (
        "bulkhead",
        "Service",
        "PORT bulkhead: {pending: 1}",
        "/spec/ports/0/bulkhead",
    ),
    (
        "inFlight",
        "Service",
        "PORT bulkhead: {inFlight: 1}",
        "/spec/ports/0/bulkhead",
    ),
    (
        "rateLimit",
        "Service",
        "PORT rateLimit: {requestsPerSecond: 1}",
        "/spec/ports/0/rateLimit",
    ),
    (
        "health",
        "Service",
        "PORT health: {path: /healthz}",
        "/spec/ports/0/health",
    ),
    (
        "zone",
        "Service",
        "PORT app: 1}], endpoints: [{address: '::1', ports: {p: 1}, zone: a",
        "/spec/endpoints/0/zone",
    ),
    ("Route", "Route", "RULE backends: [{service: a}]", "/kind"),
    (
        "weight",
        "Route",
        "RULE backends: [{service: a}, {service: b}]",
        "/spec/rules/0/backends",
    ),
    (
        "match",
        "Route",
        "RULE backends: [{service: a}], match: [{path: /a}]",
        "/spec/rules/0/match",
    ),
    (
        "timeout",
        "Route",
        "RULE backends: [{service: a}], timeout: {idle: 1s}",
        "/spec/rules/0/timeout",
    ),
    (
        "retry",
        "Route",
        "RULE backends: [{service: a}], retry: {limit: 1}",
        "/spec/rules/0/retry",
    ),
    (
        "hedge",
        "Route",
        "RULE backends: [{service: a}], hedge: {after: 1s}",
        "/spec/rules/0/hedge",
    ),
    (
        "fault",
        "Route",
        "RULE backends: [{service: a}], fault: {abort: {percent: 1, status: 503}}",
        "/spec/rules/0/fault",
    ),
    (
        "mirror",
        "Route",
        "RULE backends: [{service: a}], mirror: {service: m}",
        "/spec/rules/0/mirror",
    ),
    (
        "headers",
        "Route",
        "RULE backends: [{service: a}], headers: {remove: [x]}",
        "/spec/rules/0/headers",
    ),
    (
        "Gateway",
        "Gateway",
        "workloads: [a/b], listeners: [{name: web, port: 443, hosts: [a.example], tls: {certificateFile: /c, keyFile: /k}, routes: [{service: a/b, port: p",
        "/kind",
    ),
    (
        "External",
        "External",
        "hosts: [a.example], port: 443, tls: {mode: originate, roots: system}, from: [{any: mtls-peer",
        "/kind",
    ),
];

fn object(kind: &str, spec: &str) -> Value {
    let port = "workloads: [a/b], ports: [{name: p, port: 1, protocol: http,";
    let spec = spec.replace("PORT", port);
    let spec = spec.replace("RULE", "service: a, port: p, rules: [{");
    let close = match kind {
        "Gateway" => "}]}]",
        _ => "}]",
    };
    let text = format!(
        "{{apiVersion: countersign.dev/v1, kind: {kind}, metadata: {{namespace: ns, name: one}}, \
         spec: {{{spec}{close}}}}}"
    );
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn every_feature_that_is_not_enforced_is_refused_where_it_stands() {
    for (feature, kind, spec, pointer) in EXAMPLES {
        let resource = read(&object(kind, spec)).unwrap();
        let refusal = check_against(&resource, |name| name != feature).unwrap_err();
        let refused = (refusal.pointer.as_str(), refusal.code);
        assert_eq!(refused, (pointer, ParseCode::NotYetSupported), "{feature}");
        assert_eq!(check_against(&resource, |_| true), Ok(()));
    }
}

#[test]
fn the_table_and_the_examples_name_the_same_features() {
    let table: BTreeSet<_> = ENFORCED.iter().map(|(feature, _)| *feature).collect();
    let shown = EXAMPLES.iter().map(|(feature, ..)| *feature);
    assert_eq!(table, shown.collect());
}

#[test]
fn what_is_enforced_is_taken_and_all_else_is_not() {
    let table: BTreeMap<_, _> = ENFORCED.into_iter().collect();
    for (feature, kind, spec, _) in EXAMPLES {
        let kind_is_taken = table.get(kind).copied().unwrap_or(true);
        let taken = parse_json(&object(kind, spec)).is_ok();
        assert_eq!(taken, table[feature] && kind_is_taken, "{feature}");
    }
}

#[test]
fn the_page_for_users_has_objects_that_are_read_and_names_what_is_refused() {
    let page = include_str!("../../../../docs/traffic.md");
    let blocks = page.split("```").skip(1).step_by(2);
    let mut kinds = Vec::new();
    for block in blocks.filter_map(|block| block.strip_prefix("yaml\n")) {
        let object = read(&serde_saphyr::from_str(block).unwrap()).unwrap();
        kinds.push(object.key().kind.as_str());
    }
    assert_eq!(kinds, ["Service", "Route", "Gateway", "External"]);

    let (_, refused) = page.split_once("## Not yet done").unwrap();
    let refused: BTreeSet<_> = refused
        .split(|letter: char| !letter.is_ascii_alphanumeric())
        .collect();
    // What only a Route can state is refused with its kind.
    let own: [&str; 8] = [
        "Route",
        "Gateway",
        "External",
        "balance",
        "breaker",
        "bulkhead",
        "rateLimit",
        "health",
    ];
    for (feature, enforced) in ENFORCED.iter().filter(|(name, _)| own.contains(name)) {
        assert_eq!(refused.contains(feature), !enforced, "{feature}");
    }
}
