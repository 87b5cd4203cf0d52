use identity::IdTemplate;

use super::*;
use crate::parse::parse_documents;

mod following;
mod traffic;

const WORLD: &str = r#"
{apiVersion: countersign.dev/v1, kind: Workload, metadata: {namespace: shop, name: orders}, spec: {selectors: {unix: {uid: 1}}}}
---
{apiVersion: countersign.dev/v1, kind: Service, metadata: {namespace: shop, name: orders}, spec: {workloads: [shop/orders], ports: [{name: http, port: 80, protocol: http}, {name: raw, port: 81, protocol: tcp}]}}
"#;

fn mesh() -> MeshNames {
    let names = MeshNames::new("corp.example".parse().unwrap(), IdTemplate::default());
    names.with_ca_dns_names(vec!["ca.corp.example".to_owned()])
}

fn world(more: &[(&str, &str, &str)]) -> ObjectSet {
    let mut text = WORLD.to_owned();
    for (kind, name, spec) in more {
        let (namespace, name) = name.split_once('/').unwrap();
        let namespace = match *kind {
            "Baseline" => String::new(),
            _ => format!("namespace: {namespace}, "),
        };
        text += &format!(
            "---\n{{apiVersion: countersign.dev/v1, kind: {kind}, metadata: {{{namespace}name: {name}}}, spec: {spec}}}\n"
        );
    }
    parse_documents(&text).unwrap().into_iter().collect()
}

/// Code and place of each refusal of a world with these objects.
#[track_caller]
fn refused(more: &[(&str, &str, &str)], expected: &[(&str, &str)]) {
    let refusals = world(more).validate(&mesh()).unwrap_err();
    let found: Vec<_> = refusals
        .iter()
        .map(|refusal| (refusal.code.as_str(), refusal.pointer.as_str()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn targets_that_do_not_exist_are_refused() {
    let spec = "{targets: [{service: nope, port: http}, {service: orders, port: nope}], allow: []}";
    let expected = [
        ("unknown-target", "/spec/targets/0/service"),
        ("unknown-target", "/spec/targets/1/port"),
    ];
    refused(&[("Policy", "shop/p", spec)], &expected);
}

#[test]
fn a_service_of_another_namespace_is_no_target() {
    let spec = "{targets: [{service: orders, port: http}], allow: []}";
    refused(
        &[("Policy", "evil/p", spec)],
        &[("unknown-target", "/spec/targets/0/service")],
    );
}

#[test]
fn deleting_what_others_need_is_refused() {
    let mut objects = world(&[(
        "Policy",
        "shop/p",
        "{targets: [{service: orders, port: http}], allow: []}",
    )]);
    let service = objects.services().next().unwrap().name.clone();
    objects.apply(crate::Change::Delete(ObjectKey::namespaced(
        Kind::Workload,
        &service,
    )));
    let dangling = objects.validate(&mesh()).unwrap_err();
    assert_eq!(dangling[0].code, RefusalCode::UnknownWorkload);
    objects.apply(crate::Change::Delete(ObjectKey::namespaced(
        Kind::Service,
        &service,
    )));
    let dangling = objects.validate(&mesh()).unwrap_err();
    assert_eq!(dangling[0].code, RefusalCode::UnknownTarget);
}

#[test]
fn two_policies_for_one_port_are_refused() {
    let spec = "{targets: [{service: orders, port: http}], allow: []}";
    let expected = [("overlapping-target", "/spec/targets/0")];
    refused(
        &[("Policy", "shop/a", spec), ("Policy", "shop/b", spec)],
        &expected,
    );
}

#[test]
fn http_matches_on_a_tcp_port_are_refused() {
    let spec = "{targets: [{service: orders, port: raw}], allow: [{id: r, from: [{namespace: a}], to: {http: [{path: /}]}}]}";
    refused(
        &[("Policy", "shop/p", spec)],
        &[("http-match-on-tcp", "/spec/allow/0/to")],
    );
}

#[test]
fn rule_ids_are_unique_in_their_object() {
    let rule = "{id: r, from: [{namespace: a}]}";
    let policy = format!("{{targets: [{{service: orders, port: http}}], allow: [{rule}, {rule}]}}");
    let baseline = format!("{{scope: {{mesh: true}}, deny: [{rule}], allow: [{rule}]}}");
    let expected = [
        ("duplicate", "/spec/allow/1/id"),
        ("duplicate", "/spec/allow/0/id"),
    ];
    refused(
        &[("Policy", "shop/p", &policy), ("Baseline", "/b", &baseline)],
        &expected,
    );
}

#[test]
fn names_in_a_domain_that_is_not_federated_are_refused() {
    let spec = "{scope: {mesh: true}, deny: [{id: r, from: [{namespace: a, trustDomain: other.example}]}]}";
    refused(
        &[("Baseline", "/b", spec)],
        &[("not-yet-supported", "/spec/deny/0/from/0/trustDomain")],
    );
}

#[test]
fn custom_identities_that_are_another_s_are_refused() {
    let spec = |id: &str| format!("{{spiffeId: '{id}', selectors: {{unix: {{uid: 1}}}}}}");
    for (id, code) in [
        ("spiffe://other.example/a", "foreign-trust-domain"),
        (
            "spiffe://corp.example/countersign/agent/a/b",
            "reserved-identity",
        ),
        ("spiffe://corp.example", "reserved-identity"),
        ("spiffe://corp.example/ns/shop/sa/orders", "taken-identity"),
    ] {
        refused(
            &[("Workload", "evil/thief", &spec(id))],
            &[(code, "/spec/spiffeId")],
        );
    }
    let twice = spec("spiffe://corp.example/legacy/a");
    let expected = [("taken-identity", "/spec/spiffeId")];
    refused(
        &[("Workload", "a/a", &twice), ("Workload", "b/b", &twice)],
        &expected,
    );
}

#[test]
fn an_id_that_fits_the_template_may_be_its_own() {
    let spec = "{spiffeId: 'spiffe://corp.example/ns/a/sa/a', selectors: {unix: {uid: 1}}}";
    assert_eq!(
        world(&[("Workload", "a/a", spec)]).validate(&mesh()),
        Ok(())
    );
}

#[test]
fn agents_of_another_mesh_are_refused() {
    let spec =
        "{agents: ['spiffe://other.example/countersign/agent/a/b'], selectors: {unix: {uid: 1}}}";
    refused(
        &[("Workload", "a/a", spec)],
        &[("foreign-trust-domain", "/spec/agents/0")],
    );
}

#[test]
fn dns_names_of_others_are_refused() {
    let spec = "{dnsNames: [ca.corp.example, orders.shop.mesh.internal, a.a.mesh.internal, a.example], selectors: {unix: {uid: 1}}}";
    let expected = [
        ("dns-name-not-own", "/spec/dnsNames/0"),
        ("dns-name-not-own", "/spec/dnsNames/1"),
    ];
    refused(&[("Workload", "a/a", spec)], &expected);
}

#[test]
fn a_workload_may_have_the_name_of_a_service_that_lists_it() {
    let workload = "{dnsNames: [front.shop.mesh.internal], selectors: {unix: {uid: 1}}}";
    let service = "{workloads: [a/a], ports: [{name: http, port: 80, protocol: http}]}";
    let objects = world(&[
        ("Workload", "a/a", workload),
        ("Service", "shop/front", service),
    ]);
    assert_eq!(objects.validate(&mesh()), Ok(()));
}

#[test]
fn repetitions_within_a_service_are_refused() {
    let spec = "{workloads: [shop/orders, shop/orders, shop/nope], ports: [{name: a, port: 1, protocol: http}, {name: a, port: 1, protocol: tcp}], endpoints: [{address: 10.0.0.1, ports: {b: 1}}, {address: 10.0.0.1, ports: {b: 1}}]}";
    let expected = [
        ("duplicate", "/spec/ports/1/name"),
        ("duplicate", "/spec/ports/1/port"),
        ("duplicate", "/spec/workloads/1"),
        ("unknown-workload", "/spec/workloads/2"),
        ("unknown-port", "/spec/endpoints/0/ports/b"),
        ("unknown-port", "/spec/endpoints/1/ports/b"),
        ("duplicate", "/spec/endpoints/1"),
    ];
    refused(&[("Service", "shop/twice", spec)], &expected);
}
