//! CONNECT at the outbound port: a tunnel to a Service's port, and to nothing else.

use countersign_proxy::{Reason, Verdict};
use tokio::net::TcpStream;

use crate::application::Application;
use crate::mesh::Mesh;
use crate::policies::{pair, pair_before};
use crate::tcp;
use crate::wire::Wire;

const ORDERS: &str = "orders.shop.mesh.internal:80";

async fn connect(outbound: std::net::SocketAddr, authority: &str) -> Wire<TcpStream> {
    let mut wire = Wire::connect(outbound).await;
    wire.send(&format!(
        "CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n"
    ))
    .await;
    wire
}

/// A tunnel to an HTTP port.
async fn opened(outbound: std::net::SocketAddr) -> Wire<TcpStream> {
    let mut wire = connect(outbound, ORDERS).await;
    assert_eq!(wire.head().await, "http/1.1 200 ok\r\n\r\n");
    wire
}

#[tokio::test]
async fn a_tunnel_out_of_the_mesh_is_refused() {
    let (_mesh, _application, _orders, checkout) = pair().await;
    for authority in ["example.com:443", "127.0.0.1:80", "shop.mesh.internal:80"] {
        let mut wire = connect(checkout.outbound(), authority).await;
        let answer = wire.answer().await;
        let reason = answer.field("countersign-reason");
        assert_eq!((answer.status, reason), (502, Some("no-route")));
        assert!(wire.rest().await.is_empty());
    }
}

#[tokio::test]
async fn a_connect_that_could_be_read_in_two_ways_is_refused() {
    let (_mesh, application, _orders, checkout) = pair().await;
    for fields in [
        "host: other.shop.mesh.internal:80\r\n",
        "host: orders.shop.mesh.internal:81\r\n",
        "host: orders.shop.mesh.internal\r\ncontent-length: 3\r\n",
        "host: orders.shop.mesh.internal\r\ntransfer-encoding: chunked\r\n",
        "host: orders.shop.mesh.internal\r\nconnection: upgrade\r\nupgrade: echo\r\n",
    ] {
        let mut wire = Wire::connect(checkout.outbound()).await;
        let hidden = "GET /v1/hidden HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\n\r\n";
        wire.send(&format!(
            "CONNECT {ORDERS} HTTP/1.1\r\n{fields}\r\n{hidden}"
        ))
        .await;
        assert_eq!(wire.answer().await.status, 400, "{fields}");
        assert!(wire.rest().await.is_empty());
    }
    assert!(application.heads().is_empty());
}

#[tokio::test]
async fn a_request_in_a_tunnel_names_what_the_tunnel_leads_to() {
    let (_mesh, application, _orders, checkout) = pair().await;
    let mut wire = opened(checkout.outbound()).await;
    let answer = wire.get_from("other.shop.mesh.internal", "/v1/a").await;
    assert_eq!(answer.field("countersign-reason"), Some("no-route"));
    assert!(application.heads().is_empty());
}

#[tokio::test]
async fn a_tunnel_in_a_tunnel_is_refused() {
    let (_mesh, _application, _orders, checkout) = pair().await;
    let mut wire = opened(checkout.outbound()).await;
    wire.send(&format!(
        "CONNECT {ORDERS} HTTP/1.1\r\nhost: {ORDERS}\r\n\r\n"
    ))
    .await;
    let answer = wire.answer().await;
    let reason = answer.field("countersign-reason");
    assert_eq!((answer.status, reason), (501, Some("upgrade-refused")));
}

#[tokio::test]
async fn requests_in_a_tunnel_are_judged_one_by_one() {
    let (_mesh, application, mut orders, checkout) = pair().await;
    let mut wire = opened(checkout.outbound()).await;
    assert_eq!(wire.get("/v1/a").await.status, 200);
    assert_eq!(wire.get("/admin").await.status, 403);
    assert_eq!(wire.get("/v1/b").await.status, 200);
    let verdicts = [
        orders.record().await.verdict,
        orders.record().await.verdict,
        orders.record().await.verdict,
    ];
    let expected = [Verdict::Allowed, Verdict::Denied, Verdict::Allowed];
    assert_eq!((verdicts, application.heads().len()), (expected, 2));
}

#[tokio::test]
async fn what_is_said_before_the_tunnel_is_open_goes_through_it() {
    let (_mesh, application, _orders, checkout) = pair().await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    wire.send(&format!(
        "CONNECT {ORDERS} HTTP/1.0\r\n\r\n\
         GET /v1/a HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\n\r\n"
    ))
    .await;
    assert_eq!(wire.head().await, "http/1.1 200 ok\r\n\r\n");
    assert_eq!(wire.answer().await.status, 200);
    assert_eq!(application.heads().len(), 1);
}

#[tokio::test]
async fn a_connection_in_a_tunnel_goes_on_with_another_protocol() {
    let switched =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let echo = Application::switching(switched).await;
    let (_mesh, _application, _orders, checkout) = pair_before(echo).await;
    let mut wire = opened(checkout.outbound()).await;
    wire.send(
        "GET /v1/a HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\nconnection: upgrade\r\n\
         upgrade: echo\r\n\r\nping",
    )
    .await;
    assert!(wire.head().await.starts_with("http/1.1 101 "));
    assert_eq!(wire.take(4).await, b"ping");
}

#[tokio::test]
async fn a_tunnel_to_a_tcp_port_that_policy_denies_carries_nothing() {
    let mesh = Mesh::start(&tcp::database("shop/nobody"));
    let (application, _tasks) = tcp::echo().await;
    let (mut db, orders) = tcp::pair(&mesh, application).await;
    let mut wire = connect(orders.outbound(), "db.data.mesh.internal:5432").await;
    wire.send("ping").await;
    wire.head().await;
    assert!(wire.rest().await.is_empty());
    assert_eq!(db.record().await.reason, Some(Reason::PolicyDenied));
}

#[tokio::test]
async fn a_tunnel_to_a_tcp_port_carries_bytes_both_ways() {
    let mesh = Mesh::start(&tcp::database("shop/orders"));
    let (application, _tasks) = tcp::echo().await;
    let (_db, mut orders) = tcp::pair(&mesh, application).await;
    let mut wire = connect(orders.outbound(), "db.data.mesh.internal:5432").await;
    assert_eq!(wire.head().await, "http/1.1 200 ok\r\n\r\n");
    wire.send("ping").await;
    assert_eq!(wire.take(4).await, b"ping");
    wire.finish().await;
    assert!(wire.rest().await.is_empty());
    let record = orders.record().await;
    assert_eq!((record.bytes_in, record.bytes_out), (4, 4));
    assert_eq!(
        record.method.as_ref().map(http::Method::as_str),
        Some("CONNECT")
    );
}
