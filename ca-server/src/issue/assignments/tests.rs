//! Assignments that follow a change are those of the whole.

use policy::{MeshNames, Revision};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// What entries name, in their words.
const NAMED: [&str; 6] = [
    "spiffe://td/countersign/agent/join-token/web-1",
    "spiffe://td/countersign/agent/k8s/web-2",
    "{attestor: k8s}",
    "{attestor: k8s, cluster: prod}",
    "{attestor: k8s, cluster: prod, namespace: shop}",
    "{attestor: k8s-dev, namespace: shop}",
];

/// Agents, and what is said of them.
const AGENTS: [(&str, &str); 5] = [
    ("join-token/web-1", "{}"),
    ("k8s/web-1", r#"{"cluster": "dev", "namespace": "shop"}"#),
    (
        "k8s/web-2",
        r#"{"cluster": "prod", "namespace": "shop", "node": "a"}"#,
    ),
    ("k8s/web-3", r#"{"cluster": "prod", "namespace": "bank"}"#),
    (
        "k8s-dev/web-2",
        r#"{"cluster": "prod", "namespace": "shop"}"#,
    ),
];

fn agent(name: &str) -> SpiffeId {
    format!("spiffe://td/countersign/agent/{name}")
        .parse()
        .unwrap()
}

fn said() -> KnownSelectors {
    let said = AGENTS.map(|(name, said)| (agent(name), Arc::new(said.parse().unwrap())));
    said.into_iter().collect()
}

fn workload(name: &str, agents: &[&str], custom: bool) -> String {
    let agents = agents.join(", ");
    let id = match custom {
        true => format!("spiffeId: 'spiffe://td/custom/{name}', "),
        false => String::new(),
    };
    format!("Workload {name} {{{id}agents: [{agents}], selectors: {{unix: {{uid: 1}}}}}}")
}

fn object(text: &str) -> Resource {
    let (kind, rest) = text.split_once(' ').unwrap();
    let (name, spec) = rest.split_once(' ').unwrap();
    let metadata = format!("{{namespace: shop, name: {name}}}");
    let text = format!(
        "{{apiVersion: countersign.dev/v1, kind: {kind}, metadata: {metadata}, spec: {spec}}}"
    );
    policy::parse_documents(&text).unwrap().pop().unwrap()
}

fn objects() -> impl Strategy<Value = Vec<String>> {
    let agents = || proptest::sample::subsequence(&NAMED, 0..=6);
    let ours = |name| {
        let written = (agents(), any::<bool>())
            .prop_map(move |(agents, custom)| workload(name, &agents, custom));
        proptest::option::of(written)
    };
    let service = select(vec!["shop/a", "shop/b"]).prop_map(|workload| {
        format!(
            "Service s {{workloads: [{workload}], ports: [{{name: http, port: 80, protocol: http}}]}}"
        )
    });
    let policy = select(vec!["p", "q"]).prop_map(|name| {
        format!("Policy {name} {{targets: [{{service: s, port: http}}], allow: []}}")
    });
    let (service, policy) = (proptest::option::of(service), proptest::option::of(policy));
    (ours("a"), ours("b"), service, policy)
        .prop_map(|(a, b, c, d)| [a, b, c, d].into_iter().flatten().collect())
}

fn snapshot(number: u64, objects: &[String]) -> Arc<RegistrySnapshot> {
    let mesh = MeshNames::new("td".parse().unwrap(), identity::IdTemplate::default());
    let revision = Revision { epoch: 1, number };
    let objects = objects.iter().map(|text| (object(text), revision));
    Arc::new(RegistrySnapshot::of_objects(revision, objects, mesh))
}

proptest! {
    #[test]
    fn assignments_that_follow_a_change_are_those_of_the_whole(
        before in objects(),
        after in objects(),
    ) {
        let next = snapshot(2, &after);
        let first = Assignments::of(&snapshot(1, &before), KnownSelectors::new());
        let followed = first.followed_by(&next, said());
        let whole = Assignments::of(&next, said());
        prop_assert_eq!(&followed.by_agent, &whole.by_agent);
        prop_assert_eq!(&followed.by_attestor, &whole.by_attestor);
        prop_assert_eq!(&followed.selectors, &whole.selectors);
        prop_assert_eq!(&followed.services_of, &whole.services_of);
        prop_assert_eq!(&followed.about, &whole.about);
        prop_assert_eq!(&followed.custom, &whole.custom);
    }

    #[test]
    fn an_identity_is_assigned_to_the_agents_of_its_entry_alone(objects in objects()) {
        let assignments = Assignments::of(&snapshot(1, &objects), said());
        for name in ["a", "b"] {
            let written = objects.iter().find(|text| text.starts_with(&format!("Workload {name} ")));
            for (id, custom) in [
                (format!("spiffe://td/ns/shop/sa/{name}"), false),
                (format!("spiffe://td/custom/{name}"), true),
            ] {
                for (name, held) in AGENTS {
                    let entry = written.is_some_and(|text| {
                        let Resource::Workload(entry) = object(text) else {
                            panic!("{text}");
                        };
                        let held = held.parse().unwrap();
                        text.contains("spiffeId") == custom && entry.is_held_by(&agent(name), &held)
                    });
                    let assigned = assignments.assigned(&id.parse().unwrap(), &agent(name));
                    prop_assert_eq!(assigned.is_some(), entry, "{} {}", id, name);
                }
            }
        }
    }

    #[test]
    fn all_ways_to_ask_agree_with_the_entries(objects in objects()) {
        let assignments = Assignments::of(&snapshot(1, &objects), said());
        let entries: Vec<_> = objects.iter().map(|text| object(text)).collect();
        for (name, held) in AGENTS {
            let held = held.parse().unwrap();
            let named = entries.iter().filter_map(|object| match object {
                Resource::Workload(entry) => Some(entry),
                _ => None,
            });
            let named: BTreeSet<_> = named
                .filter(|entry| entry.is_held_by(&agent(name), &held))
                .map(|entry| &entry.name)
                .collect();
            prop_assert_eq!(&assignments.workloads_of(&agent(name)), &named);
            for workload in ["shop/a", "shop/b"] {
                let workload = workload.parse().unwrap();
                let held = named.contains(&workload);
                prop_assert_eq!(assignments.holds(&agent(name), &workload), held);
                prop_assert_eq!(assignments.why_not(&agent(name), &workload).is_none(), held);
            }
        }
    }
}

#[test]
fn what_is_no_longer_said_of_an_agent_counts_no_more() {
    let objects = [workload("a", &["{attestor: k8s, cluster: prod}"], false)];
    let snapshot = snapshot(1, &objects);
    let (web, name) = (agent("k8s/web-2"), "shop/a".parse().unwrap());
    let before = Assignments::of(&snapshot, said());
    assert!(before.holds(&web, &name));
    let after = before.followed_by(&snapshot, said().without(&web));
    assert!(!after.holds(&web, &name));
    assert_eq!(after.workloads_of(&web), BTreeSet::new());
}

#[test]
fn whoever_may_not_hold_a_workload_is_told_apart_by_the_nearest_entry() {
    let agents = [NAMED[0], NAMED[5], NAMED[4]];
    let snapshot = snapshot(1, &[workload("a", &agents, false)]);
    let assignments = Assignments::of(&snapshot, said());
    let why = |name: &str| assignments.why_not(&agent("k8s/web-1"), &name.parse().unwrap());
    let wanted = "the entry names agents of attestor";
    assert_eq!(
        why("shop/a").unwrap().to_string(),
        format!(
            "{wanted} k8s with cluster=prod, namespace=shop; this agent has cluster=dev; \
             {wanted} k8s-dev with namespace=shop; this agent has another attestor; \
             the entry names another agent by its ID"
        )
    );
    assert_eq!(why("shop/c"), Some(NotHeld::NoEntry));
}
