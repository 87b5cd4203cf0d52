//! How a Route has calls carried: to which backend, how changed, how often and how long tried.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use mesh_tests::application::Application;
use mesh_tests::caller::{Answer, post, request};
use mesh_tests::mesh::Mesh;
use mesh_tests::shop::ORDERS;
use mesh_tests::waiting::eventually;
use mesh_tests::workload::Workload;

/// Services of the shop, their hosts, and `shop/checkout`, which may call them all.
struct Routed {
    checkout: Workload,
    _hosts: Vec<Workload>,
    mesh: Mesh,
}

impl Routed {
    /// Each application is a host of the Service that it is named with.
    async fn open(applications: &[(&str, &Application)]) -> Self {
        let mesh = Mesh::start().await;
        let mut hosts = Vec::new();
        for (number, (name, application)) in applications.iter().enumerate() {
            let host = mesh
                .workload(&format!("shop/{name}"))
                .on(&format!("host-{number}"))
                .serving("http", application.address());
            host.register().await;
            let objects = mesh.try_apply(&objects(name)).await;
            objects.expect("a valid Service and its Policy");
            hosts.push(host.start().await);
        }
        let checkout = mesh.workload("shop/checkout").start().await;
        Self {
            checkout,
            _hosts: hosts,
            mesh,
        }
    }

    /// Puts the one rule of `shop/orders` in force.
    async fn rule(&self, fields: &str) {
        self.rules(&format!("[{{{fields}}}]")).await;
    }

    async fn rules(&self, rules: &str) {
        let route = format!(
            r#"
apiVersion: countersign.dev/v1
kind: Route
metadata: {{namespace: shop, name: orders}}
spec: {{service: orders, port: http, rules: {rules}}}
"#
        );
        self.mesh.apply(&route).await;
    }

    async fn get(&self) -> Answer {
        let mut caller = self.checkout.caller().await;
        caller.get(&format!("{ORDERS}/v1/orders")).await
    }

    /// All calls are answered, and `silent` has been called too.
    async fn answers_beside(&self, silent: &Application) {
        eventually("the endpoint that is silent is called", || async {
            assert_eq!(self.get().await.status, StatusCode::OK);
            (silent.requests() > 0).then_some(())
        })
        .await;
    }

    async fn get_with(&self, name: &'static str) -> Answer {
        let mut call = request(Method::GET, &format!("{ORDERS}/v1/orders"));
        let value = HeaderValue::from_static("true");
        call.headers_mut().insert(name, value);
        self.checkout.caller().await.call(call).await
    }
}

fn objects(name: &str) -> String {
    format!(
        r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {{namespace: shop, name: {name}}}
spec:
  workloads: [shop/{name}]
  ports:
  - {{name: http, port: 80, protocol: http, app: 8080, balance: {{algorithm: round-robin}}}}
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {{namespace: shop, name: {name}}}
spec:
  targets: [{{service: {name}, port: http}}]
  allow: [{{id: checkout, from: [{{workload: shop/checkout}}]}}]
"#
    )
}

const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

#[tokio::test]
async fn a_header_leads_to_the_canary_and_nothing_else_does() {
    let (old, new) = (Application::http().await, Application::http().await);
    let routed = Routed::open(&[("orders", &old), ("orders-v2", &new)]).await;
    routed
        .rules("[{match: [{headers: {x-canary: 'true'}}], backends: [{service: orders-v2}]}]")
        .await;
    assert_eq!(routed.get().await.status, StatusCode::OK);
    assert_eq!((old.requests(), new.requests()), (1, 0));
    assert_eq!(routed.get_with("x-canary").await.status, StatusCode::OK);
    assert_eq!((old.requests(), new.requests()), (1, 1));
}

#[tokio::test]
async fn a_backend_without_weight_gets_nothing() {
    let (old, new) = (Application::http().await, Application::http().await);
    let routed = Routed::open(&[("orders", &old), ("orders-v2", &new)]).await;
    routed
        .rule("backends: [{service: orders, weight: 0}, {service: orders-v2, weight: 1}]")
        .await;
    for _ in 0..10 {
        assert_eq!(routed.get().await.status, StatusCode::OK);
    }
    assert_eq!((old.requests(), new.requests()), (0, 10));
}

#[tokio::test]
async fn the_application_gets_the_fields_as_the_route_changed_them() {
    let orders = Application::http().await;
    let routed = Routed::open(&[("orders", &orders)]).await;
    routed
        .rule("backends: [{service: orders}], headers: {set: {x-env: prod}, remove: [x-debug]}")
        .await;
    let seen = routed.get_with("x-debug").await.seen();
    assert_eq!(
        (seen.header("x-env"), seen.header("x-debug")),
        (Some("prod"), None)
    );
}

#[tokio::test]
async fn an_injected_abort_says_so_and_reaches_nobody() {
    let orders = Application::http().await;
    let routed = Routed::open(&[("orders", &orders)]).await;
    routed
        .rule("backends: [{service: orders}], fault: {abort: {percent: 100, status: 418}}")
        .await;
    let answer = routed.get().await;
    let told = (answer.status, answer.reason());
    assert_eq!(told, (StatusCode::IM_A_TEAPOT, Some("fault-injected")));
    assert_eq!(orders.requests(), 0);
}

#[tokio::test]
async fn an_injected_delay_holds_the_call_up_before_anybody_is_reached() {
    let orders = Application::http().await;
    let routed = Routed::open(&[("orders", &orders)]).await;
    let delayed = "backends: [{service: orders}], timeout: {request: 200ms}, \
                   fault: {delay: {percent: 100, by: 5m}}";
    routed.rule(delayed).await;
    let answer = routed.get().await;
    let told = (answer.status, answer.reason());
    assert_eq!(told, (StatusCode::GATEWAY_TIMEOUT, Some("deadline")));
    assert_eq!(orders.requests(), 0);
    routed.rule(&delayed.replace("5m", "1ms")).await;
    assert_eq!(routed.get().await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_call_that_takes_longer_than_the_route_gives_is_ended() {
    let silent = Application::silent().await;
    let routed = Routed::open(&[("orders", &silent)]).await;
    routed
        .rule("backends: [{service: orders}], timeout: {request: 200ms}")
        .await;
    let answer = routed.get().await;
    let told = (answer.status, answer.reason());
    assert_eq!(told, (StatusCode::GATEWAY_TIMEOUT, Some("deadline")));
}

#[tokio::test]
async fn a_get_is_tried_again_on_another_endpoint_and_a_post_is_not() {
    let (well, ill) = (
        Application::http().await,
        Application::answering(UNAVAILABLE).await,
    );
    let routed = Routed::open(&[("orders", &well), ("orders", &ill)]).await;
    routed
        .rule("backends: [{service: orders}], retry: {limit: 1, on: ['503']}")
        .await;
    let checkout = &routed.checkout;
    eventually("the endpoint that is ill is called", || async {
        assert_eq!(routed.get().await.status, StatusCode::OK);
        (ill.requests() > 0).then_some(())
    })
    .await;
    eventually("a post meets it", || async move {
        let order = post(&format!("{ORDERS}/v1/orders"), Bytes::from_static(b"one"));
        let answer = checkout.caller().await.call(order).await;
        (answer.status == UNAVAILABLE).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_try_that_takes_too_long_is_made_elsewhere() {
    let (well, silent) = (Application::http().await, Application::silent().await);
    let routed = Routed::open(&[("orders", &well), ("orders", &silent)]).await;
    routed
        .rule(
            "backends: [{service: orders}], timeout: {perTry: 1s}, retry: {limit: 1, on: [reset]}",
        )
        .await;
    routed.answers_beside(&silent).await;
}

#[tokio::test]
async fn a_slow_get_is_hedged() {
    let (well, silent) = (Application::http().await, Application::silent().await);
    let routed = Routed::open(&[("orders", &well), ("orders", &silent)]).await;
    routed
        .rule("match: [{methods: [GET]}], backends: [{service: orders}], hedge: {after: 20ms}")
        .await;
    routed.answers_beside(&silent).await;
}

#[tokio::test]
async fn a_mirror_gets_a_copy_and_nobody_waits_for_it() {
    let (orders, shadow) = (Application::http().await, Application::silent().await);
    let routed = Routed::open(&[("orders", &orders), ("orders-shadow", &shadow)]).await;
    routed
        .rule("backends: [{service: orders}], mirror: {service: orders-shadow, percent: 100}")
        .await;
    assert_eq!(routed.get().await.status, StatusCode::OK);
    eventually("the copy arrives", || async {
        (shadow.requests() == 1).then_some(())
    })
    .await;
}
