//! What an agent sees, and that deltas add up.

use std::collections::BTreeMap;

use policy::MeshNames;
use proptest::prelude::*;

use super::*;
use crate::registry::RegistrySnapshot;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn agent() -> SpiffeId {
    "spiffe://td/countersign/agent/join-token/web-7"
        .parse()
        .unwrap()
}

/// One of the objects that a little mesh may have.
#[derive(Debug, Clone)]
struct Placed {
    yaml: String,
    number: u64,
}

fn workload(name: &str, held: bool) -> String {
    let agent = if held {
        agent().to_string()
    } else {
        "spiffe://td/countersign/agent/join-token/x".to_owned()
    };
    format!(
        "apiVersion: countersign.dev/v1\nkind: Workload\nmetadata: {{namespace: shop, name: {name}}}\n\
         spec: {{agents: [\"{agent}\"], selectors: {{unix: {{uid: 1}}}}}}\n"
    )
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1\nkind: Service\nmetadata: {{namespace: shop, name: {name}}}\n\
         spec: {{workloads: [shop/{name}], ports: [{{name: http, port: 80, protocol: http}}]}}\n"
    )
}

fn policy(name: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1\nkind: Policy\nmetadata: {{namespace: shop, name: {name}}}\n\
         spec: {{targets: [{{service: {name}, port: http}}], allow: []}}\n"
    )
}

fn meshes() -> impl Strategy<Value = (Vec<Placed>, Subscriptions)> {
    let per_name = proptest::collection::vec((any::<bool>(), 0_u8..4, 1_u64..3), NAMES.len());
    let asked = proptest::collection::btree_set(
        prop_oneof![Just("a.shop"), Just("b.shop"), Just("no.shop"), Just("?")],
        0..4,
    );
    (per_name, asked).prop_map(|(shape, asked)| {
        let mut placed = Vec::new();
        for (name, (held, depth, number)) in NAMES.iter().zip(shape) {
            let objects = [workload(name, held), service(name), policy(name)];
            let objects = objects.into_iter().take(usize::from(depth));
            placed.extend(objects.map(|yaml| Placed { yaml, number }));
        }
        (placed, asked.into_iter().map(str::to_owned).collect())
    })
}

fn view(number: u64, placed: &[Placed], asked: &Subscriptions) -> View {
    let mesh = MeshNames::new("td".parse().unwrap(), identity::IdTemplate::default());
    let objects = placed.iter().map(|one| {
        let resource = policy::parse_documents(&one.yaml).unwrap().remove(0);
        (
            resource,
            Revision {
                epoch: 1,
                number: one.number,
            },
        )
    });
    let revision = Revision { epoch: 1, number };
    let snapshot = RegistrySnapshot::of_objects(revision, objects, mesh);
    let assignments = Assignments::of(&Arc::new(snapshot));
    View::of(&assignments, &agent(), asked, &Lifetimes::default())
}

type Held = (BTreeMap<(String, String), mesh::Object>, Vec<String>);

fn held(view: &View) -> Held {
    let configuration = view
        .snapshot(mesh::Bundle::default(), Vec::new())
        .configuration
        .unwrap();
    let objects = configuration.objects.into_iter();
    let objects = objects.map(|object| ((object.kind.clone(), object.name.clone()), object));
    (objects.collect(), configuration.unknown_services)
}

/// What the agent does with a delta.
fn apply((mut objects, mut unknown): Held, delta: wire::Delta) -> Held {
    for key in delta.removed {
        objects.remove(&(key.kind, key.name));
    }
    for object in delta.upserted {
        objects.insert((object.kind.clone(), object.name.clone()), object);
    }
    if let Some(services) = delta.unknown_services {
        unknown = services.services;
    }
    (objects, unknown)
}

#[test]
fn policy_of_a_service_that_was_only_asked_for_is_not_shown() {
    let placed = [workload("a", false), service("a"), policy("a")];
    let placed = placed.map(|yaml| Placed { yaml, number: 1 });
    let asked = Subscriptions::from(["a.shop".to_owned()]);
    let (objects, _) = held(&view(1, &placed, &asked));
    assert_eq!(
        objects
            .keys()
            .map(|(kind, _)| kind.as_str())
            .collect::<Vec<_>>(),
        ["Service"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_view_and_a_delta_make_the_next_view(
        (placed, asked) in meshes(), (next_placed, next_asked) in meshes()
    ) {
        let before = view(1, &placed, &asked);
        // An object that differs has another revision, as the registry has it.
        let next_placed: Vec<_> = next_placed
            .into_iter()
            .map(|one| if placed.iter().any(|old| old.yaml == one.yaml && old.number == one.number) {
                one
            } else {
                Placed { number: one.number + 10, ..one }
            })
            .collect();
        let after = view(20, &next_placed, &next_asked);
        prop_assert_eq!(apply(held(&before), after.since(&before)), held(&after));
    }

    #[test]
    fn resuming_gives_the_whole_view_whatever_was_asked_for_before(
        (placed, asked) in meshes(), next_asked in meshes().prop_map(|(_, asked)| asked)
    ) {
        // The agent keeps asking for what it asked for; a name may have been added meanwhile.
        let next_asked: Subscriptions = asked.union(&next_asked).cloned().collect();
        let known = view(1, &placed, &asked);
        let nothing_asked = view(1, &placed, &Subscriptions::new());
        let after = view(1, &placed, &next_asked);
        let delta = after.since_resumed(&nothing_asked, mesh::Bundle::default());
        prop_assert_eq!(apply(held(&known), delta), held(&after));
    }
}
