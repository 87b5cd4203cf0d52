//! An orderly end finishes what it began, takes nothing new, and is not held up for ever.

use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use mesh_tests::application::Application;
use mesh_tests::caller::{Caller, request};
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::waiting::{DEADLINE, eventually};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

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

#[tokio::test]
async fn a_drain_under_load_loses_no_call_when_another_endpoint_is_left() {
    let shop = Shop::open().await;
    let stays = Application::http().await;
    let second = shop.mesh.workload("shop/orders").on("second");
    let _second = second.serving("http", stays.address()).start().await;
    let Shop {
        checkout,
        orders,
        application: leaves,
        mesh: _mesh,
    } = shop;
    let drained = CancellationToken::new();
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (h1, h2) = (checkout.caller().await, checkout.h2_caller().await);
        callers.spawn(calls_until(h1, drained.clone()));
        callers.spawn(calls_until(h2, drained.clone()));
    }
    eventually("both endpoints are called", || async {
        (leaves.requests() > 20 && stays.requests() > 20).then_some(())
    })
    .await;
    orders.proxy.drain(DEADLINE).await.expect("it drains");
    let after = stays.requests();
    eventually("calls go on", || async {
        (stays.requests() > after + 50).then_some(())
    })
    .await;
    drained.cancel();
    while let Some(caller) = callers.join_next().await {
        caller.expect("no call failed");
    }
}

async fn calls_until(mut caller: Caller, end: CancellationToken) {
    while !end.is_cancelled() {
        let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
}
