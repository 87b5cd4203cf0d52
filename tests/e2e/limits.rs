//! What a port lets in: rates and calls in flight, in total and for each caller.

use http::{Method, StatusCode};
use mesh_tests::caller::{Answer, request};
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::waiting::eventually;

/// The shop's Service with these fields of its port.
fn service(fields: &str) -> String {
    format!(
        r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {{namespace: shop, name: orders}}
spec:
  workloads: [shop/orders]
  ports: [{{name: http, port: 80, protocol: http, app: 8080, {fields}}}]
"#
    )
}

const TWO_MAY_CALL: &str = r#"
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: orders}
spec:
  targets: [{service: orders, port: http}]
  allow:
  - id: both
    from: [{workload: shop/checkout}, {workload: shop/intruder}]
"#;

fn told(answer: &Answer) -> (StatusCode, Option<&str>) {
    (answer.status, answer.reason())
}

const LIMITED: (StatusCode, Option<&str>) = (StatusCode::TOO_MANY_REQUESTS, Some("rate-limited"));
const FULL: (StatusCode, Option<&str>) = (StatusCode::SERVICE_UNAVAILABLE, Some("bulkhead-full"));

#[tokio::test]
async fn a_call_beyond_the_rate_is_told_when_to_come_back_and_reaches_nobody() {
    let shop = Shop::open().await;
    let rate = service("rateLimit: {requestsPerSecond: 1, burst: 2}");
    shop.mesh.apply(&rate).await;
    let mut caller = shop.checkout.caller().await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(caller.get(&format!("{ORDERS}/v1/orders")).await);
    }
    let limited = answers.iter().find(|it| told(it) == LIMITED);
    let limited = limited.expect("one of three is beyond a burst of two");
    assert_eq!(limited.headers.get("retry-after").expect("a time"), "1");
    let let_in = answers
        .iter()
        .filter(|it| it.status == StatusCode::OK)
        .count();
    assert_eq!(shop.application.requests(), let_in);
}

#[tokio::test]
async fn one_caller_at_its_rate_leaves_another_alone() {
    let shop = Shop::open().await;
    let rate = service("rateLimit: {perCaller: {requestsPerSecond: 1, burst: 1}}");
    shop.mesh.apply(TWO_MAY_CALL).await;
    shop.mesh.apply(&rate).await;
    let checkout = &shop.checkout;
    eventually("a caller meets its rate", || async move {
        let mut caller = checkout.caller().await;
        let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
        (told(&answer) == LIMITED).then_some(())
    })
    .await;
    let other = shop.intruder().await;
    let answer = other
        .caller()
        .await
        .get(&format!("{ORDERS}/v1/orders"))
        .await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_caller_with_all_its_places_taken_is_refused_until_one_is_free() {
    let shop = Shop::open().await;
    let room = service("bulkhead: {inFlight: 10, perCaller: {inFlight: 1}}");
    shop.mesh.apply(&room).await;
    let mut holder = shop.checkout.caller().await;
    let held = request(Method::GET, &format!("{ORDERS}/stream"));
    let held = holder.start(held).await;
    let mut caller = shop.checkout.caller().await;
    let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
    assert_eq!(told(&answer), FULL);

    drop((held, holder));
    let checkout = &shop.checkout;
    eventually("the place is free", || async move {
        let mut caller = checkout.caller().await;
        let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test]
async fn limits_are_told_by_the_gauges_and_go_with_the_limits() {
    let shop = Shop::open().await;
    let limited = "bulkhead: {inFlight: 7}, rateLimit: {requestsPerSecond: 1, burst: 9}";
    shop.mesh.apply(&service(limited)).await;
    let told = [
        ("in_flight", 0),
        ("in_flight_limit", 7),
        ("rate_limit_tokens", 9),
    ]
    .map(|(level, value)| format!("{level}{{target=\"shop/orders:http\"}} {value}\n"));
    eventually("the gauges say so", || async {
        let metrics = shop.orders.metrics().await;
        told.iter().all(|it| metrics.contains(it)).then_some(())
    })
    .await;
    shop.mesh.apply(&service("")).await;
    eventually("nothing is told of limits that are gone", || async {
        let metrics = shop.orders.metrics().await;
        (!metrics.contains("in_flight_limit{")).then_some(())
    })
    .await;
}
