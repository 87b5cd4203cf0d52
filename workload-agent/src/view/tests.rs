use crypto::random::SeededRandom;
use crypto::signing::SigningKey;
use identity::x509::Authority;
use identity::{SerialNumber, Validity};
use proptest::prelude::*;
use time::macros::datetime;

use super::*;

fn trust_domain() -> TrustDomain {
    "mesh.example".parse().unwrap()
}

fn bundle() -> mesh::Bundle {
    let now = datetime!(2030-01-01 00:00 UTC);
    let validity = Validity::try_new(now, now + time::Duration::days(1)).unwrap();
    let serial = SerialNumber::random(&mut SeededRandom::new(1));
    let root =
        Authority::new_root(&trust_domain(), SigningKey::generate(), validity, serial).unwrap();
    mesh::Bundle {
        trust_domain: trust_domain().to_string(),
        sequence: 1,
        x509_authorities: vec![root.certificate().to_vec()],
        ..mesh::Bundle::default()
    }
}

fn identity(name: &str) -> wire::AssignedIdentity {
    wire::AssignedIdentity {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        spiffe_id: format!("spiffe://mesh.example/ns/shop/sa/{name}"),
        unix: Some(wire::UnixSelectors {
            uid: Some(1001),
            ..wire::UnixSelectors::default()
        }),
        ttl_seconds: 3600,
        hint: String::new(),
        selectors: None,
    }
}

#[test]
fn an_identity_with_unknown_selectors_is_given_to_nobody_and_spoils_no_other() {
    let unknown = wire::Selectors {
        kinds: vec!["image".to_owned()],
        ..wire::Selectors::default()
    };
    let mut snapshot = snapshot(1);
    snapshot.identities.push(wire::AssignedIdentity {
        selectors: Some(unknown),
        unix: None,
        ..identity("checkout")
    });
    let view = View::from_snapshot(&trust_domain(), snapshot, None).unwrap();
    let given: Vec<_> = view.assignments().keys().map(ToString::to_string).collect();
    assert_eq!(given, ["spiffe://mesh.example/ns/shop/sa/orders"]);
}

fn wire_rev(epoch: u64, number: u64) -> Option<mesh::Revision> {
    Some(mesh::Revision { epoch, number })
}

fn snapshot(number: u64) -> wire::Snapshot {
    wire::Snapshot {
        configuration: Some(mesh::Configuration {
            revision: wire_rev(1, number),
            engine_version: 1,
            denied: Some(mesh::DenyList::default()),
            ..mesh::Configuration::default()
        }),
        identities: vec![identity("orders")],
        bundle: Some(bundle()),
        endpoints: Vec::new(),
    }
}

fn view(number: u64) -> View {
    View::from_snapshot(&trust_domain(), snapshot(number), None).unwrap()
}

fn endpoints(source: &str, generation: u64) -> mesh::ServiceEndpoints {
    mesh::ServiceEndpoints {
        namespace: "shop".to_owned(),
        service: "orders".to_owned(),
        generation,
        source: source.to_owned(),
        endpoints: Vec::new(),
    }
}

#[test]
fn lower_revision_of_the_same_epoch_is_refused() {
    let refused = View::from_snapshot(&trust_domain(), snapshot(4), Some(&view(5)));
    assert!(matches!(refused, Err(ViewError::WentBack { .. })));
}

#[test]
fn lower_revision_of_another_epoch_is_a_fresh_start() {
    let mut restored = snapshot(1);
    restored.configuration.as_mut().unwrap().revision = wire_rev(2, 1);
    let view = View::from_snapshot(&trust_domain(), restored, Some(&view(5))).unwrap();
    assert_eq!(
        view.revision(),
        Revision {
            epoch: 2,
            number: 1
        }
    );
}

#[test]
fn delta_that_follows_another_revision_is_refused() {
    let delta = wire::Delta {
        from: wire_rev(1, 6),
        revision: wire_rev(1, 7),
        ..wire::Delta::default()
    };
    let refused = view(5).with_delta(&trust_domain(), delta);
    assert!(matches!(refused, Err(ViewError::DoesNotFollow { .. })));
}

#[test]
fn deny_list_that_an_older_ca_does_not_know_of_stays() {
    let mut denying = snapshot(1);
    let list = mesh::DenyList {
        identities: vec!["spiffe://mesh.example/ns/shop/sa/orders".to_owned()],
        ..mesh::DenyList::default()
    };
    denying.configuration.as_mut().unwrap().denied = Some(list.clone());
    let held = View::from_snapshot(&trust_domain(), denying, None).unwrap();
    let mut older = snapshot(2);
    older.configuration.as_mut().unwrap().denied = None;
    let next = View::from_snapshot(&trust_domain(), older, Some(&held)).unwrap();
    assert_eq!(next.configuration().denied, Some(list));
    assert_eq!(next.denied().len(), 1);
}

#[test]
fn deny_list_that_cannot_be_read_is_refused() {
    let mut odd = snapshot(1);
    odd.configuration.as_mut().unwrap().denied = Some(mesh::DenyList {
        serials: vec![Vec::new()],
        ..mesh::DenyList::default()
    });
    let refused = View::from_snapshot(&trust_domain(), odd, None);
    assert!(matches!(refused, Err(ViewError::DenyList(_))));
}

#[test]
fn bundle_of_another_trust_domain_is_refused() {
    let mut foreign = snapshot(1);
    foreign.bundle.as_mut().unwrap().trust_domain = "other.example".to_owned();
    let refused = View::from_snapshot(&trust_domain(), foreign, None);
    assert!(matches!(refused, Err(ViewError::OtherTrustDomain { .. })));
}

#[test]
fn reserved_identity_is_refused() {
    let mut posing = snapshot(1);
    posing.identities[0].spiffe_id = "spiffe://mesh.example/countersign/ca/ca-1".to_owned();
    let refused = View::from_snapshot(&trust_domain(), posing, None);
    assert!(matches!(
        refused,
        Err(ViewError::Assignment(AssignmentError::NotAWorkload(_)))
    ));
}

#[test]
fn malformed_digest_is_refused() {
    let mut odd = snapshot(1);
    odd.identities[0].unix.as_mut().unwrap().sha256 = "abc".to_owned();
    let refused = View::from_snapshot(&trust_domain(), odd, None);
    assert!(matches!(
        refused,
        Err(ViewError::Assignment(AssignmentError::Digest(_)))
    ));
}

#[test]
fn older_generation_of_the_same_source_is_ignored() {
    let view = view(1)
        .with_endpoints(endpoints("ca-1", 7))
        .with_endpoints(endpoints("ca-1", 6));
    assert_eq!(view.endpoints()["shop/orders"].generation, 7);
    let view = view.with_endpoints(endpoints("ca-2", 1));
    assert_eq!(view.endpoints()["shop/orders"].source, "ca-2");
}

#[test]
fn snapshot_that_is_silent_on_endpoints_removes_none() {
    let held = view(1).with_endpoints(endpoints("ca-1", 7));
    let next = View::from_snapshot(&trust_domain(), snapshot(2), Some(&held)).unwrap();
    assert_eq!(next.endpoints().len(), 1);
}

/// Objects by name, with a version each; what one revision of the CA holds.
type World = BTreeMap<u8, u8>;

fn objects(world: &World, names: impl Fn(u8) -> bool) -> Vec<mesh::Object> {
    let object = |(name, version): (&u8, &u8)| mesh::Object {
        kind: "Policy".to_owned(),
        namespace: "shop".to_owned(),
        name: format!("p{name}"),
        revision: wire_rev(1, u64::from(*version)),
        json: format!("{{\"version\":{version}}}"),
        addresses: Vec::new(),
    };
    world
        .iter()
        .filter(|(name, _)| names(**name))
        .map(object)
        .collect()
}

fn delta(from: &World, to: &World, number: u64) -> wire::Delta {
    let gone = from.keys().filter(|name| !to.contains_key(name));
    wire::Delta {
        from: wire_rev(1, number - 1),
        revision: wire_rev(1, number),
        engine_version: 1,
        upserted: objects(to, |name| from.get(&name) != to.get(&name)),
        removed: gone
            .map(|name| mesh::ObjectKey {
                kind: "Policy".to_owned(),
                namespace: "shop".to_owned(),
                name: format!("p{name}"),
            })
            .collect(),
        ..wire::Delta::default()
    }
}

fn whole(world: &World, number: u64, bundle: &mesh::Bundle) -> wire::Snapshot {
    let mut snapshot = snapshot(number);
    snapshot.bundle = Some(bundle.clone());
    snapshot.configuration.as_mut().unwrap().objects = objects(world, |_| true);
    snapshot
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn deltas_lead_where_a_snapshot_does(
        worlds in prop::collection::vec(prop::collection::btree_map(0_u8..6, 0_u8..4, 0..6), 1..12)
    ) {
        let bundle = bundle();
        let first = whole(&worlds[0], 1, &bundle);
        let mut view = View::from_snapshot(&trust_domain(), first, None).unwrap();
        for (number, pair) in (2..).zip(worlds.windows(2)) {
            view = view.with_delta(&trust_domain(), delta(&pair[0], &pair[1], number)).unwrap();
        }
        let last = whole(worlds.last().unwrap(), worlds.len() as u64, &bundle);
        prop_assert_eq!(view.to_snapshot(), last);
    }
}
