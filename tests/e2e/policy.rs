//! Who may call whom, over real sockets.

use http::{HeaderValue, Method, StatusCode};
use mesh_tests::caller::request;
use mesh_tests::shop::{NOBODY_MAY_CALL, ORDERS, Shop};

#[tokio::test]
async fn a_method_that_no_rule_names_is_refused() {
    let shop = Shop::open().await;
    let delete = request(Method::DELETE, &format!("{ORDERS}/v1/orders"));
    let answer = shop.checkout.caller().await.call(delete).await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::FORBIDDEN, Some("policy-denied"))
    );
}

#[tokio::test]
async fn a_path_with_two_readings_is_refused() {
    let shop = Shop::open().await;
    let mut caller = shop.checkout.caller().await;
    for path in [
        "/v1/%2e%2e/admin",
        "/v1//orders",
        "/v1/a%2Fb",
        "/v1/a;b",
        "/v1/%252e",
    ] {
        let answer = caller.get(&format!("{ORDERS}{path}")).await;
        let refused = (StatusCode::BAD_REQUEST, Some("path-ambiguous"));
        assert_eq!((answer.status, answer.reason()), refused, "{path}");
    }
}

#[tokio::test]
async fn the_form_that_was_judged_is_what_the_application_gets() {
    let shop = Shop::open().await;
    let answer = shop
        .checkout
        .caller()
        .await
        .get(&format!("{ORDERS}/v1/%6frders?q=%2F"))
        .await;
    assert_eq!(answer.seen().target, "/v1/orders?q=%2F");
}

#[tokio::test]
async fn an_identity_header_from_the_caller_does_not_arrive() {
    let shop = Shop::open().await;
    let mut forged = request(Method::GET, &format!("{ORDERS}/v1/orders"));
    for name in [
        "x-forwarded-client-cert",
        "x_forwarded_client_cert",
        "X-Forwarded_Client-Cert",
    ] {
        let name = http::HeaderName::try_from(name).expect("a valid name");
        forged.headers_mut().append(
            name,
            HeaderValue::from_static("URI=spiffe://mesh.test/king"),
        );
    }
    let seen = shop.checkout.caller().await.call(forged).await.seen();
    assert!(
        !seen.headers.iter().any(|(_, value)| value.contains("king")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_name_outside_the_mesh_has_no_route() {
    let shop = Shop::open().await;
    let answer = shop
        .checkout
        .caller()
        .await
        .get("http://example.com/")
        .await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::BAD_GATEWAY, Some("no-route"))
    );
}

#[tokio::test]
async fn a_service_without_policy_is_closed() {
    let shop = Shop::open().await;
    shop.mesh.delete("/v1/policies/shop/orders").await;
    let answer = shop
        .checkout
        .caller()
        .await
        .get(&format!("{ORDERS}/v1/orders"))
        .await;
    assert_eq!(
        (answer.status, answer.reason()),
        (StatusCode::FORBIDDEN, Some("policy-denied"))
    );
}

#[tokio::test]
async fn a_change_is_in_force_when_it_is_called_enforced() {
    let shop = Shop::open().await;
    let mut caller = shop.checkout.caller().await;
    let before = caller.get(&format!("{ORDERS}/v1/orders")).await;
    shop.mesh.apply(NOBODY_MAY_CALL).await;
    let after = caller.get(&format!("{ORDERS}/v1/orders")).await;
    assert_eq!(
        (before.status, after.status),
        (StatusCode::OK, StatusCode::FORBIDDEN)
    );
}

#[tokio::test]
async fn a_refusal_names_its_decision() {
    let shop = Shop::open().await;
    let intruder = shop.intruder().await;
    let mut caller = intruder.caller().await;
    let [first, second] = [
        caller.get(&format!("{ORDERS}/v1/orders")).await,
        caller.get(&format!("{ORDERS}/v1/orders")).await,
    ];
    assert!(
        first.decision().is_some_and(|id| id.len() == 32),
        "{first:?}"
    );
    assert_eq!(first.decision(), second.decision());
}
