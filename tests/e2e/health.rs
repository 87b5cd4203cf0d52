//! Endpoints that say they are ill get no calls, and nobody gains anything by asking how they are.

use http::{HeaderValue, Method, StatusCode};
use mesh_tests::application::Application;
use mesh_tests::caller::request;
use mesh_tests::fleet::Fleet;
use mesh_tests::holder::Holder;
use mesh_tests::shop::ORDERS;
use mesh_tests::waiting::eventually;
use proxy::config::Mesh;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;

const CHECKED: &str = "balance: {algorithm: round-robin}, breaker: {consecutiveFailures: 1000, \
                       ejectFor: 100ms}, health: {path: /healthz, every: 100ms}";

async fn two() -> Vec<Application> {
    vec![Application::http().await, Application::http().await]
}

#[tokio::test]
async fn an_endpoint_that_is_ill_is_left_alone_and_comes_back() {
    let fleet = Fleet::open(CHECKED, two().await).await;
    fleet.only_called(0..2).await;
    fleet.applications[0].is_ill(true);
    fleet.only_called(1..2).await;
    fleet.applications[0].is_ill(false);
    fleet.only_called(0..2).await;
}

#[tokio::test]
async fn an_endpoint_where_nobody_is_does_not_stay_in_use() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let fleet = Fleet::with(CHECKED)
        .endpoint(nobody.local_addr().expect("bound"))
        .host(Application::http().await, Mesh::default());
    let fleet = fleet.open().await;
    drop(nobody);
    let unhealthy = r#"endpoints_unhealthy{target="shop/orders:http"} 1"#;
    fleet.get().await;
    eventually("it is taken out", || async {
        let metrics = fleet.checkout.metrics().await;
        metrics.contains(unhealthy).then_some(())
    })
    .await;
    let before = fleet.checkout.metrics().await;
    assert_eq!(fleet.spread(20).await, [20]);
    let after = fleet.checkout.metrics().await;
    assert_eq!(retries(&after), retries(&before));
}

/// How many calls were tried again.
fn retries(metrics: &str) -> Option<&str> {
    metrics
        .lines()
        .find(|line| line.contains("call_retries_total{"))
}

#[tokio::test]
async fn when_all_are_ill_all_are_called() {
    let fleet = Fleet::open(CHECKED, two().await).await;
    fleet.only_called(0..2).await;
    fleet.applications[0].is_ill(true);
    fleet.only_called(1..2).await;
    fleet.applications[1].is_ill(true);
    fleet.only_called(0..2).await;
}

#[tokio::test]
async fn one_that_is_back_starts_slowly() {
    let slow = CHECKED.replace("ejectFor: 100ms", "ejectFor: 1h");
    let fleet = Fleet::open(&slow, two().await).await;
    fleet.only_called(0..2).await;
    fleet.applications[0].is_ill(true);
    fleet.only_called(1..2).await;
    fleet.applications[0].is_ill(false);
    fleet.only_called(0..2).await;
    let spread = fleet.spread(200).await;
    assert!((1..60).contains(&spread[0]), "{spread:?}");
}

#[tokio::test]
async fn a_check_needs_no_rule_and_the_same_request_by_a_program_does() {
    let fleet = Fleet::open(CHECKED, vec![Application::http().await]).await;
    fleet.get().await;
    let application = &fleet.applications[0];
    eventually("it is asked", || async {
        (application.checks() > 0).then_some(())
    })
    .await;
    let mut asking = request(Method::GET, &format!("{ORDERS}/healthz"));
    let check = HeaderValue::from_static("check");
    asking.headers_mut().insert("countersign-health", check);
    let answer = fleet.checkout.caller().await.call(asking).await;
    let told = (answer.status, answer.reason());
    assert_eq!(told, (StatusCode::FORBIDDEN, Some("policy-denied")));
}

#[tokio::test]
async fn who_may_call_nothing_may_not_ask_either() {
    let fleet = Fleet::open(CHECKED, vec![Application::http().await]).await;
    fleet.mesh.workload("shop/intruder").register().await;
    let answer = check("intruder", &fleet, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(fleet.applications[0].checks(), 0);
}

#[tokio::test]
async fn a_check_is_for_the_declared_path_alone_and_learns_a_status_alone() {
    let fleet = Fleet::open(CHECKED, vec![Application::http().await]).await;
    for path in ["/v1/orders", "/healthz?all", "/healthz/"] {
        let answer = check("checkout", &fleet, path).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }
    assert_eq!(fleet.applications[0].requests(), 0);
    let answer = check("checkout", &fleet, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn those_who_ask_and_leave_make_the_application_no_work() {
    let seldom = CHECKED.replace("every: 100ms", "every: 1m");
    let fleet = Fleet::open(&seldom, vec![Application::http().await]).await;
    for _ in 0..10 {
        drop(asking("checkout", &fleet, "/healthz").await);
    }
    let answer = check("checkout", &fleet, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(fleet.applications[0].checks(), 1);
}

/// Asks as a caller's proxy would, with the credentials of `shop/name`.
async fn check(name: &str, fleet: &Fleet, path: &str) -> String {
    let mut peer = asking(name, fleet, path).await;
    let mut answer = Vec::new();
    // How the connection ends does not matter here.
    drop(peer.read_to_end(&mut answer).await);
    String::from_utf8(answer).expect("an answer in ASCII")
}

async fn asking(name: &str, fleet: &Fleet, path: &str) -> TlsStream<TcpStream> {
    let holder = Holder::of(&fleet.mesh, name).await;
    let listener = fleet.hosts[0].mesh_listener();
    let mut peer = holder.connect(listener, b"http/1.1").await;
    let head = "host: orders.shop.mesh.internal\r\ncountersign-health: check\r\nconnection: close";
    let asking = format!("GET {path} HTTP/1.1\r\n{head}\r\n\r\n");
    let written = peer.write_all(asking.as_bytes()).await;
    written.expect("it listens");
    peer
}
