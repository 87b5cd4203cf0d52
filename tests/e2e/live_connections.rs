//! A revoked permission ends what it once began: requests in flight and TCP connections.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use mesh_tests::application::Application;
use mesh_tests::caller::request;
use mesh_tests::mesh::Mesh;
use mesh_tests::shop::{NOBODY_MAY_CALL, ORDERS, Shop};
use mesh_tests::waiting::DEADLINE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn a_stream_in_flight_is_reset_when_policy_forbids_it() {
    let shop = Shop::open().await;
    let mut caller = shop.checkout.caller().await;
    let stream = caller
        .start(request(Method::GET, &format!("{ORDERS}/stream")))
        .await;
    assert_eq!(stream.status(), StatusCode::OK);
    let mut body = stream.into_body();
    body.frame()
        .await
        .expect("a first chunk")
        .expect("it arrives");
    shop.mesh.apply(NOBODY_MAY_CALL).await;
    let ended = timeout(DEADLINE, async {
        while let Some(Ok(_)) = body.frame().await {}
    })
    .await;
    ended.expect("the stream ends");
}

#[tokio::test]
async fn a_stream_in_flight_outlives_a_change_that_still_allows_it() {
    let shop = Shop::open().await;
    let mut caller = shop.checkout.caller().await;
    let mut body = caller
        .start(request(Method::GET, &format!("{ORDERS}/stream")))
        .await
        .into_body();
    let unrelated = NOBODY_MAY_CALL.replace("orders", "ledger");
    shop.mesh.apply(&format!("{LEDGER}---{unrelated}")).await;
    for _ in 0..3 {
        body.frame()
            .await
            .expect("the stream goes on")
            .expect("it is not reset");
    }
}

#[tokio::test]
async fn a_tcp_connection_is_cut_when_policy_forbids_it() {
    let mesh = Mesh::start().await;
    let echo = Application::tcp_echo().await;
    let database = mesh.workload("shop/database").serving("pg", echo.address());
    database.register().await;
    mesh.try_apply(DATABASE).await.expect("valid");
    let _database = database.start().await;
    let checkout = mesh
        .workload("shop/checkout")
        .reaching("shop/database", "pg")
        .start()
        .await;
    let local = *checkout
        .proxy
        .reach_addresses()
        .values()
        .next()
        .expect("a local port");
    let mut socket = TcpStream::connect(local).await.expect("the proxy listens");
    socket.write_all(b"ping").await.expect("writable");
    let mut echoed = [0; 4];
    socket
        .read_exact(&mut echoed)
        .await
        .expect("the echo arrives");
    mesh.apply(&DATABASE_POLICY.replace("{workload: shop/checkout}", "{workload: shop/other}"))
        .await;
    let ended = timeout(DEADLINE, socket.read(&mut echoed))
        .await
        .expect("the connection ends");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn a_tcp_connection_that_nobody_allowed_carries_nothing() {
    let mesh = Mesh::start().await;
    let echo = Application::tcp_echo().await;
    let database = mesh.workload("shop/database").serving("pg", echo.address());
    database.register().await;
    mesh.try_apply(DATABASE).await.expect("valid");
    let _database = database.start().await;
    let intruder = mesh
        .workload("shop/intruder")
        .reaching("shop/database", "pg")
        .start()
        .await;
    let local = *intruder
        .proxy
        .reach_addresses()
        .values()
        .next()
        .expect("a local port");
    let mut socket = TcpStream::connect(local).await.expect("the proxy listens");
    // The refusal may come before or after this.
    drop(socket.write_all(b"ping").await);
    let answer = timeout(DEADLINE, socket.read(&mut [0; 4]))
        .await
        .expect("the connection ends");
    assert!(matches!(answer, Ok(0) | Err(_)), "{answer:?}");
}

const LEDGER: &str = r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: ledger}
spec:
  workloads: [shop/orders]
  ports: [{name: http, port: 80, protocol: http, app: 8081}]
"#;

const DATABASE: &str = r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: database}
spec:
  workloads: [shop/database]
  ports: [{name: pg, port: 5432, protocol: tcp, app: 5432}]
---
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: database}
spec:
  targets: [{service: database, port: pg}]
  allow: [{id: checkout, from: [{workload: shop/checkout}]}]
"#;

const DATABASE_POLICY: &str = r#"
apiVersion: countersign.dev/v1
kind: Policy
metadata: {namespace: shop, name: database}
spec:
  targets: [{service: database, port: pg}]
  allow: [{id: checkout, from: [{workload: shop/checkout}]}]
"#;
