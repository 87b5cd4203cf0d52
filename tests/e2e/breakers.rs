//! Which endpoint a call goes to, and which are left alone.

use http::{HeaderValue, Method, StatusCode};
use mesh_tests::application::Application;
use mesh_tests::caller::request;
use mesh_tests::mesh::Mesh;
use mesh_tests::shop::{CHECKOUT_MAY_CALL, ORDERS};
use mesh_tests::waiting::eventually;
use mesh_tests::workload::Workload;

/// `shop/orders` with an application on each of several hosts.
struct Fleet {
    applications: Vec<Application>,
    checkout: Workload,
    _hosts: Vec<Workload>,
    _mesh: Mesh,
}

impl Fleet {
    async fn open(fields: &str, applications: Vec<Application>) -> Self {
        let mesh = Mesh::start().await;
        let service = format!(
            r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {{namespace: shop, name: orders}}
spec:
  workloads: [shop/orders]
  ports: [{{name: http, port: 80, protocol: http, app: 8080, {fields}}}]
"#
        );
        let mut hosts = Vec::new();
        for (number, application) in applications.iter().enumerate() {
            let host = mesh
                .workload("shop/orders")
                .on(&format!("host-{number}"))
                .serving("http", application.address());
            host.register().await;
            if number == 0 {
                mesh.try_apply(&service).await.expect("a valid service");
                let policy = mesh.try_apply(CHECKOUT_MAY_CALL).await;
                policy.expect("a valid policy");
            }
            hosts.push(host.start().await);
        }
        let checkout = mesh.workload("shop/checkout").start().await;
        Self {
            applications,
            checkout,
            _hosts: hosts,
            _mesh: mesh,
        }
    }

    /// Calls until each application has been reached.
    async fn all_are_known(&self) {
        eventually("every endpoint is called", || async move {
            let mut caller = self.checkout.caller().await;
            caller.get(&format!("{ORDERS}/v1/orders")).await;
            let reached = self.applications.iter().all(|it| it.requests() > 0);
            reached.then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_alone() {
    let failing = Application::answering(StatusCode::INTERNAL_SERVER_ERROR).await;
    let fleet = Fleet::open(
        "balance: {algorithm: round-robin}, breaker: {consecutiveFailures: 1, ejectFor: 1h}",
        vec![failing, Application::http().await],
    )
    .await;
    fleet.all_are_known().await;
    let mut caller = fleet.checkout.caller().await;
    for _ in 0..20 {
        let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
        assert_eq!(answer.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn when_all_may_be_ejected_and_are_nobody_is_asked() {
    let failing = Application::answering(StatusCode::INTERNAL_SERVER_ERROR).await;
    let fleet = Fleet::open(
        "breaker: {consecutiveFailures: 1, ejectFor: 1h, maxEjected: 1}",
        vec![failing],
    )
    .await;
    let mut caller = fleet.checkout.caller().await;
    let first = caller.get(&format!("{ORDERS}/v1/orders")).await;
    let second = caller.get(&format!("{ORDERS}/v1/orders")).await;
    assert_eq!(first.status, StatusCode::INTERNAL_SERVER_ERROR);
    let refusal = (second.status, second.reason());
    assert_eq!(
        refusal,
        (StatusCode::SERVICE_UNAVAILABLE, Some("breaker-open"))
    );
    assert!(second.headers.contains_key("retry-after"));
    assert_eq!(fleet.applications[0].requests(), 1);
}

#[tokio::test]
async fn the_only_endpoint_stays_in_use_however_it_fails() {
    let failing = Application::answering(StatusCode::INTERNAL_SERVER_ERROR).await;
    let fleet = Fleet::open("breaker: {consecutiveFailures: 1}", vec![failing]).await;
    let mut caller = fleet.checkout.caller().await;
    for _ in 0..3 {
        let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(fleet.applications[0].requests(), 3);
}

#[tokio::test]
async fn calls_with_one_value_of_the_header_go_to_one_endpoint() {
    let two = vec![Application::http().await, Application::http().await];
    let hash = "balance: {algorithm: {hash: {header: x-user}}}";
    let fleet = Fleet::open(hash, two).await;
    fleet.all_are_known().await;
    let mut caller = fleet.checkout.caller().await;
    let before: Vec<usize> = fleet
        .applications
        .iter()
        .map(Application::requests)
        .collect();
    for _ in 0..20 {
        let mut call = request(Method::GET, &format!("{ORDERS}/v1/orders"));
        let user = HeaderValue::from_static("ada");
        call.headers_mut().insert("x-user", user);
        assert_eq!(caller.call(call).await.status, StatusCode::OK);
    }
    let after = fleet.applications.iter().map(Application::requests);
    let gained: Vec<usize> = after.zip(before).map(|(now, then)| now - then).collect();
    assert!(gained == [20, 0] || gained == [0, 20], "{gained:?}");
}
