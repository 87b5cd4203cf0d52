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
    resource: Resource,
    number: u64,
}

fn parsed(yaml: &str) -> Resource {
    policy::parse_documents(yaml).unwrap().remove(0)
}

fn workload(name: &str, held: bool) -> Resource {
    let agent = if held {
        agent().to_string()
    } else {
        "spiffe://td/countersign/agent/join-token/x".to_owned()
    };
    parsed(&format!(
        "apiVersion: countersign.dev/v1\nkind: Workload\nmetadata: {{namespace: shop, name: {name}}}\n\
         spec: {{agents: [\"{agent}\"], selectors: {{unix: {{uid: 1}}}}}}\n"
    ))
}

fn service(name: &str) -> Resource {
    parsed(&format!(
        "apiVersion: countersign.dev/v1\nkind: Service\nmetadata: {{namespace: shop, name: {name}}}\n\
         spec: {{workloads: [shop/{name}], ports: [{{name: http, port: 80, protocol: http}}]}}\n"
    ))
}

fn policy(name: &str) -> Resource {
    parsed(&format!(
        "apiVersion: countersign.dev/v1\nkind: Policy\nmetadata: {{namespace: shop, name: {name}}}\n\
         spec: {{targets: [{{service: {name}, port: http}}], allow: []}}\n"
    ))
}

/// Carries calls to one service to another.
fn route(service: &str, backend: &str) -> Resource {
    Resource::Route(policy::Route {
        name: format!("shop/{service}").parse().unwrap(),
        service: service.parse().unwrap(),
        port: "http".parse().unwrap(),
        rules: vec![policy::RouteRule {
            matches: Vec::new(),
            backends: vec![policy::Backend {
                service: backend.parse().unwrap(),
                weight: 1,
            }],
            timeouts: policy::Timeouts::default(),
            retry: None,
            hedge: None,
            fault: None,
            mirror: None,
            headers: policy::HeaderChanges::default(),
        }],
    })
}

fn gateway(workload: &str, service: &str) -> Resource {
    let listener = policy::GatewayListener {
        name: "web".parse().unwrap(),
        port: 443,
        hosts: vec!["shop.example".to_owned()],
        tls: policy::CertificateFiles {
            certificate: "/c".to_owned(),
            key: "/k".to_owned(),
        },
        routes: vec![policy::GatewayRoute {
            matching: None,
            service: format!("shop/{service}").parse().unwrap(),
            port: "http".parse().unwrap(),
        }],
    };
    Resource::Gateway(policy::Gateway {
        name: "shop/g".parse().unwrap(),
        workloads: vec![format!("shop/{workload}").parse().unwrap()],
        listeners: vec![listener],
    })
}

fn external(caller: &str) -> Resource {
    let caller = format!("shop/{caller}").parse().unwrap();
    Resource::External(policy::External {
        name: "shop/e".parse().unwrap(),
        hosts: vec!["api.example".to_owned()],
        port: 443,
        tls: policy::ExternalTls {
            roots: policy::Roots::System,
        },
        from: vec![policy::Source::Workload(caller, None)],
    })
}

fn meshes() -> impl Strategy<Value = (Vec<Placed>, Subscriptions)> {
    let per_name = proptest::collection::vec((any::<bool>(), 0_u8..5, 1_u64..3), NAMES.len());
    let asked = proptest::collection::btree_set(
        prop_oneof![Just("a.shop"), Just("b.shop"), Just("no.shop"), Just("?")],
        0..4,
    );
    (per_name, asked).prop_map(|(shape, asked)| {
        let mut placed = Vec::new();
        for (name, (held, depth, number)) in NAMES.iter().zip(shape) {
            let backend = if held { "b" } else { "c" };
            let objects = [
                workload(name, held),
                service(name),
                policy(name),
                route(name, backend),
            ];
            let objects = objects.into_iter().take(usize::from(depth));
            placed.extend(objects.map(|resource| Placed { resource, number }));
        }
        (placed, asked.into_iter().map(str::to_owned).collect())
    })
}

/// An object that differs has another revision, as the registry has it.
fn renumbered(placed: &[Placed], next: Vec<Placed>) -> Vec<Placed> {
    let is_same =
        |one: &Placed, old: &Placed| old.resource == one.resource && old.number == one.number;
    let renumber = |one: Placed| match placed.iter().any(|old| is_same(&one, old)) {
        true => one,
        false => Placed {
            number: one.number + 10,
            ..one
        },
    };
    next.into_iter().map(renumber).collect()
}

fn view(number: u64, placed: &[Placed], asked: &Subscriptions) -> View {
    let assignments = assignments(number, placed);
    View::of(&assignments, &agent(), asked, &Lifetimes::default())
}

fn assignments(number: u64, placed: &[Placed]) -> Assignments {
    let mesh = MeshNames::new("td".parse().unwrap(), identity::IdTemplate::default());
    let objects = placed.iter().map(|one| {
        (
            one.resource.clone(),
            Revision {
                epoch: 1,
                number: one.number,
            },
        )
    });
    let revision = Revision { epoch: 1, number };
    let snapshot = RegistrySnapshot::of_objects(revision, objects, mesh);
    Assignments::of(&Arc::new(snapshot), Default::default())
}

/// What an agent says that it holds.
fn resume((objects, _): &Held) -> Resume {
    let held = objects.values().map(|object| {
        let key = ObjectKey {
            kind: object.kind.parse().unwrap(),
            namespace: Some(object.namespace.parse().unwrap()),
            name: object.name.parse().unwrap(),
        };
        let number = object.revision.unwrap().number;
        (key, Revision { epoch: 1, number })
    });
    Resume {
        revision: Revision {
            epoch: 1,
            number: 1,
        },
        held: held.collect(),
    }
}

type Held = (BTreeMap<(String, String), mesh::Object>, Vec<String>);

fn held(view: &View) -> Held {
    let configuration = view.snapshot(Vec::new()).configuration.unwrap();
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

/// Kinds and names of what the agent is shown.
#[track_caller]
fn shown(objects: impl IntoIterator<Item = Resource>, asked: &[&str], expected: &[(&str, &str)]) {
    let placed: Vec<_> = objects
        .into_iter()
        .map(|resource| Placed {
            resource,
            number: 1,
        })
        .collect();
    let asked = asked.iter().map(|name| (*name).to_owned()).collect();
    let (objects, _) = held(&view(1, &placed, &asked));
    let shown = objects
        .keys()
        .map(|(kind, name)| (kind.as_str(), name.as_str()));
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}

#[test]
fn policy_of_a_service_that_was_only_asked_for_is_not_shown() {
    let objects = [workload("a", false), service("a"), policy("a")];
    shown(objects, &["a.shop"], &[("Service", "a")]);
}

#[test]
fn routes_of_services_that_were_not_asked_for_are_not_shown() {
    let objects = || [service("a"), service("b"), route("a", "b")];
    shown(objects(), &["b.shop"], &[("Service", "b")]);
}

#[test]
fn who_asks_for_a_service_is_shown_where_its_route_leads() {
    let objects = [
        service("a"),
        service("b"),
        service("c"),
        route("a", "b"),
        route("b", "c"),
    ];
    let expected = [("Route", "a"), ("Service", "a"), ("Service", "b")];
    shown(objects, &["a.shop"], &expected);
}

#[test]
fn a_gateway_is_shown_to_its_own_agent_only_with_where_it_leads() {
    let objects = |held| [workload("a", held), service("b"), gateway("a", "b")];
    shown(objects(false), &[], &[]);
    shown(objects(true), &[], &[("Gateway", "g"), ("Service", "b")]);
}

#[test]
fn an_external_is_shown_to_agents_of_its_callers_only() {
    let objects = |caller| [workload("a", true), external(caller)];
    shown(objects("b"), &[], &[]);
    shown(objects("a"), &[], &[("External", "e")]);
}

#[test]
fn an_agent_is_told_to_need_no_newer_engine_than_what_it_sees_does() {
    let engine = |asked: &str| {
        let objects = [service("a"), service("b"), route("a", "b")];
        let placed = objects.map(|resource| Placed {
            resource,
            number: 1,
        });
        let view = view(1, &placed, &[asked.to_owned()].into());
        let told = view.snapshot(Vec::new());
        told.configuration.unwrap().engine_version
    };
    assert_eq!((engine("b.shop"), engine("a.shop")), (1, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_view_and_a_delta_make_the_next_view(
        (placed, asked) in meshes(), (next_placed, next_asked) in meshes()
    ) {
        let before = view(1, &placed, &asked);
        let next_placed = renumbered(&placed, next_placed);
        let after = view(20, &next_placed, &next_asked);
        prop_assert_eq!(apply(held(&before), after.since(&before)), held(&after));
    }

    #[test]
    fn resuming_gives_the_whole_view_whatever_was_held(
        (placed, asked) in meshes(), (next_placed, next_asked) in meshes()
    ) {
        let next_placed = renumbered(&placed, next_placed);
        let known = held(&view(1, &placed, &asked));
        let resume = resume(&known);
        let assignments = assignments(20, &next_placed);
        let mut now = view(20, &next_placed, &Subscriptions::new());
        now.keep(&assignments, &resume);

        let resumed = apply(known, now.since_resumed(&resume));
        prop_assert_eq!(&resumed, &held(&now));

        let told = view(20, &next_placed, &next_asked);
        prop_assert_eq!(apply(resumed, told.since(&now)), held(&told));
    }
}
