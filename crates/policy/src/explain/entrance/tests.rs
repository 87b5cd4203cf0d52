use super::*;
use crate::parse::parse_documents;
use crate::revision::Revision;
use crate::world::{MeshNames, ObjectSet};

const OBJECTS: &str = r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: orders}
spec: {workloads: [shop/orders], ports: [{name: http, port: 80, protocol: http}]}
---
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: orders-v2}
spec: {workloads: [shop/orders], ports: [{name: http, port: 80, protocol: http}]}
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: orders}
spec:
  targets: [{service: orders, port: http}]
  allow:
  - id: gateway
    from: [{workload: edge/gateway}]
    to: {http: [{methods: [GET], path: "/v1/{rest=**}"}, {path: /way, headers: {x-real-ip: "10.0.0.1"}}, {path: /scheme, headers: {x-forwarded-proto: https}}]}
---
apiVersion: countersign.dev/v1
kind: Route
metadata: {namespace: shop, name: orders}
spec:
  service: orders
  port: http
  rules: [{match: [{path: /v1/new}], backends: [{service: orders-v2}]}]
---
apiVersion: countersign.dev/v1
kind: Gateway
metadata: {namespace: edge, name: public}
spec:
  workloads: [edge/gateway, edge/spare]
  listeners:
  - name: web
    port: 443
    hosts: [shop.example]
    tls: {certificateFile: /tls/shop.pem, keyFile: /tls/shop.key}
    routes:
    - {path: "/v1/{rest=**}", service: shop/orders, port: http}
    - {path: "/v1/mine", methods: [GET], service: shop/orders, port: http}
    - {path: /way, service: shop/orders, port: http}
    - {path: /scheme, service: shop/orders, port: http}
"#;

fn enter((host, port): (&str, u16), (method, target): (&str, &str)) -> EntranceExplanation {
    let headers = [("x-real-ip".to_owned(), "10.0.0.1".to_owned())].to_vec();
    let objects: ObjectSet = parse_documents(OBJECTS).unwrap().into_iter().collect();
    let mesh = MeshNames::new("td".parse().unwrap(), identity::IdTemplate::default());
    let revision = Revision {
        epoch: 1,
        number: 4,
    };
    let snapshot = PolicySnapshot::compile(revision, &[0; 32], &mesh, &objects, &[]);
    let arrival = Arrival {
        host,
        port,
        method,
        path: &RequestPath::parse(method, target),
        headers: &headers,
    };
    snapshot.explain_entrance(&arrival, |name| mesh.id(name))
}

#[track_caller]
fn nowhere(host: &str, port: u16) -> String {
    let told = enter((host, port), ("GET", "/"));
    assert_eq!(
        (told.verdict.as_str(), told.reason.as_deref()),
        ("deny", Some(NO_ROUTE))
    );
    assert_eq!(told.entrances, []);
    told.message
}

#[test]
fn a_host_that_no_listener_has_is_told_what_there_is() {
    let at_the_port = nowhere("other.example", 443);
    assert!(
        at_the_port.contains("at port 443 are shop.example"),
        "{at_the_port}"
    );
    let elsewhere = nowhere("shop.example", 8443);
    assert!(elsewhere.contains("it is at 443"), "{elsewhere}");
    let neither = nowhere("other.example", 8443);
    assert!(neither.contains("listens at port 8443"), "{neither}");
}

#[test]
fn a_request_that_no_route_matches_or_of_two_readings_goes_no_further() {
    for (target, reason) in [("/v2", NO_ROUTE), ("/v1/../v2", "path-ambiguous")] {
        let told = enter(("shop.example", 443), ("GET", target));
        let entrance = &told.entrances[0];
        assert_eq!(entrance.reason.as_deref(), Some(reason), "{entrance:?}");
        assert_eq!((told.verdict.as_str(), &entrance.call), ("deny", &None));
    }
}

#[test]
fn policy_judges_the_identity_of_each_workload_that_listens() {
    let told = enter(("Shop.Example.", 443), ("GET", "/v1/7"));
    let judged: Vec<_> = told
        .entrances
        .iter()
        .map(|it| (it.workload.as_str(), it.verdict.as_str()))
        .collect();
    assert_eq!(judged, [("edge/gateway", "allow"), ("edge/spare", "deny")]);
    assert_eq!(told.verdict, "mixed");
    let call = told.entrances[1].call.as_ref().unwrap();
    assert_eq!(call.explanation.source, "spiffe://td/ns/edge/sa/spare");
    assert_eq!(call.explanation.nearest_misses[0].condition, "from");
}

#[test]
fn the_listener_its_files_and_the_route_that_is_followed_are_named() {
    let told = enter(("shop.example", 443), ("GET", "/v1/mine"));
    let entrance = &told.entrances[0];
    assert_eq!(
        [
            &*entrance.object,
            &entrance.listener,
            &entrance.certificate_file,
            &entrance.message
        ],
        [
            "Gateway edge/public",
            "web",
            "/tls/shop.pem",
            "route 2 goes before route 1, which matches too: its path has more literal segments"
        ]
    );
    assert_eq!((entrance.route, entrance.routes), (Some(2), 4));
}

#[test]
fn beyond_the_gateway_the_services_own_route_holds() {
    let told = enter(("shop.example", 443), ("GET", "/v1/new"));
    let entrance = &told.entrances[0];
    let call = entrance.call.as_ref().unwrap();
    assert_eq!(call.explanation.verdict, "allow");
    let route = call.route.as_ref().unwrap();
    assert_eq!(route.backends[0].explanation.target, "shop/orders-v2:http");
    assert_eq!(entrance.verdict, "deny");
}

#[test]
fn what_a_caller_says_of_its_way_is_dropped_and_the_gateways_word_judged() {
    let judged = |path| {
        let told = enter(("shop.example", 443), ("GET", path));
        told.entrances[0].verdict.clone()
    };
    assert_eq!(judged("/way"), "deny");
    assert_eq!(judged("/scheme"), "allow");
}
