//! Traffic settings, Routes, Gateways and Externals: what their fields may say.

use proptest::prelude::*;
use serde_json::json;

use super::super::yaml;
use super::*;
use crate::resource::{Balance, Fraction, Resource};

fn reading(kind: &str, spec: &str) -> Result<Resource, ParseError> {
    parse_json(&yaml::values(&object(kind, spec)).unwrap()[0])
}

#[track_caller]
fn refused(kind: &str, spec: &str, pointer: &str, suggestion: Option<&str>) {
    let error = reading(kind, spec).unwrap_err();
    assert_eq!(
        (error.pointer.as_str(), error.suggestion.as_deref()),
        (format!("/spec{pointer}").as_str(), suggestion),
        "{spec}: {error}"
    );
}

fn port(protocol: &str, field: &str) -> String {
    format!("{{workloads: [a/b], ports: [{{name: p, port: 1, protocol: {protocol}, {field}}}]}}")
}

fn rule(field: &str) -> String {
    format!("{{service: a, port: p, rules: [{{backends: [{{service: a}}], {field}}}]}}")
}

#[track_caller]
fn port_refused(field: &str, pointer: &str, suggestion: Option<&str>) {
    let pointer = format!("/ports/0{pointer}");
    refused("Service", &port("http", field), &pointer, suggestion);
}

#[track_caller]
fn rule_refused(field: &str, pointer: &str, suggestion: Option<&str>) {
    refused(
        "Route",
        &rule(field),
        &format!("/rules/0{pointer}"),
        suggestion,
    );
}

#[test]
fn a_limit_that_limits_nothing_is_refused() {
    port_refused("breaker: {ejectFor: 1s}", "/breaker", None);
    port_refused("bulkhead: {}", "/bulkhead", None);
    port_refused("rateLimit: {}", "/rateLimit", None);
    port_refused("bulkhead: {inFlight: 0}", "/bulkhead/inFlight", None);
    port_refused(
        "rateLimit: {requestsPerSecond: 0}",
        "/rateLimit/requestsPerSecond",
        None,
    );
    rule_refused("timeout: {}", "/timeout", None);
    rule_refused("fault: {}", "/fault", None);
    rule_refused("headers: {}", "/headers", None);
    rule_refused(
        "fault: {abort: {percent: 0, status: 503}}",
        "/fault/abort/percent",
        None,
    );
}

#[test]
fn a_limit_that_contradicts_itself_is_refused() {
    port_refused(
        "bulkhead: {inFlight: 1, perCaller: {inFlight: 2}}",
        "/bulkhead",
        None,
    );
    port_refused("rateLimit: {burst: 5}", "/rateLimit", None);
    port_refused(
        "health: {path: /h, every: 1s, timeout: 2s}",
        "/health/timeout",
        None,
    );
    rule_refused(
        "timeout: {request: 1s, perTry: 2s}",
        "/timeout/perTry",
        None,
    );
    rule_refused(
        "retry: {limit: 1, backoff: {base: 1s, max: 10ms}}",
        "/retry/backoff/max",
        None,
    );
    rule_refused("headers: {set: {x-a: b}, remove: [X-A]}", "/headers", None);
}

#[test]
fn values_outside_their_range_are_refused() {
    for below in ["0", "1.5", "-0.1", "0.00001", "half"] {
        let rate =
            format!("breaker: {{successRate: {{below: {below}, over: 10s, minRequests: 1}}}}");
        port_refused(&rate, "/breaker/successRate/below", None);
    }
    for by in ["0ms", "1us", "6m", "soon", "1500us"] {
        let delay = format!("fault: {{delay: {{percent: 1, by: {by}}}}}");
        rule_refused(&delay, "/fault/delay/by", None);
    }
    for percent in ["0", "101", "0.001"] {
        let mirror = format!("mirror: {{service: m, percent: {percent}}}");
        rule_refused(&mirror, "/mirror/percent", None);
    }
    for status in ["200", "399", "600", "'503'"] {
        let abort = format!("fault: {{abort: {{percent: 1, status: {status}}}}}");
        rule_refused(&abort, "/fault/abort/status", None);
    }
    rule_refused("retry: {limit: 0}", "/retry/limit", None);
    rule_refused("retry: {limit: 11}", "/retry/limit", None);
    rule_refused("hedge: {after: 10ms, limit: 6}", "/hedge/limit", None);
}

#[test]
fn a_tcp_port_has_nothing_that_speaks_of_requests() {
    for (field, pointer) in [
        (
            "balance: {algorithm: {hash: {header: x}}}",
            "/balance/algorithm/hash",
        ),
        ("bulkhead: {pending: 1}", "/bulkhead/pending"),
        ("rateLimit: {requestsPerSecond: 1}", "/rateLimit"),
        ("health: {path: /}", "/health"),
    ] {
        let pointer = format!("/ports/0{pointer}");
        refused("Service", &port("tcp", field), &pointer, None);
        assert!(reading("Service", &port("grpc", field)).is_ok(), "{field}");
    }
}

#[test]
fn algorithms_are_named_or_told_the_nearest() {
    port_refused(
        "balance: {algorithm: round-robbin}",
        "/balance/algorithm",
        Some("round-robin"),
    );
    port_refused(
        "balance: {algorithm: hash}",
        "/balance/algorithm",
        Some("{hash: {header: x-user}}"),
    );
    port_refused(
        "balance: {algorithm: {hash: {header: host}}}",
        "/balance/algorithm/hash/header",
        None,
    );
}

#[test]
fn misspelt_traffic_fields_are_told_the_nearest_one() {
    port_refused("breakr: {}", "/breakr", Some("breaker"));
    port_refused(
        "breaker: {consecutiveFailure: 1}",
        "/breaker/consecutiveFailure",
        Some("consecutiveFailures"),
    );
    rule_refused("retry: {limits: 1}", "/retry/limits", Some("limit"));
    rule_refused("timeouts: {}", "/timeouts", Some("timeout"));
}

#[test]
fn a_health_path_is_one_that_requests_can_have() {
    port_refused("health: {path: '/a//b'}", "/health/path", None);
    port_refused("health: {path: '/%61'}", "/health/path", Some("/a"));
    port_refused("health: {path: '/a?b'}", "/health/path", None);
}

#[test]
fn calls_must_have_somewhere_to_go() {
    let rules = |rule: &str| format!("{{service: a, port: p, rules: [{rule}]}}");
    refused("Route", "{service: a, port: p, rules: []}", "/rules", None);
    refused("Route", &rules("{}"), "/rules/0", None);
    refused("Route", &rules("{backends: []}"), "/rules/0/backends", None);
    let unweighted = rules("{backends: [{service: a, weight: 0}]}");
    refused("Route", &unweighted, "/rules/0/backends", None);
    let twice = rules("{backends: [{service: a}, {service: a}]}");
    refused("Route", &twice, "/rules/0/backends/1", None);
    let heavy = rules("{backends: [{service: a, weight: 1000001}]}");
    refused("Route", &heavy, "/rules/0/backends/0/weight", None);
}

#[test]
fn headers_that_a_proxy_owns_cannot_be_changed() {
    for name in [
        "host",
        "Connection",
        "transfer-encoding",
        "content-length",
        "te",
        "upgrade",
        "keep-alive",
        "proxy-authorization",
        "http2-settings",
        "expect",
        "x-forwarded-client-cert",
        "X_Forwarded_Client_Cert",
        "countersign-decision",
        "countersign_reason",
    ] {
        let set = format!("headers: {{set: {{{name}: a}}}}");
        rule_refused(&set, &format!("/headers/set/{name}"), None);
        let remove = format!("headers: {{remove: [{name}]}}");
        rule_refused(&remove, "/headers/remove/0", None);
    }
    rule_refused("headers: {set: {':path': /}}", "/headers/set/:path", None);
    rule_refused("headers: {set: {x: \"a\\r\\nb\"}}", "/headers/set/x", None);
}

#[test]
fn only_outcomes_that_may_pass_are_tried_again() {
    for outcome in ["'200'", "'404'", "'600'", "'0503'", "5xx", "timeout"] {
        let retry = format!("retry: {{limit: 1, on: [{outcome}]}}");
        rule_refused(&retry, "/retry/on/0", None);
    }
    rule_refused(
        "retry: {limit: 1, on: [503]}",
        "/retry/on/0",
        Some("\"503\""),
    );
    rule_refused("retry: {limit: 1, on: []}", "/retry/on", None);
    rule_refused(
        "retry: {limit: 1, on: [rest]}",
        "/retry/on/0",
        Some("reset"),
    );
    rule_refused(
        "retry: {limit: 1, methods: all}",
        "/retry/methods",
        Some("idempotent"),
    );
    for method in ["Get", "a.B/", "/Get", "a..B/Get", "a.B/Get/x", "1a.B/Get"] {
        let retry = format!("retry: {{limit: 1, methods: {{grpc: ['{method}']}}}}");
        rule_refused(&retry, "/retry/methods/grpc/0", None);
    }
}

#[test]
fn an_unsafe_method_is_never_hedged() {
    let hedged =
        |methods: &str| format!("match: [{{methods: [{methods}]}}], hedge: {{after: 10ms}}");
    rule_refused(&hedged("GET, POST"), "/hedge", None);
    assert!(reading("Route", &rule(&hedged("GET, HEAD, OPTIONS"))).is_ok());
}

const LISTENER: &str = "{workloads: [a/b], listeners: [{name: web, port: 443, hosts: [HOST], \
                        tls: {certificateFile: /c, keyFile: KEY}, \
                        routes: [{service: a/b, port: p}]}]}";

#[test]
fn a_gateway_has_exact_hosts_and_absolute_files() {
    let gateway = |host: &str, key: &str| LISTENER.replace("HOST", host).replace("KEY", key);
    let hosts = "/listeners/0/hosts/0";
    refused("Gateway", &gateway("'*.example'", "/k"), hosts, None);
    refused("Gateway", &gateway("'a.example:443'", "/k"), hosts, None);
    refused(
        "Gateway",
        &gateway("A.example", "/k"),
        hosts,
        Some("a.example"),
    );
    let key = "/listeners/0/tls/keyFile";
    refused("Gateway", &gateway("a.example", "k"), key, None);
    refused("Gateway", &gateway("a.example", "/a/../k"), key, None);
    assert!(reading("Gateway", &gateway("a.example", "/k")).is_ok());
}

#[test]
fn an_external_says_who_may_call_and_who_vouches() {
    let external = |tls: &str, from: &str| {
        format!("{{hosts: [api.example], port: 443, tls: {tls}, from: [{from}]}}")
    };
    let anyone = "{any: mtls-peer}";
    refused(
        "External",
        &external("{mode: originate, roots: system}", ""),
        "/from",
        None,
    );
    refused(
        "External",
        &external("{mode: originate}", anyone),
        "/tls",
        None,
    );
    let roots = external("{mode: originate, roots: all}", anyone);
    refused("External", &roots, "/tls/roots", Some("system"));
    let relative = external("{mode: originate, roots: {file: r.pem}}", anyone);
    refused("External", &relative, "/tls/roots/file", None);
    let mode = external("{mode: none, roots: system}", anyone);
    refused("External", &mode, "/tls/mode", Some("originate"));
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let Ok(Resource::Service(service)) = reading(
        "Service",
        &port(
            "http",
            "breaker: {consecutiveFailures: 5}, rateLimit: {requestsPerSecond: 7}, health: {path: /, every: 500ms}",
        ),
    ) else {
        panic!("a Service");
    };
    let traffic = &service.ports[0].traffic;
    let breaker = traffic.breaker.as_ref().unwrap();
    assert_eq!(traffic.balance, Balance::Ewma);
    assert_eq!(
        (breaker.eject_for.as_secs(), breaker.max_ejected.as_f64()),
        (10, 0.5)
    );
    assert_eq!(traffic.rate_limit.as_ref().unwrap().total.unwrap().burst, 7);
    assert_eq!(traffic.health.as_ref().unwrap().timeout.as_millis(), 500);

    let Ok(Resource::Route(route)) =
        reading("Route", &rule("retry: {limit: 1}, mirror: {service: m}"))
    else {
        panic!("a Route");
    };
    let (retry, mirror) = (
        route.rules[0].retry.as_ref().unwrap(),
        route.rules[0].mirror.as_ref(),
    );
    assert_eq!((retry.on.len(), retry.budget.min_per_second), (2, 10));
    assert_eq!(
        (
            retry.backoff.base.as_millis(),
            retry.backoff.max.as_millis()
        ),
        (25, 250)
    );
    assert_eq!(
        (route.rules[0].backends[0].weight, mirror.unwrap().percent),
        (1, Fraction::ALL)
    );
}

fn maybe(value: Value) -> impl Strategy<Value = Option<Value>> {
    prop::option::of(Just(value))
}

/// Some of the given fields.
fn some_of(fields: Vec<(&'static str, Value)>) -> impl Strategy<Value = Value> {
    let chosen: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| {
            maybe(value).prop_map(move |value| value.map(|it| (name.to_owned(), it)))
        })
        .collect();
    chosen.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect()))
}

fn with(mut base: Value, fields: Value) -> Value {
    if let (Value::Object(base), Value::Object(fields)) = (&mut base, fields) {
        base.extend(fields);
    }
    base
}

fn services() -> impl Strategy<Value = Value> {
    let duration = (100_u64..3_600_000).prop_map(|ms| format!("{ms}ms"));
    (1_u16..=10_000, 1_u32.., duration).prop_flat_map(|(parts, count, duration)| {
        let share = json!(f64::from(parts) / 10_000.0);
        let fields = some_of(vec![
            ("balance", json!({"algorithm": {"hash": {"header": "X-User"}}})),
            ("breaker", json!({"consecutiveFailures": count, "maxEjected": share, "ejectFor": duration, "successRate": {"below": share, "over": "1m 30s", "minRequests": count}})),
            ("bulkhead", json!({"connections": count, "perCaller": {"inFlight": count}})),
            ("rateLimit", json!({"requestsPerSecond": count, "perCaller": {"requestsPerSecond": 1, "burst": count}})),
            ("health", json!({"path": "/healthz", "every": duration})),
        ]);
        fields.prop_map(|fields| {
            let port = with(json!({"name": "p", "port": 80, "protocol": "http"}), fields);
            json!({"apiVersion": API_VERSION, "kind": "Service", "metadata": {"namespace": "n", "name": "s"}, "spec": {"workloads": ["a/b"], "ports": [port]}})
        })
    })
}

fn routes() -> impl Strategy<Value = Value> {
    (1_u16..=10_000, 0_u32..1_000, 1_u64..60_000).prop_flat_map(|(parts, weight, ms)| {
        let percent = json!(f64::from(parts) / 100.0);
        let duration = format!("{ms}ms");
        let fields = some_of(vec![
            ("match", json!([{"methods": ["GET"], "path": "/a/{b}"}, {"headers": {"X-A": "b"}}])),
            ("timeout", json!({"request": duration, "perTry": "1ms", "idle": "1h"})),
            ("retry", json!({"limit": 3, "on": ["503", "reset"], "methods": {"grpc": ["a.b.C/Get"]}, "backoff": {"base": "1ms"}})),
            ("hedge", json!({"after": duration})),
            ("fault", json!({"delay": {"percent": percent, "by": duration}, "abort": {"percent": percent, "status": 503}})),
            ("mirror", json!({"service": "m", "percent": percent})),
            ("headers", json!({"set": {"x-b": "c d", "X-A": "~"}, "remove": ["x-c"]})),
        ]);
        fields.prop_map(move |fields| {
            let rule = with(json!({"backends": [{"service": "a"}, {"service": "b", "weight": weight}]}), fields);
            json!({"apiVersion": API_VERSION, "kind": "Route", "metadata": {"namespace": "n", "name": "r"}, "spec": {"service": "a", "port": "p", "rules": [rule]}})
        })
    })
}

fn edges() -> impl Strategy<Value = Value> {
    let metadata = json!({"namespace": "n", "name": "e"});
    let gateway = json!({"workloads": ["a/b"], "listeners": [{"name": "web", "port": 443, "hosts": ["a.example", "b.example"], "tls": {"certificateFile": "/c", "keyFile": "/k"}, "routes": [{"path": "/a", "methods": ["GET"], "service": "a/b", "port": "p"}, {"service": "a/b", "port": "p"}]}]});
    let external = |roots: Value| json!({"hosts": ["api.example"], "port": 443, "tls": {"mode": "originate", "roots": roots}, "from": [{"workload": "a/b"}, {"namespace": "c"}]});
    let object = move |kind: &str, spec: Value| json!({"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec});
    prop_oneof![
        Just(object("Gateway", gateway)),
        Just(object("External", external(json!("system")))),
        Just(object("External", external(json!({"file": "/r.pem"})))),
    ]
}

proptest! {
    #[test]
    fn canonical_form_gives_traffic_back(value in prop_oneof![services(), routes(), edges()]) {
        let object = parse_json(&value).unwrap();
        let canonical = object.to_json();
        prop_assert_eq!(parse_json(&canonical), Ok(object));
        prop_assert_eq!(parse_json(&canonical).unwrap().to_json(), canonical);
    }

    #[test]
    fn no_traffic_with_one_character_more_panics(value in prop_oneof![services(), routes(), edges()], at in any::<prop::sample::Index>(), by in "[-0-9a-z{}\\[\\]:,\"*/. ]") {
        let text = value.to_string();
        let (start, _) = text.char_indices().nth(at.index(text.len())).unwrap();
        let text = format!("{}{by}{}", &text[..start], &text[start..]);
        for value in yaml::values(&text).unwrap_or_default() {
            drop(parse_json(&value));
        }
    }

    #[test]
    fn every_fraction_is_read_exactly(parts in 1_u16..=10_000) {
        let field = format!("mirror: {{service: m, percent: {}.{:02}}}", parts / 100, parts % 100);
        let Ok(Resource::Route(route)) = reading("Route", &rule(&field)) else {
            panic!("{field}");
        };
        prop_assert_eq!(route.rules[0].mirror.as_ref().unwrap().percent.parts(), parts);
    }
}

#[test]
fn the_page_for_users_has_objects_that_are_read() {
    let page = include_str!("../../../../../docs/traffic.md");
    let blocks = page.split("```").skip(1).step_by(2);
    let read = blocks.filter_map(|block| block.strip_prefix("yaml\n"));
    let kinds: Vec<_> = read
        .map(|block| {
            parse_json(&yaml::values(block).unwrap()[0])
                .unwrap()
                .key()
                .kind
                .as_str()
        })
        .collect();
    assert_eq!(kinds, ["Service", "Route", "Gateway", "External"]);
}
