//! Routes, Gateways and Externals beside the objects that they speak of.

use super::*;
use crate::parse::parse_json;

const MESH: [&str; 5] = [
    "{kind: Workload, metadata: {namespace: shop, name: w}, spec: {selectors: {unix: {uid: 1}}}}",
    "{kind: Service, metadata: {namespace: shop, name: orders}, spec: {workloads: [shop/w], ports: [{name: http, port: 80, protocol: http}, {name: raw, port: 81, protocol: tcp}]}}",
    "{kind: Service, metadata: {namespace: shop, name: second}, spec: {workloads: [shop/w], ports: [{name: http, port: 80, protocol: http}]}}",
    "{kind: Service, metadata: {namespace: shop, name: calls}, spec: {workloads: [shop/w], ports: [{name: http, port: 80, protocol: grpc}, {name: raw, port: 81, protocol: http}]}}",
    "{kind: Service, metadata: {namespace: shop, name: other}, spec: {workloads: [shop/w], ports: [{name: web, port: 80, protocol: http}]}}",
];

fn named(kind: &str, name: &str, spec: &str) -> String {
    format!("{{kind: {kind}, metadata: {{namespace: shop, name: {name}}}, spec: {spec}}}")
}

fn judged(objects: &[String]) -> Vec<(String, RefusalCode)> {
    let texts = MESH.iter().map(|text| (*text).to_owned());
    let set: ObjectSet = texts
        .chain(objects.iter().cloned())
        .map(|text| {
            let mut value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
            value["apiVersion"] = serde_json::json!("countersign.dev/v1");
            parse_json(&value).unwrap_or_else(|error| panic!("{text}: {error}"))
        })
        .collect();
    let mesh = MeshNames::new("td".parse().unwrap(), IdTemplate::default());
    match set.validate(&mesh) {
        Ok(()) => Vec::new(),
        Err(refusals) => refusals
            .into_iter()
            .map(|refusal| (refusal.pointer, refusal.code))
            .collect(),
    }
}

#[track_caller]
fn one_refusal(objects: &[String], pointer: &str, code: RefusalCode) {
    assert_eq!(judged(objects), [(pointer.to_owned(), code)]);
}

fn route(name: &str, service: &str, port: &str, rules: &str) -> String {
    let spec = format!("{{service: {service}, port: {port}, rules: [{rules}]}}");
    named("Route", name, &spec)
}

const TO_ORDERS: &str = "{backends: [{service: orders}]}";

#[test]
fn a_route_for_what_is_not_there_is_refused() {
    let code = RefusalCode::UnknownBackend;
    one_refusal(
        &[route("r", "ghost", "http", TO_ORDERS)],
        "/spec/service",
        code,
    );
    one_refusal(
        &[route("r", "orders", "ghost", TO_ORDERS)],
        "/spec/port",
        code,
    );
    let rule = "{backends: [{service: orders}, {service: ghost}]}";
    one_refusal(
        &[route("r", "orders", "http", rule)],
        "/spec/rules/0/backends/1/service",
        code,
    );
    let rule = "{backends: [{service: other}]}";
    one_refusal(
        &[route("r", "orders", "http", rule)],
        "/spec/rules/0/backends/0/service",
        code,
    );
    let rule = "{backends: [{service: orders}], mirror: {service: ghost}}";
    one_refusal(
        &[route("r", "orders", "http", rule)],
        "/spec/rules/0/mirror/service",
        code,
    );
}

#[test]
fn a_route_across_protocols_is_refused() {
    let code = RefusalCode::ProtocolMismatch;
    one_refusal(
        &[route("r", "orders", "raw", TO_ORDERS)],
        "/spec/port",
        code,
    );
    let rule = "{backends: [{service: calls}]}";
    one_refusal(
        &[route("r", "orders", "http", rule)],
        "/spec/rules/0/backends/0/service",
        code,
    );
    let rule = "{backends: [{service: orders}], retry: {limit: 1, methods: {grpc: [a.B/C]}}}";
    one_refusal(
        &[route("r", "orders", "http", rule)],
        "/spec/rules/0/retry/methods",
        code,
    );
    let rule = "{backends: [{service: calls}], hedge: {after: 1s}}";
    one_refusal(
        &[route("r", "calls", "http", rule)],
        "/spec/rules/0/hedge",
        code,
    );
}

#[test]
fn identical_matches_are_refused_whatever_their_placeholders_are_called() {
    let rules = |first: &str, second: &str| {
        let rule = |entry: &str| format!("{{match: [{entry}], backends: [{{service: orders}}]}}");
        route(
            "r",
            "orders",
            "http",
            &format!("{}, {}", rule(first), rule(second)),
        )
    };
    let code = RefusalCode::Duplicate;
    let same = rules(
        "{path: '/a/{x}', methods: [GET, PUT]}",
        "{methods: [PUT, GET], path: '/a/{y}'}",
    );
    one_refusal(&[same], "/spec/rules/1/match/0", code);
    let twice = format!("{TO_ORDERS}, {TO_ORDERS}");
    one_refusal(
        &[route("r", "orders", "http", &twice)],
        "/spec/rules/1",
        code,
    );
    for (first, second) in [
        ("{path: '/a/{x}'}", "{path: '/a/{x=**}'}"),
        ("{path: '/a'}", "{path: '/a', methods: [GET]}"),
        ("{headers: {x: a}}", "{headers: {x: b}}"),
    ] {
        assert_eq!(judged(&[rules(first, second)]), [], "{first} {second}");
    }
}

#[test]
fn two_routes_for_one_port_are_refused() {
    let routes = [
        route("r", "orders", "http", TO_ORDERS),
        route("s", "orders", "http", TO_ORDERS),
    ];
    one_refusal(&routes, "/spec/port", RefusalCode::Overlapping);
    let apart = [
        route("r", "orders", "http", TO_ORDERS),
        route("s", "second", "http", TO_ORDERS),
    ];
    assert_eq!(judged(&apart), []);
}

fn gateway(name: &str, workload: &str, host: &str, target: &str) -> String {
    let spec = format!(
        "{{workloads: [shop/{workload}], listeners: [{{name: web, port: 443, hosts: [{host}], \
         tls: {{certificateFile: /c, keyFile: /k}}, routes: [{target}]}}]}}"
    );
    named("Gateway", name, &spec)
}

const SHOP: &str = "{service: shop/orders, port: http}";

#[test]
fn a_gateway_to_or_of_what_is_not_there_is_refused() {
    let to = |target: &str| [gateway("g", "w", "a.example", target)];
    let at = "/spec/listeners/0/routes/0";
    let (service, port) = (format!("{at}/service"), format!("{at}/port"));
    one_refusal(
        &to("{service: shop/ghost, port: http}"),
        &service,
        RefusalCode::UnknownBackend,
    );
    one_refusal(
        &to("{service: shop/orders, port: x}"),
        &port,
        RefusalCode::UnknownBackend,
    );
    one_refusal(
        &to("{service: shop/orders, port: raw}"),
        &port,
        RefusalCode::ProtocolMismatch,
    );
    let of = [gateway("g", "ghost", "a.example", SHOP)];
    one_refusal(&of, "/spec/workloads/0", RefusalCode::UnknownWorkload);
    let twice = format!("{SHOP}, {SHOP}");
    one_refusal(
        &to(&twice),
        "/spec/listeners/0/routes/1",
        RefusalCode::Duplicate,
    );
}

#[test]
fn a_host_on_one_port_of_a_workload_has_one_gateway() {
    let both = |host| {
        [
            gateway("g", "w", "a.example", SHOP),
            gateway("h", "w", host, SHOP),
        ]
    };
    one_refusal(
        &both("a.example"),
        "/spec/listeners/0/hosts/0",
        RefusalCode::Overlapping,
    );
    assert_eq!(judged(&both("b.example")), []);
}

fn external(name: &str, host: &str, from: &str) -> String {
    let spec = format!(
        "{{hosts: [{host}], port: 443, tls: {{mode: originate, roots: system}}, from: [{from}]}}"
    );
    named("External", name, &spec)
}

#[test]
fn a_host_of_the_mesh_is_neither_way_in_nor_out() {
    for host in ["mesh.internal", "orders.shop.mesh.internal"] {
        let out = [external("e", host, "{namespace: shop}")];
        one_refusal(&out, "/spec/hosts/0", RefusalCode::MeshHost);
        let way_in = [gateway("g", "w", host, SHOP)];
        one_refusal(&way_in, "/spec/listeners/0/hosts/0", RefusalCode::MeshHost);
    }
    assert_eq!(
        judged(&[external("e", "notmesh.internal", "{namespace: shop}")]),
        []
    );
}

#[test]
fn a_host_outside_belongs_to_one_external() {
    let externals = ["e", "f"].map(|name| external(name, "api.example", "{namespace: shop}"));
    one_refusal(&externals, "/spec/hosts/0", RefusalCode::Overlapping);
}

#[test]
fn a_caller_of_an_external_must_be_one_that_can_be_known() {
    let caller = "{workload: shop/w, trustDomain: elsewhere.example}";
    let pointer = "/spec/from/0/trustDomain";
    one_refusal(
        &[external("e", "api.example", caller)],
        pointer,
        RefusalCode::NotYetSupported,
    );
}

#[test]
fn deleting_what_a_route_leads_to_is_refused() {
    let rule = "{backends: [{service: gone}]}";
    let objects = [route("r", "orders", "http", rule)];
    let code = RefusalCode::UnknownBackend;
    one_refusal(&objects, "/spec/rules/0/backends/0/service", code);
}
