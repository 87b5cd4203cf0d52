//! What follows a valid whole is judged as the whole would be.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::world::Change;

/// For each name, what may stand there.
const PLACES: &[&[&str]] = &[
    &[
        "Workload a {selectors: {unix: {uid: 1}}}",
        "Workload a {selectors: {unix: {uid: 1}}, spiffeId: spiffe://corp.example/one}",
        "Workload a {selectors: {unix: {uid: 1}}, spiffeId: spiffe://other.example/one}",
        "Workload a {selectors: {unix: {uid: 1}}, dnsNames: [s.shop.mesh.internal]}",
        "Workload a {selectors: {unix: {uid: 1}}, dnsNames: [ca.corp.example]}",
    ],
    &[
        "Workload b {selectors: {unix: {uid: 2}}}",
        "Workload b {selectors: {unix: {uid: 2}}, spiffeId: spiffe://corp.example/one}",
        "Workload b {selectors: {unix: {uid: 2}}, agents: [spiffe://other.example/countersign/agent/x509pop/h]}",
    ],
    &[
        "Service s {workloads: [shop/a], ports: [{name: http, port: 80, protocol: http}]}",
        "Service s {workloads: [shop/b], ports: [{name: http, port: 80, protocol: http}]}",
        "Service s {workloads: [shop/a, shop/b], ports: [{name: raw, port: 80, protocol: tcp}]}",
    ],
    &[
        "Policy p {targets: [{service: s, port: http}], allow: []}",
        "Policy p {targets: [{service: s, port: raw}], allow: []}",
    ],
    &["Policy q {targets: [{service: s, port: http}], allow: []}"],
    &["Route r {service: s, port: http, rules: [{backends: [{service: s}]}]}"],
];

fn resource(text: &str) -> Resource {
    let (kind, rest) = text.split_once(' ').unwrap();
    let (name, spec) = rest.split_once(' ').unwrap();
    let metadata = format!("{{namespace: shop, name: {name}}}");
    let text = format!(
        "{{apiVersion: countersign.dev/v1, kind: {kind}, metadata: {metadata}, spec: {spec}}}"
    );
    parse_documents(&text).unwrap().pop().unwrap()
}

/// Any combination of what may stand in the places, or nothing.
fn worlds() -> impl Strategy<Value = ObjectSet> {
    let place = |variants: &&'static [&'static str]| proptest::option::of(select(*variants));
    let places: Vec<_> = PLACES.iter().map(place).collect();
    places.prop_map(|chosen| chosen.into_iter().flatten().map(resource).collect())
}

/// The same without what is refused of them.
fn valid_worlds() -> impl Strategy<Value = ObjectSet> {
    worlds().prop_map(|mut world| {
        while let Err(refusals) = world.validate(&mesh()) {
            for refusal in refusals {
                world.apply(Change::Delete(refusal.key));
            }
        }
        world
    })
}

fn as_text(judged: Result<(), Vec<Refusal>>) -> Vec<String> {
    let refusals = judged.err().unwrap_or_default();
    refusals.iter().map(ToString::to_string).collect()
}

proptest! {
    #[test]
    fn what_follows_a_valid_whole_is_judged_as_the_whole(
        before in valid_worlds(),
        after in worlds(),
    ) {
        let judged = as_text(after.validate_after(&before, &mesh()));
        prop_assert_eq!(judged, as_text(after.validate(&mesh())));
    }

    #[test]
    fn the_changes_from_one_whole_lead_to_the_other(before in worlds(), after in worlds()) {
        let mut followed = before.clone();
        for changed in before.changes_to(&after) {
            followed.apply(match changed.after {
                Some(resource) => Change::Put(resource.as_ref().clone()),
                None => Change::Delete(changed.key.clone()),
            });
        }
        prop_assert_eq!(followed, after);
    }
}
