use identity::IdTemplate;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::parse::parse_documents;

const SERVICE: &str = r#"{"apiVersion":"countersign.dev/v1","kind":"Service","metadata":{"namespace":"shop","name":"orders"},"spec":{"workloads":["shop/orders"],"ports":[{"name":"http","port":80,"protocol":"http"}]}}"#;

fn mesh() -> MeshNames {
    MeshNames::new("td".parse().unwrap(), IdTemplate::default())
}

fn policy(rules: &[Value]) -> String {
    json!({
        "apiVersion": "countersign.dev/v1",
        "kind": "Policy",
        "metadata": {"namespace": "shop", "name": "p"},
        "spec": {"targets": [{"service": "orders", "port": "http"}], "allow": rules},
    })
    .to_string()
}

fn snapshot_at(number: u64, key: u8, objects: &[&str]) -> PolicySnapshot {
    let revision = Revision { epoch: 1, number };
    let custom = [(
        "shop/custom".parse().unwrap(),
        "spiffe://td/legacy/custom".parse().unwrap(),
    )];
    let objects = objects.iter().copied();
    PolicySnapshot::compile_json(
        revision,
        &[key; 32],
        ENGINE_VERSION,
        &mesh(),
        objects,
        &custom,
    )
}

fn snapshot(rules: &[Value]) -> PolicySnapshot {
    snapshot_at(1, 0, &[SERVICE, &policy(rules)])
}

fn ask(snapshot: &PolicySnapshot, source: &str, method: &str, path: &str) -> Decision {
    let (service, port) = ("shop/orders".parse().unwrap(), "http".parse().unwrap());
    let path = RequestPath::parse(method, path);
    snapshot.judge(&Question {
        source: &source.parse().unwrap(),
        target: Target {
            service: &service,
            port: &port,
        },
        request: Request::Http {
            method,
            path: &path,
            headers: &(),
        },
    })
}

fn may_ask(snapshot: &PolicySnapshot, source: &str) -> bool {
    let (service, port) = ("shop/orders".parse().unwrap(), "http".parse().unwrap());
    let target = Target {
        service: &service,
        port: &port,
    };
    snapshot.may_ask_something(&source.parse().unwrap(), &target)
}

fn orders() -> Value {
    json!({"id": "orders", "from": [{"namespace": "shop"}], "to": {"http": [{"path": "/orders/{id}"}]}})
}

#[test]
fn decision_id_names_the_class_and_not_the_request() {
    let snapshot = snapshot(&[orders()]);
    let one = ask(&snapshot, "spiffe://td/ns/shop/sa/a", "GET", "/orders/1");
    let two = ask(&snapshot, "spiffe://td/ns/shop/sa/a", "GET", "/orders/2");
    assert_eq!(one, two);
    assert_eq!(&*one.path_shape, "/orders/{id}");
}

#[test]
fn decision_id_differs_in_each_part_of_the_class() {
    let objects = [SERVICE, &policy(&[orders()])];
    let source = "spiffe://td/ns/shop/sa/a";
    let first = snapshot_at(1, 0, &objects);
    let ids = [
        ask(&first, source, "GET", "/orders/1").id,
        ask(&first, source, "PUT", "/orders/1").id,
        ask(&first, source, "GET", "/else").id,
        ask(&first, "spiffe://td/ns/shop/sa/b", "GET", "/orders/1").id,
        ask(&first, "spiffe://td/ns/evil/sa/b", "GET", "/orders/1").id,
        ask(&snapshot_at(2, 0, &objects), source, "GET", "/orders/1").id,
        ask(&snapshot_at(1, 1, &objects), source, "GET", "/orders/1").id,
        ask(&snapshot_at(1, 0, &[SERVICE]), source, "GET", "/orders/1").id,
    ];
    let distinct: BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
}

#[test]
fn decision_id_is_text_and_back() {
    let id = ask(&snapshot(&[]), "spiffe://td/a", "GET", "/").id;
    assert_eq!(id.to_string().parse(), Ok(id));
    assert!("00".parse::<DecisionId>().is_err());
}

#[test]
fn denied_requests_have_the_shape_that_their_path_fits() {
    let denied = ask(
        &snapshot(&[orders()]),
        "spiffe://td/ns/evil/sa/a",
        "GET",
        "/orders/1",
    );
    assert_eq!(denied.verdict, Verdict::Deny(DenyReason::NoRuleMatched));
    assert_eq!(&*denied.path_shape, "/orders/{id}");
}

#[test]
fn indeterminate_snapshot_has_no_services_and_says_why() {
    let snapshot = snapshot_at(
        1,
        0,
        &[
            SERVICE,
            r#"{"kind":"Policy","metadata":{"namespace":"a","name":"b"}}"#,
        ],
    );
    let Some(Indeterminate::Unreadable(why)) = snapshot.indeterminate() else {
        panic!("{snapshot:?}");
    };
    assert!(why.starts_with("Policy a/b, "), "{why}");
    assert_eq!(snapshot.services().count(), 0);
    assert!(
        snapshot
            .expected_servers(&"shop/orders".parse().unwrap())
            .is_empty()
    );
}

#[test]
fn who_may_ask_for_one_path_only_may_ask_something_and_a_stranger_may_not() {
    let snapshot = snapshot(&[orders()]);
    assert!(!may_ask(&snapshot, "spiffe://td/ns/evil/sa/a"));
    assert!(!may_ask(
        &snapshot_at(1, 0, &[SERVICE]),
        "spiffe://td/ns/shop/sa/a"
    ));
    assert!(may_ask(&snapshot, "spiffe://td/ns/shop/sa/a"));
}

#[test]
fn whom_a_baseline_denies_may_ask_nothing() {
    let baseline = r#"{"apiVersion":"countersign.dev/v1","kind":"Baseline","metadata":{"name":"org"},"spec":{"scope":{"mesh":true},"deny":[{"id":"no","from":[{"namespace":"shop"}]}]}}"#;
    let denying = snapshot_at(1, 0, &[SERVICE, &policy(&[orders()]), baseline]);
    assert!(!may_ask(&denying, "spiffe://td/ns/shop/sa/a"));
}

#[test]
fn servers_are_the_identities_of_the_service_s_workloads() {
    let service = SERVICE.replace(r#"["shop/orders"]"#, r#"["shop/orders","shop/custom"]"#);
    let servers = snapshot_at(1, 0, &[&service]).expected_servers(&"shop/orders".parse().unwrap());
    let servers: Vec<&str> = servers.iter().map(SpiffeId::as_str).collect();
    let expected = [
        "spiffe://td/legacy/custom",
        "spiffe://td/ns/shop/sa/custom",
        "spiffe://td/ns/shop/sa/orders",
    ];
    assert_eq!(servers, expected);
}

fn source() -> impl Strategy<Value = Value> {
    prop_oneof![
        "(shop|bi)/(a|b|custom)".prop_map(|name| json!({"workload": name})),
        "shop|bi".prop_map(|name| json!({"namespace": name})),
        caller().prop_map(|id| json!({"identity": id})),
        "spiffe://(td|other)/(ns|ns/shop|legacy)".prop_map(|id| json!({"under": id})),
        "td|other".prop_map(|domain| json!({"trustDomain": domain})),
        Just(json!({"any": "mtls-peer"})),
    ]
}

fn caller() -> impl Strategy<Value = String> {
    prop_oneof![
        "spiffe://(td|other)/ns/(shop|bi|sho)/sa/(a|b|custom)",
        "spiffe://(td|other)/legacy/(custom|x)",
        "spiffe://td/countersign/agent/a/b",
    ]
}

fn rules() -> impl Strategy<Value = Vec<Value>> {
    let entry = prop_oneof![
        Just(json!({"path": "/a"})),
        Just(json!({"path": "/{x}", "methods": ["GET"]})),
        Just(json!({"path": "/{x=**}", "methods": ["POST"]})),
    ];
    let to = prop::option::of(prop::collection::vec(entry, 1..3));
    let rule = (prop::collection::vec(source(), 1..3), to).prop_map(|(from, to)| match to {
        Some(http) => json!({"from": from, "to": {"http": http}}),
        None => json!({"from": from}),
    });
    prop::collection::vec(rule, 0..6).prop_map(|mut rules| {
        for (index, rule) in rules.iter_mut().enumerate() {
            rule["id"] = json!(format!("r{index}"));
        }
        rules
    })
}

/// The evaluation read plainly: the first rule in order whose `from` and `to` both hold.
fn plainly(snapshot: &PolicySnapshot, question: &Question<'_>) -> Option<String> {
    let (world, listener) = snapshot.listener(question).unwrap();
    let caller = world.caller(question.source);
    let admits = |rule: &&CompiledRule| {
        let fits =
            |entry| conditions(entry).all(|condition| condition.holds(entry, &question.request));
        rule.speaks_of(&caller) && (rule.to.is_empty() || rule.to.iter().any(fits))
    };
    let rule = listener.allow.rules().find(admits)?;
    Some(rule.rule.id.to_string())
}

proptest! {
    #[test]
    fn the_index_finds_what_a_plain_reading_finds(
        rules in rules(), source in caller(), method in "GET|POST", path in "/(a|b)(/c)?",
    ) {
        let snapshot = snapshot(&rules);
        let (service, port) = ("shop/orders".parse().unwrap(), "http".parse().unwrap());
        let (source, path) = (source.parse().unwrap(), RequestPath::parse(&method, &path));
        let question = Question {
            source: &source,
            target: Target { service: &service, port: &port },
            request: Request::Http { method: &method, path: &path, headers: &() },
        };
        let found = snapshot.judge(&question).verdict.rule().map(|rule| rule.id.to_string());
        prop_assert_eq!(found, plainly(&snapshot, &question));
    }

    #[test]
    fn order_of_rules_never_changes_the_verdict(
        rules in rules(), source in caller(), method in "GET|POST", path in "/(a|b)(/c)?",
    ) {
        let mut reversed = rules.clone();
        reversed.reverse();
        let verdict = |rules: &[Value]| ask(&snapshot(rules), &source, &method, &path).is_allow();
        prop_assert_eq!(verdict(&rules), verdict(&reversed));
    }

    #[test]
    fn a_further_rule_never_takes_an_allow_away(
        rules in rules(), source in caller(), method in "GET|POST", path in "/(a|b)(/c)?",
    ) {
        let fewer = rules.len().saturating_sub(1);
        let allowed = |rules: &[Value]| ask(&snapshot(rules), &source, &method, &path).is_allow();
        prop_assert!(!allowed(&rules[..fewer]) || allowed(&rules));
    }
}

#[test]
fn objects_and_their_json_compile_to_the_same() {
    let text = policy(&[orders()]);
    let objects: ObjectSet = parse_documents(&format!("{SERVICE}\n---\n{text}"))
        .unwrap()
        .into_iter()
        .collect();
    let revision = Revision {
        epoch: 1,
        number: 1,
    };
    let compiled = PolicySnapshot::compile(revision, &[0; 32], &mesh(), &objects, &[]);
    let asked = |snapshot| ask(snapshot, "spiffe://td/ns/shop/sa/a", "GET", "/orders/1");
    assert_eq!(asked(&compiled), asked(&snapshot(&[orders()])));
}
