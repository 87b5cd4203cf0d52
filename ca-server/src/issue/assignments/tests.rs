//! Assignments that follow a change are those of the whole.

use policy::{MeshNames, Revision};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const AGENTS: [&str; 2] = ["web-1", "web-2"];

fn workload(name: &str, agents: &[&str], custom: bool) -> String {
    let agents = agents
        .iter()
        .map(|agent| format!("spiffe://td/countersign/agent/join-token/{agent}"));
    let agents = agents.collect::<Vec<_>>().join(", ");
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
    let agents = || proptest::sample::subsequence(&AGENTS, 0..=2);
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
        let followed = Assignments::of(&snapshot(1, &before)).followed_by(&next);
        let whole = Assignments::of(&next);
        prop_assert_eq!(&followed.by_agent, &whole.by_agent);
        prop_assert_eq!(&followed.services_of, &whole.services_of);
        prop_assert_eq!(&followed.about, &whole.about);
        prop_assert_eq!(&followed.custom, &whole.custom);
    }

    #[test]
    fn an_identity_is_assigned_to_the_agents_of_its_entry_alone(objects in objects()) {
        let assignments = Assignments::of(&snapshot(1, &objects));
        for name in ["a", "b"] {
            let written = objects.iter().find(|text| text.starts_with(&format!("Workload {name} ")));
            for (id, custom) in [
                (format!("spiffe://td/ns/shop/sa/{name}"), false),
                (format!("spiffe://td/custom/{name}"), true),
            ] {
                for agent in AGENTS {
                    let entry = written.is_some_and(|text| {
                        text.contains("spiffeId") == custom && text.contains(agent)
                    });
                    let agent = format!("spiffe://td/countersign/agent/join-token/{agent}");
                    let assigned =
                        assignments.assigned(&id.parse().unwrap(), &agent.parse().unwrap());
                    prop_assert_eq!(assigned.is_some(), entry, "{} {}", id, agent);
                }
            }
        }
    }
}
