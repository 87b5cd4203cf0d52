use proptest::prelude::*;
use serde_json::json;

use super::*;

mod traffic;

fn object(kind: &str, spec: &str) -> String {
    let metadata = if kind == "Baseline" {
        "{name: n}"
    } else {
        "{namespace: ns, name: n}"
    };
    format!("{{apiVersion: countersign.dev/v1, kind: {kind}, metadata: {metadata}, spec: {spec}}}")
}

#[track_caller]
fn refused(text: &str, pointer: &str, code: &str, suggestion: Option<&str>) {
    let error = parse_documents(text).unwrap_err();
    let found = (
        error.pointer.as_str(),
        error.code.as_str(),
        error.suggestion.as_deref(),
    );
    assert_eq!(found, (pointer, code, suggestion), "{text}: {error}");
}

#[track_caller]
fn spec_refused(kind: &str, spec: &str, pointer: &str, code: &str, suggestion: Option<&str>) {
    refused(
        &object(kind, spec),
        &format!("/spec{pointer}"),
        code,
        suggestion,
    );
}

const TARGETS: &str = "targets: [{service: a, port: http}]";

#[test]
fn envelope_is_checked_field_by_field() {
    refused("{kind: Policy}", "", "missing-field", None);
    refused(
        "{apiVersion: v2, kind: Policy}",
        "/apiVersion",
        "invalid-value",
        Some(API_VERSION),
    );
    refused(
        &object("Polcy", "{}"),
        "/kind",
        "unknown-kind",
        Some("Policy"),
    );
    refused(
        &object("Policy", "{}").replace("spec", "sepc"),
        "/sepc",
        "unknown-field",
        Some("spec"),
    );
    refused("[1]", "", "invalid-value", None);
}

#[test]
fn fields_of_the_design_that_are_not_there_yet_are_refused_as_such() {
    let rule =
        |more: &str| format!("{{{TARGETS}, allow: [{{id: r, from: [{{namespace: a}}], {more}}}]}}");
    let port = |more: &str| {
        format!("{{workloads: [a/b], ports: [{{name: p, port: 1, protocol: http, {more}: 1}}]}}")
    };
    let later = |kind, spec: &str, pointer: &str| {
        spec_refused(kind, spec, pointer, "not-yet-supported", None);
    };
    later("Policy", &rule("when: {jwt: {}}"), "/allow/0/when");
    later("Policy", &rule("to: {grpc: []}"), "/allow/0/to/grpc");
    later(
        "Policy",
        &format!("{{{TARGETS}, allow: [], enforcement: {{}}}}"),
        "/enforcement",
    );
    later(
        "Policy",
        &format!("{{{TARGETS}, allow: [], candidate: x}}"),
        "/candidate",
    );
    let anyone = format!("{{{TARGETS}, allow: [{{id: r, from: [{{any: unauthenticated}}]}}]}}");
    later("Policy", &anyone, "/allow/0/from/0/any");
    later("Service", &port("pathProfile"), "/ports/0/pathProfile");
    later(
        "Workload",
        "{selectors: {container: {image: a}}}",
        "/selectors/container/image",
    );
    later("Workload", "{federatesWith: []}", "/federatesWith");
}

#[track_caller]
fn agents_refused(agents: &str, pointer: &str, code: &str, suggestion: Option<&str>) {
    let spec = format!("{{selectors: {{unix: {{uid: 1}}}}, agents: {agents}}}");
    spec_refused(
        "Workload",
        &spec,
        &format!("/agents{pointer}"),
        code,
        suggestion,
    );
}

#[test]
fn agents_that_are_not_clearly_named_are_refused() {
    let refused = |agents: &str, pointer: &str, code| agents_refused(agents, pointer, code, None);
    refused("[{}]", "/0", "missing-field");
    refused("[{cluster: prod}]", "/0", "missing-field");
    refused("[{attestor: K8S}]", "/0/attestor", "invalid-value");
    refused(
        "[{attestor: k8s, Cluster: a}]",
        "/0/Cluster",
        "unknown-field",
    );
    refused(
        "[{attestor: k8s, cluster: a*}]",
        "/0/cluster",
        "invalid-value",
    );
    refused(
        "[{attestor: k8s, cluster: \"\"}]",
        "/0/cluster",
        "invalid-value",
    );
    refused(
        "[{attestor: k8s, cluster: [a, b]}]",
        "/0/cluster",
        "invalid-value",
    );
    refused(
        "[{attestor: a, b: c}, {b: c, attestor: a}]",
        "/1",
        "duplicate",
    );
    agents_refused(
        "[{attestor: k8s, tenant: 42}]",
        "/0/tenant",
        "invalid-value",
        Some("\"42\""),
    );
}

#[test]
fn more_selectors_or_entries_than_are_judged_are_refused() {
    let selectors: Vec<_> = (0..9).map(|number| format!("s{number}: a")).collect();
    let entry = format!("[{{attestor: k8s, {}}}]", selectors.join(", "));
    agents_refused(&entry, "/0/s8", "invalid-value", None);
    let entries: Vec<_> = (0..33)
        .map(|number| format!("{{attestor: a{number}}}"))
        .collect();
    let entries = format!("[{}]", entries.join(", "));
    agents_refused(&entries, "", "invalid-value", None);
}

#[test]
fn selectors_that_recognise_nobody_or_somebody_else_are_refused() {
    let refused = |selectors: &str, pointer: &str, code| {
        let spec = format!("{{selectors: {selectors}}}");
        spec_refused("Workload", &spec, pointer, code, None);
    };
    refused("{}", "/selectors", "missing-field");
    refused("{systemd: {}}", "/selectors/systemd", "missing-field");
    refused("{container: {}}", "/selectors/container", "missing-field");
    refused(
        "{container: {id: abc}}",
        "/selectors/container/id",
        "invalid-value",
    );
    refused(
        "{container: {pod: web-7}}",
        "/selectors/container/pod",
        "invalid-value",
    );
}

#[test]
fn units_of_users_and_names_that_are_no_units_are_refused() {
    for unit in [
        "orders",
        "orders.slice",
        "user@1000.service",
        "a/b.service",
        "a b.service",
    ] {
        let spec = format!("{{selectors: {{systemd: {{unit: '{unit}'}}}}}}");
        let pointer = "/selectors/systemd/unit";
        let suggestion = Some("orders.service");
        spec_refused("Workload", &spec, pointer, "invalid-value", suggestion);
    }
}

#[test]
fn a_workload_may_be_recognised_by_unit_and_container_alone() {
    let id = "ab".repeat(32);
    let spec = format!(
        "{{apiVersion: countersign.dev/v1, kind: Workload, metadata: {{namespace: a, name: b}}, \
         spec: {{selectors: {{systemd: {{unit: orders.service}}, \
         container: {{id: {id}, pod: 8a4c3f0e-7c1d-4a53-9a0e-0d6f5b1c2e3a}}}}}}}}"
    );
    let parsed = parse_documents(&spec).unwrap();
    let again = parse_documents(&parsed[0].to_json().to_string()).unwrap();
    assert_eq!(parsed, again);
    assert_eq!(
        again[0].to_json()["spec"]["selectors"]["container"]["id"],
        id
    );
}

#[test]
fn permissive_is_refused_and_strict_may_be_written() {
    let peers =
        |mode: &str| format!("{{{TARGETS}, peers: [{{mtls: {{mode: {mode}}}}}], allow: []}}");
    spec_refused(
        "Policy",
        &peers("permissive"),
        "/peers/0/mtls/mode",
        "not-yet-supported",
        Some("strict"),
    );
    spec_refused(
        "Policy",
        &peers("lax"),
        "/peers/0/mtls/mode",
        "invalid-value",
        Some("strict"),
    );
    assert!(parse_documents(&object("Policy", &peers("strict"))).is_ok());
}

#[test]
fn other_key_types_are_not_there_yet() {
    let spec = "{selectors: {unix: {uid: 1}}, keyType: rsa-2048}";
    spec_refused(
        "Workload",
        spec,
        "/keyType",
        "not-yet-supported",
        Some("ec-p256"),
    );
}

#[test]
fn leaving_out_never_carries_meaning() {
    let rule = |rule: &str| format!("{{{TARGETS}, allow: [{rule}]}}");
    let to = |to: &str| rule(&format!("{{id: r, from: [{{namespace: a}}], to: {to}}}"));
    for (kind, spec, pointer, code) in [
        ("Policy", format!("{{{TARGETS}}}"), "", "missing-field"),
        (
            "Policy",
            "{targets: [], allow: []}".to_owned(),
            "/targets",
            "invalid-value",
        ),
        (
            "Policy",
            rule("{from: [{namespace: a}]}"),
            "/allow/0",
            "missing-field",
        ),
        ("Policy", rule("{id: r}"), "/allow/0", "missing-field"),
        (
            "Policy",
            rule("{id: r, from: []}"),
            "/allow/0/from",
            "invalid-value",
        ),
        ("Policy", to("{}"), "/allow/0/to", "missing-field"),
        (
            "Policy",
            to("{http: []}"),
            "/allow/0/to/http",
            "invalid-value",
        ),
        (
            "Policy",
            to("{http: [{}]}"),
            "/allow/0/to/http/0",
            "invalid-value",
        ),
        (
            "Baseline",
            "{scope: {}, deny: []}".to_owned(),
            "/scope",
            "invalid-value",
        ),
        (
            "Baseline",
            "{scope: {mesh: true}}".to_owned(),
            "",
            "invalid-value",
        ),
        ("Workload", "{}".to_owned(), "", "missing-field"),
    ] {
        spec_refused(kind, &spec, pointer, code, None);
    }
}

#[test]
fn misspelt_fields_are_told_the_nearest_one() {
    let spec = format!("{{{TARGETS}, alow: []}}");
    spec_refused("Policy", &spec, "/alow", "unknown-field", Some("allow"));
    spec_refused(
        "Policy",
        "{frobnicate: 1}",
        "/frobnicate",
        "unknown-field",
        None,
    );
}

#[test]
fn callers_are_named_exactly_and_in_one_way() {
    let from = |entry: &str| format!("{{{TARGETS}, allow: [{{id: r, from: [{entry}]}}]}}");
    let invalid = |entry: &str, field: &str| {
        spec_refused(
            "Policy",
            &from(entry),
            &format!("/allow/0/from/0{field}"),
            "invalid-value",
            None,
        );
    };
    invalid("{}", "");
    invalid("{workload: a/b, namespace: a}", "");
    invalid("{identity: 'spiffe://td/a', trustDomain: td}", "");
    invalid("{workload: 'a/*'}", "/workload");
    invalid("{namespace: '*'}", "/namespace");
    invalid("{workload: a}", "/workload");
    invalid("{identity: 'spiffe://td/a/'}", "/identity");
    let under = from("{under: 'spiffe://td'}");
    spec_refused(
        "Policy",
        &under,
        "/allow/0/from/0/under",
        "invalid-value",
        Some("trustDomain: td"),
    );
    let reserved = from("{under: 'spiffe://td/countersign'}");
    spec_refused(
        "Policy",
        &reserved,
        "/allow/0/from/0/under",
        "invalid-value",
        Some("identity: spiffe://…"),
    );
}

#[test]
fn http_matches_say_what_can_be_compared() {
    let entry = |entry: &str| {
        format!(
            "{{{TARGETS}, allow: [{{id: r, from: [{{namespace: a}}], to: {{http: [{entry}]}}}}]}}"
        )
    };
    let at = |field: &str| format!("/allow/0/to/http/0{field}");
    spec_refused(
        "Policy",
        &entry("{methods: [get]}"),
        &at("/methods/0"),
        "invalid-value",
        Some("GET"),
    );
    spec_refused(
        "Policy",
        &entry("{methods: [GET, GET]}"),
        &at("/methods/1"),
        "duplicate",
        None,
    );
    spec_refused(
        "Policy",
        &entry("{path: '/a/*'}"),
        &at("/path"),
        "invalid-value",
        Some("{rest=**}"),
    );
    spec_refused(
        "Policy",
        &entry("{headers: {Host: a}}"),
        &at("/headers/Host"),
        "invalid-value",
        None,
    );
    spec_refused(
        "Policy",
        &entry("{headers: {x_forwarded_client_cert: a}}"),
        &at("/headers/x_forwarded_client_cert"),
        "invalid-value",
        None,
    );
    spec_refused(
        "Policy",
        &entry("{headers: {X-A: a, x-a: b}}"),
        &at("/headers/x-a"),
        "duplicate",
        None,
    );
    spec_refused(
        "Policy",
        &entry("{headers: {a/b~c: a}}"),
        &at("/headers/a~1b~0c"),
        "invalid-value",
        None,
    );
}

#[test]
fn deny_rules_name_no_requests() {
    let spec = "{scope: {mesh: true}, deny: [{id: r, from: [{namespace: a}], to: {http: []}}]}";
    spec_refused(
        "Baseline",
        spec,
        "/deny/0/to",
        "unknown-field",
        Some("ports: [http]"),
    );
}

#[test]
fn values_of_the_wrong_type_are_told_how_to_be_written() {
    let port = |port: &str| format!("{{workloads: [a/b], ports: [{port}]}}");
    spec_refused(
        "Service",
        &port("{name: p, port: '80', protocol: http}"),
        "/ports/0/port",
        "invalid-value",
        Some("80"),
    );
    spec_refused(
        "Service",
        &port("{name: p, port: 65536, protocol: http}"),
        "/ports/0/port",
        "invalid-value",
        None,
    );
    spec_refused(
        "Service",
        &port("{name: p, port: 0, protocol: http}"),
        "/ports/0/port",
        "invalid-value",
        None,
    );
    spec_refused(
        "Service",
        &port("{name: 8080, port: 80, protocol: http}"),
        "/ports/0/name",
        "invalid-value",
        Some("\"8080\""),
    );
    spec_refused(
        "Service",
        &port("{name: p, port: 80, protocol: HTTP}"),
        "/ports/0/protocol",
        "invalid-value",
        Some("http"),
    );
    spec_refused(
        "Service",
        &port("{name: countersign-health, port: 80, protocol: http}"),
        "/ports/0/name",
        "invalid-value",
        None,
    );
}

#[test]
fn lifetimes_are_whole_seconds_up_to_a_day() {
    for ttl in ["0s", "25h", "1500ms", "soon"] {
        let spec = format!("{{selectors: {{unix: {{uid: 1}}}}, ttl: {ttl}}}");
        spec_refused("Workload", &spec, "/ttl", "invalid-value", Some("1h"));
    }
}

#[test]
fn texts_that_are_not_plain_yaml_are_refused() {
    refused("{a: 1, a: 2}", "", "syntax", None);
    refused("a: [", "", "syntax", None);
    refused("x: &x {a: 1}\ny: {<<: *x}", "", "syntax", None);
    let bomb: String = (1..12).fold("a0: &a0 [x, x, x, x]\n".to_owned(), |text, level| {
        let below = format!("*a{}", level - 1);
        format!("{text}a{level}: &a{level} [{below}, {below}, {below}, {below}]\n")
    });
    refused(&bomb, "", "syntax", None);
    refused(&"[".repeat(1000), "", "syntax", None);
    refused(&" ".repeat(8 * 1024 * 1024 + 1), "", "too-large", None);
}

#[test]
fn the_wrong_document_is_counted() {
    let good = object("Policy", &format!("{{{TARGETS}, allow: []}}"));
    let error = parse_documents(&format!("---\n{good}\n---\n---\n{{kind: 1}}")).unwrap_err();
    assert_eq!(error.document, 1);
    let twice = parse_documents(&format!("{good}\n---\n{good}")).unwrap_err();
    assert_eq!((twice.document, twice.code), (1, ParseCode::Duplicate));
}

#[test]
fn json_is_read_as_the_yaml_that_it_is() {
    let value = parse_documents(&object("Policy", &format!("{{{TARGETS}, allow: []}}")))
        .unwrap()
        .remove(0);
    assert_eq!(
        parse_documents(&value.to_json().to_string()),
        Ok(vec![value])
    );
}

fn sources() -> impl Strategy<Value = Value> {
    let entry = prop_oneof![
        Just(json!({"workload": "shop/a"})),
        Just(json!({"workload": "shop/a", "trustDomain": "td"})),
        Just(json!({"namespace": "shop"})),
        Just(json!({"namespace": "shop", "trustDomain": "other.td"})),
        Just(json!({"identity": "spiffe://td/countersign/agent/a/b"})),
        Just(json!({"under": "spiffe://td/a"})),
        Just(json!({"trustDomain": "td"})),
        Just(json!({"any": "mtls-peer"})),
    ];
    prop::collection::vec(entry, 1..4).prop_map(Value::from)
}

fn rule() -> impl Strategy<Value = Value> {
    let entry = prop_oneof![
        Just(json!({"methods": ["POST", "GET"]})),
        Just(json!({"path": "/a/{b}/{c=**}"})),
        Just(json!({"headers": {"X-A": "b c", "y": "~"}, "path": "/"})),
    ];
    let to = prop::option::of(prop::collection::vec(entry, 1..3));
    ("[a-zA-Z0-9._-]{1,63}", sources(), to).prop_map(|(id, from, to)| {
        let mut rule = json!({"id": id, "from": from});
        if let Some(http) = to {
            rule["to"] = json!({"http": http});
        }
        rule
    })
}

fn policy() -> impl Strategy<Value = Value> {
    let allow = prop::collection::vec(rule(), 0..4);
    (allow, any::<bool>(), any::<bool>()).prop_map(|(allow, inherit, peers)| {
        let mut spec = json!({"targets": [{"service": "a", "port": "p"}], "allow": allow, "inheritBaselineAllow": inherit});
        if peers {
            spec["peers"] = json!([{"mtls": {"mode": "strict"}}]);
        }
        json!({"apiVersion": API_VERSION, "kind": "Policy", "metadata": {"namespace": "n", "name": "p"}, "spec": spec})
    })
}

fn baseline() -> impl Strategy<Value = Value> {
    let scope = prop_oneof![
        Just(json!({"mesh": true})),
        Just(json!({"namespaces": ["b", "a"]}))
    ];
    let ports = prop::option::of(Just(json!(["http", "admin"])));
    (scope, sources(), ports, prop::collection::vec(rule(), 0..3)).prop_map(|(scope, from, ports, allow)| {
        let mut deny = json!({"id": "d", "from": from});
        if let Some(ports) = ports {
            deny["ports"] = ports;
        }
        json!({"apiVersion": API_VERSION, "kind": "Baseline", "metadata": {"name": "b"}, "spec": {"scope": scope, "deny": [deny], "allow": allow}})
    })
}

fn registry() -> impl Strategy<Value = Value> {
    let workload = (any::<u32>(), 1_u32..86_401, any::<bool>(), "[!-)+-~]{1,9}");
    let workload = workload.prop_map(|(uid, ttl, full, ns)| {
        let mut spec = json!({"selectors": {"unix": {"uid": uid}}, "ttl": format!("{ttl}s")});
        if full {
            spec["selectors"]["unix"] = json!({"uid": uid, "gid": 7, "path": "/srv/a", "sha256": "ab".repeat(32)});
            spec["spiffeId"] = json!("spiffe://td/legacy/a");
            spec["agents"] = json!([
                "spiffe://td/countersign/agent/a/b",
                {"attestor": "k8s"},
                {"attestor": "k8s", "cluster": "prod", "namespace": ns},
            ]);
            spec["dnsNames"] = json!(["a.example"]);
            spec["hint"] = json!("h");
            spec["keyType"] = json!("ec-p256");
        }
        json!({"apiVersion": API_VERSION, "kind": "Workload", "metadata": {"namespace": "n", "name": "w"}, "spec": spec})
    });
    let service = (1_u16.., prop::option::of(1_u16..)).prop_map(|(port, app)| {
        let mut first = json!({"name": "http", "port": port, "protocol": "grpc"});
        if let Some(app) = app {
            first["app"] = json!(app);
        }
        let endpoints = json!([{"address": "::1", "ports": {"http": port}, "zone": "a"}, {"address": "db.example", "ports": {"http": 1}}]);
        json!({"apiVersion": API_VERSION, "kind": "Service", "metadata": {"namespace": "n", "name": "s"}, "spec": {"workloads": ["a/b"], "ports": [first], "endpoints": endpoints}})
    });
    prop_oneof![workload, service]
}

proptest! {
    #[test]
    fn canonical_form_gives_the_object_back(value in prop_oneof![policy(), baseline(), registry()]) {
        let object = parse_json(&value).unwrap();
        let canonical = object.to_json();
        prop_assert_eq!(parse_json(&canonical), Ok(object));
        prop_assert_eq!(parse_json(&canonical).unwrap().to_json(), canonical);
    }

    #[test]
    fn no_text_panics(text in "[ a-z{}\\[\\]:,*&<'\"\n-]{0,80}") {
        let _ = parse_documents(&text);
    }

    #[test]
    fn no_object_with_one_field_replaced_panics(value in prop_oneof![policy(), baseline(), registry()], at in any::<prop::sample::Index>(), by in any::<bool>()) {
        let text = value.to_string();
        let (start, _) = text.char_indices().nth(at.index(text.len())).unwrap();
        let _ = parse_documents(&format!("{}{}{}", &text[..start], if by { "null" } else { "*" }, &text[start..]));
    }
}
