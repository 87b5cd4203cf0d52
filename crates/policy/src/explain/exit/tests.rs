use super::*;
use crate::parse::parse_documents;
use crate::revision::Revision;
use crate::world::{MeshNames, ObjectSet};

const OBJECTS: &str = r#"
apiVersion: countersign.dev/v1
kind: External
metadata: {namespace: shop, name: payments}
spec: {hosts: [api.payments.example], port: 8443, tls: {mode: originate, roots: {file: /roots.pem}}, from: [{workload: shop/checkout}]}
"#;

fn leave(source: &str, host: &str, port: Option<u16>) -> ExitExplanation {
    let objects: ObjectSet = parse_documents(OBJECTS).unwrap().into_iter().collect();
    let mesh = MeshNames::new("td".parse().unwrap(), identity::IdTemplate::default());
    let revision = Revision {
        epoch: 1,
        number: 4,
    };
    let snapshot = PolicySnapshot::compile(revision, &[0; 32], &mesh, &objects, &[]);
    snapshot.explain_exit(&Departure {
        source: &mesh.id(&source.parse().unwrap()),
        host,
        port,
    })
}

#[track_caller]
fn refused(told: &ExitExplanation) -> Vec<(&str, &str, &str)> {
    assert_eq!(
        (told.verdict.as_str(), told.reason.as_deref()),
        ("deny", Some("no-route"))
    );
    let misses = told.nearest_misses.iter();
    misses
        .map(|it| (&*it.condition, &*it.wanted, &*it.got))
        .collect()
}

#[test]
fn a_host_that_nobody_declares_is_refused_with_the_one_that_may_be_meant() {
    let told = leave("shop/checkout", "api.payment.example", None);
    let alike = ("host", "api.payments.example", "api.payment.example");
    assert_eq!(refused(&told), [alike]);
    assert_eq!(refused(&leave("shop/checkout", "other.test", None)), []);
}

#[test]
fn whom_from_does_not_name_and_another_port_are_refused_and_both_are_told() {
    let told = leave("shop/orders", "api.payments.example", Some(443));
    let caller = "workload shop/orders (spiffe://td/ns/shop/sa/orders)";
    let from = ("from", "workload shop/checkout", caller);
    assert_eq!(refused(&told), [from, ("port", "8443, or none", "443")]);
    let told = leave("shop/checkout", "api.payments.example", Some(443));
    assert!(told.message.ends_with("with another port"), "{told:?}");
    refused(&told);
}

#[test]
fn whom_from_names_may_call_with_the_declared_port_that_of_plain_http_or_none() {
    for (host, port) in [
        ("API.Payments.Example.", None),
        ("api.payments.example", Some(80)),
        ("api.payments.example", Some(8443)),
    ] {
        let told = leave("shop/checkout", host, port);
        assert_eq!(
            (told.verdict.as_str(), told.reason.clone()),
            ("allow", None),
            "{told:?}"
        );
        assert_eq!(told.object.as_deref(), Some("External shop/payments"));
        assert_eq!(told.tls.unwrap()["roots"]["file"], "/roots.pem");
    }
}
