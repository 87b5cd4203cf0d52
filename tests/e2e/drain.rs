//! An orderly end finishes what it began, takes nothing new, and is not held up for ever.

use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use mesh_tests::caller::request;
use mesh_tests::shop::{ORDERS, Shop};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_drained_mesh_ends_without_a_failure() {
    let Shop {
        checkout,
        orders,
        application,
        mesh,
    } = Shop::open().await;
    checkout.drain().await;
    orders.drain().await;
    mesh.ca
        .drain(Duration::from_secs(10))
        .await
        .expect("the CA drains");
    drop(application);
}

#[tokio::test]
async fn a_draining_proxy_accepts_nobody() {
    let shop = Shop::open().await;
    let outbound = shop.checkout.outbound();
    shop.checkout.drain().await;
    TcpStream::connect(outbound)
        .await
        .expect_err("nobody listens any more");
}

#[tokio::test]
async fn an_endless_stream_is_cut_at_the_deadline() {
    let shop = Shop::open().await;
    let mut caller = shop.checkout.caller().await;
    let stream = caller
        .start(request(Method::GET, &format!("{ORDERS}/stream")))
        .await;
    assert_eq!(stream.status(), StatusCode::OK);
    let mut body = stream.into_body();
    let deadline = Duration::from_millis(200);
    let (drained, ()) = tokio::join!(shop.orders.proxy.drain(deadline), async {
        while let Some(Ok(_)) = body.frame().await {}
    });
    drained.expect("a forced end is an orderly end");
}
