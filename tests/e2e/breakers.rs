//! Which endpoint a call goes to, and which are left alone.

use http::{HeaderValue, Method, StatusCode};
use mesh_tests::application::Application;
use mesh_tests::caller::request;
use mesh_tests::fleet::Fleet;
use mesh_tests::shop::ORDERS;
use mesh_tests::waiting::eventually;
use proxy::config::Mesh as MeshSection;

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
async fn a_grpc_failure_that_only_the_trailers_tell_counts() {
    let failing = Application::grpc_failing_late().await;
    let breaker = "breaker: {consecutiveFailures: 2, ejectFor: 1h, maxEjected: 1}";
    let fleet = Fleet::with(breaker).speaking("grpc");
    let fleet = fleet.host(failing, MeshSection::default()).open().await;
    let mut caller = fleet.checkout.h2_caller().await;
    let mut reasons = Vec::new();
    for _ in 0..3 {
        let mut call = request(Method::POST, &format!("{ORDERS}/v1/orders"));
        let grpc = HeaderValue::from_static("application/grpc");
        call.headers_mut().insert("content-type", grpc);
        let answer = caller.call(call).await;
        reasons.push(answer.reason().map(str::to_owned));
    }
    assert_eq!(reasons, [None, None, Some("breaker-open".to_owned())]);
    assert_eq!(fleet.applications[0].requests(), 2);
}

#[tokio::test]
async fn an_endpoint_is_loaded_until_the_last_byte() {
    let two = vec![Application::http().await, Application::http().await];
    let fleet = Fleet::open("balance: {algorithm: least-request}", two).await;
    fleet.all_are_known().await;
    let counts = || fleet.applications.iter().map(Application::requests);
    let mut caller = fleet.checkout.h2_caller().await;
    let before: Vec<_> = counts().collect();
    let stream = request(Method::GET, &format!("{ORDERS}/stream"));
    let held = caller.another().start(stream).await;
    let during: Vec<_> = counts().collect();
    for _ in 0..10 {
        caller.get(&format!("{ORDERS}/v1/orders")).await;
    }
    let after = counts().zip(during.iter().zip(&before));
    let streaming = after.filter(|(_, (during, before))| during > before);
    let grown: Vec<_> = streaming
        .map(|(after, (during, _))| after - during)
        .collect();
    assert_eq!(grown, [0]);
    drop(held);
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

#[tokio::test]
async fn an_ejection_is_told_by_the_gauges() {
    let failing = Application::answering(StatusCode::INTERNAL_SERVER_ERROR).await;
    let fleet = Fleet::open(
        "balance: {algorithm: round-robin}, breaker: {consecutiveFailures: 1, ejectFor: 1h}",
        vec![failing, Application::http().await],
    )
    .await;
    fleet.all_are_known().await;
    eventually("the gauges say so", || async {
        let metrics = fleet.checkout.metrics().await;
        let told = ["endpoints_ejected", "endpoints_available"]
            .map(|level| format!(r#"countersign_proxy_{level}{{target="shop/orders:http"}} 1"#));
        told.iter().all(|it| metrics.contains(it)).then_some(())
    })
    .await;
}
