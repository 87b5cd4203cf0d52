//! Who may call: per request, by rule, and what a refusal says.

use countersign_proxy::{Reason, Verdict};

use crate::application::Application;
use crate::mesh::{Mesh, Sidecar};
use crate::wire::Wire;

pub(crate) const SERVICE: &str = "
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: orders}
spec:
  workloads: [shop/orders]
  ports: [{name: http, port: 80, protocol: http, app: 8080}]
";

pub(crate) fn allowing(from: &str) -> String {
    format!(
        "{SERVICE}
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {{namespace: shop, name: orders-api}}
spec:
  targets: [{{service: orders, port: http}}]
  allow:
  - id: readers
    from: [{{workload: {from}}}]
    to: {{http: [{{methods: [GET], path: \"/v1/{{rest=**}}\"}}]}}
  - id: writers
    from: [{{workload: {from}}}]
    to: {{http: [{{methods: [POST, OPTIONS]}}]}}
"
    )
}

/// `shop/checkout` calls `shop/orders`, and may.
pub(crate) async fn pair() -> (Mesh, Application, Sidecar, Sidecar) {
    pair_before(Application::http().await).await
}

/// The same in front of an application of the test's own.
pub(crate) async fn pair_before(application: Application) -> (Mesh, Application, Sidecar, Sidecar) {
    let mesh = Mesh::start(&allowing("shop/checkout"));
    mesh.serves("shop/orders", "shop/orders:http", application.address);
    let orders = mesh.sidecar("shop/orders").await;
    let checkout = mesh.sidecar("shop/checkout").await;
    (mesh, application, orders, checkout)
}

#[tokio::test]
async fn a_caller_that_no_rule_names_is_refused_with_rule_and_decision() {
    let (mesh, application, mut orders, _checkout) = pair().await;
    let mut intruder = mesh.sidecar("shop/intruder").await;

    let answer = Wire::connect(intruder.outbound())
        .await
        .get("/v1/orders")
        .await;

    assert_eq!(answer.status, 403);
    assert_eq!(answer.field("countersign-reason"), Some("policy-denied"));
    assert!(answer.body.contains("no-rule-matched"), "{}", answer.body);
    let (seen, said) = (orders.record().await, intruder.record().await);
    assert_eq!(
        (seen.verdict, seen.reason),
        (Verdict::Denied, Some(Reason::PolicyDenied))
    );
    assert_eq!(&*seen.source, "spiffe://test.example/ns/shop/sa/intruder");
    assert_eq!(
        seen.decision_id
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        answer.field("countersign-decision")
    );
    assert_eq!(
        (said.verdict, said.decision_id),
        (Verdict::Denied, seen.decision_id)
    );
    assert!(application.heads().is_empty());
}

#[tokio::test]
async fn a_request_outside_the_rule_is_refused_on_a_connection_that_goes_on() {
    let (_mesh, application, _orders, checkout) = pair().await;
    let mut wire = Wire::connect(checkout.outbound()).await;

    let refused = wire.get("/v2/orders").await;
    let allowed = wire.get("/v1/orders").await;

    assert_eq!((refused.status, allowed.status), (403, 200));
    assert_eq!(application.heads().len(), 1);
}

#[tokio::test]
async fn a_configuration_for_a_newer_engine_denies() {
    let (mesh, application, _orders, checkout) = pair().await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    assert_eq!(wire.get("/v1/orders").await.status, 200);
    let number = mesh.change(|world| world.engine_version = policy::ENGINE_VERSION + 1);
    mesh.applied("shop/orders", number).await;
    mesh.applied("shop/checkout", number).await;

    let answer = wire.get("/v1/orders").await;

    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("indeterminate"), "{}", answer.body);
    assert_eq!(application.heads().len(), 1);
}

#[tokio::test]
async fn names_that_the_mesh_does_not_have_say_what_to_do() {
    let (_mesh, _application, _orders, checkout) = pair().await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    for (host, status, reason) in [
        ("example.com", 502, "no-route"),
        ("nothing.shop.mesh.internal", 502, "no-route"),
        ("orders.shop.mesh.internal:81", 502, "no-route"),
    ] {
        let answer = wire.get_from(host, "/").await;
        assert_eq!(
            (answer.status, answer.field("countersign-reason")),
            (status, Some(reason))
        );
    }
}

#[tokio::test]
async fn a_service_that_nobody_announces_has_no_endpoints() {
    let mesh = Mesh::start(&allowing("shop/checkout"));
    let checkout = mesh.sidecar("shop/checkout").await;
    let answer = Wire::connect(checkout.outbound())
        .await
        .get("/v1/orders")
        .await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.field("countersign-reason"), Some("no-endpoints"));
}

#[tokio::test]
async fn a_grpc_caller_is_refused_in_grpcs_way() {
    let (mesh, _application, _orders, _checkout) = pair().await;
    let intruder = mesh.sidecar("shop/intruder").await;
    let mut wire = Wire::connect(intruder.outbound()).await;
    wire.send(
        "POST /v1/orders HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\n\
         content-type: application/grpc\r\ncontent-length: 0\r\n\r\n",
    )
    .await;

    let answer = wire.answer().await;

    assert_eq!(
        (answer.status, answer.field("grpc-status")),
        (200, Some("7"))
    );
    assert!(
        answer
            .field("grpc-message")
            .unwrap()
            .contains("policy-denied")
    );
}

#[tokio::test]
async fn a_permitted_call_arrives_and_both_sides_record_it() {
    let (_mesh, application, mut orders, mut checkout) = pair().await;

    let answer = Wire::connect(checkout.outbound())
        .await
        .get("/v1/orders?q=1")
        .await;

    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert!(application.heads()[0].starts_with("get /v1/orders?q=1 http/1.1"));
    let (seen, said) = (orders.record().await, checkout.record().await);
    assert_eq!(
        (seen.verdict, said.verdict),
        (Verdict::Allowed, Verdict::Allowed)
    );
    assert!(seen.rule.unwrap().contains("readers"));
    assert_eq!(
        (&*seen.target, seen.path.as_deref()),
        ("shop/orders:http", Some("/v1/orders"))
    );
    assert_eq!((seen.status, seen.bytes_out), (Some(200), 2));
    assert_eq!(said.decision_id, seen.decision_id);
}
