//! What a caller's own proxy keeps back: connections to a port, and calls that wait for one.

use std::time::Duration;

use http::{Method, StatusCode};
use mesh_tests::application::Application;
use mesh_tests::caller::{Answer, request};
use mesh_tests::database::Database;
use mesh_tests::mesh::Mesh;
use mesh_tests::shop::{CHECKOUT_MAY_CALL, ORDERS, Shop};
use mesh_tests::waiting::{DEADLINE, eventually};
use mesh_tests::workload::Workload;
use proxy::config::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::client_async;

const FULL: (StatusCode, Option<&str>) = (StatusCode::SERVICE_UNAVAILABLE, Some("bulkhead-full"));

/// The shop's Service with this bulkhead.
fn service(bulkhead: &str) -> String {
    format!(
        r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {{namespace: shop, name: orders}}
spec:
  workloads: [shop/orders]
  ports: [{{name: http, port: 80, protocol: http, app: 8080, bulkhead: {{{bulkhead}}}}}]
"#
    )
}

/// With one connection at most.
const DATABASE: &str = r#"
apiVersion: countersign.dev/v1
kind: Service
metadata: {namespace: shop, name: database}
spec:
  workloads: [shop/database]
  ports: [{name: pg, port: 5432, protocol: tcp, app: 5432, bulkhead: {connections: 1}}]
"#;

fn told(answer: &Answer) -> (StatusCode, Option<&str>) {
    (answer.status, answer.reason())
}

/// `shop/checkout` and `shop/orders` with limits of their own.
async fn pair(
    mesh: &Mesh,
    application: &Application,
    bulkhead: &str,
    (checkout, orders): (Limits, Limits),
) -> (Workload, Workload) {
    let serving = mesh.workload("shop/orders").limited(orders);
    let serving = serving.serving("http", application.address());
    serving.register().await;
    for object in [&service(bulkhead), CHECKOUT_MAY_CALL] {
        mesh.try_apply(object).await.expect("a valid object");
    }
    let orders = serving.start().await;
    let checkout = mesh.workload("shop/checkout").limited(checkout);
    (checkout.start().await, orders)
}

async fn get(checkout: &Workload) -> Answer {
    let mut caller = checkout.caller().await;
    caller.get(&format!("{ORDERS}/v1/orders")).await
}

#[tokio::test]
async fn a_tcp_connection_beyond_the_limit_is_refused_until_one_ends() {
    let mesh = Mesh::start().await;
    let database = Database::open_in(&mesh, Application::tcp_echo().await).await;
    mesh.apply(DATABASE).await;
    let reach = database.cashier.reach();
    let mut records = database.cashier.proxy.calls();
    let first = echoed(reach).await.expect("there is a place");
    assert!(echoed(reach).await.is_none());
    let record = timeout(DEADLINE, records.recv()).await.expect("in time");
    let reason = record.expect("a record").reason;
    assert_eq!(reason.map(proxy::Reason::code), Some("bulkhead-full"));
    drop(first);
    eventually("the place is free", || echoed(reach)).await;
}

#[tokio::test]
async fn a_call_that_would_wait_beside_as_many_as_may_is_refused() {
    let shop = Shop::open().await;
    shop.mesh.workload("shop/intruder").register().await;
    let silent = Application::silent().await;
    let slow = service("pending: 1").replace("name: orders", "name: slow");
    let slow = slow.replace("[shop/orders]", "[shop/intruder]");
    let port = silent.port();
    let slow = format!("{slow}  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]\n");
    shop.mesh.try_apply(&slow).await.expect("a valid service");
    let mut waits = shop.checkout.caller().await;
    let mut waiting = JoinSet::new();
    waiting.spawn(async move { waits.get("http://slow.shop.mesh.internal/").await });
    eventually("it waits", || async {
        (silent.requests() > 0).then_some(())
    })
    .await;
    let mut caller = shop.checkout.caller().await;
    let answer = caller.get("http://slow.shop.mesh.internal/").await;
    assert_eq!(told(&answer), FULL);
    assert_eq!(answer.headers.get("retry-after").expect("a time"), "1");
}

#[tokio::test]
async fn a_call_without_a_place_waits_no_longer_than_a_connection_may_take() {
    let mesh = Mesh::start().await;
    let application = Application::websocket().await;
    let impatient = Limits {
        connect: Duration::from_millis(200).into(),
        ..Limits::default()
    };
    let limits = (impatient, Limits::default());
    let (checkout, _orders) = pair(&mesh, &application, "connections: 1", limits).await;
    let socket = TcpStream::connect(checkout.outbound()).await;
    let chat = client_async(
        "ws://orders.shop.mesh.internal/v1/chat",
        socket.expect("the proxy listens"),
    );
    let (mut chat, _) = chat.await.expect("it has the place");
    assert_eq!(told(&get(&checkout).await), FULL);
    chat.close(None).await.expect("closed in good order");
    drop(chat);
    eventually("the place is free", || async {
        (told(&get(&checkout).await) != FULL).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_call_waits_for_a_stream_of_the_one_connection() {
    let mesh = Mesh::start().await;
    let application = Application::http().await;
    let patient = Limits {
        connect: DEADLINE.into(),
        ..Limits::default()
    };
    let narrow = Limits {
        streams: 1,
        ..Limits::default()
    };
    let bulkhead = "connections: 1, pending: 1";
    let (checkout, _orders) = pair(&mesh, &application, bulkhead, (patient, narrow)).await;
    let mut holder = checkout.h2_caller().await;
    let mut others = JoinSet::new();
    let callers = [holder.another(), holder.another()];
    let held = holder
        .start(request(Method::GET, &format!("{ORDERS}/stream")))
        .await;
    for mut caller in callers {
        others.spawn(async move { caller.get(&format!("{ORDERS}/v1/orders")).await });
    }
    let first = others.join_next().await.expect("two calls");
    assert_eq!(told(&first.expect("an answer")), FULL);
    drop(held);
    let second = timeout(DEADLINE, others.join_next())
        .await
        .expect("in time");
    let second = second.expect("two calls").expect("an answer");
    assert_eq!(second.status, StatusCode::OK);
}

#[tokio::test]
async fn calls_go_where_the_one_connection_leads() {
    let mesh = Mesh::start().await;
    let (one, other) = (Application::http().await, Application::http().await);
    let limits = (Limits::default(), Limits::default());
    let (checkout, _orders) = pair(&mesh, &one, "connections: 1", limits).await;
    let second = mesh.workload("shop/orders").on("second");
    let _second = second.serving("http", other.address()).start().await;
    let mut caller = checkout.caller().await;
    for _ in 0..20 {
        let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    let mut requests = [one.requests(), other.requests()];
    requests.sort_unstable();
    assert_eq!(requests, [0, 20]);
}

/// A connection that carries bytes, if there is one to be had.
async fn echoed(reach: std::net::SocketAddr) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(reach).await.expect("the proxy listens");
    let mut echo = [0; 4];
    let carried = async {
        socket.write_all(b"ping").await?;
        socket.read_exact(&mut echo).await
    };
    let carried = timeout(DEADLINE, carried).await.expect("in time");
    carried.is_ok().then_some(socket)
}
