//! The least that every build must do, whatever its cryptography.

use http::StatusCode;
use mesh_tests::shop::{ORDERS, Shop};

#[tokio::test]
async fn a_call_that_nobody_allowed_is_refused() {
    let shop = Shop::open().await;
    let intruder = shop.intruder().await;
    let answer = intruder
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
async fn a_permitted_call_carries_the_identity_of_its_caller() {
    let shop = Shop::open().await;
    let answer = shop
        .checkout
        .caller()
        .await
        .get(&format!("{ORDERS}/v1/orders"))
        .await;
    let seen = answer.seen();
    let certificate = seen
        .header("x-forwarded-client-cert")
        .expect("set by the proxy");
    assert!(
        certificate.ends_with("URI=spiffe://mesh.test/ns/shop/sa/checkout"),
        "{certificate}"
    );
}
