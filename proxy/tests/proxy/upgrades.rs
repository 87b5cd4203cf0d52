//! Connections that go on with another protocol: asked for and granted in one way, judged like
//! any request, cut like any connection.

use std::time::Duration;

use countersign_proxy::{Reason, Verdict};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::application::Application;
use crate::mesh::{DEADLINE, Mesh, Sidecar};
use crate::policies::{allowing, pair, pair_before};
use crate::wire::Wire;

const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello";
const HIDDEN: &str = "GET /v1/hidden HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\n\r\n";

/// Asks to go on with `echo`.
fn asking(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\nconnection: keep-alive, Upgrade\r\n\
         upgrade: echo\r\n\r\n"
    )
}

async fn echo() -> (Mesh, Application, Sidecar, Sidecar) {
    pair_before(Application::switching(SWITCHED).await).await
}

/// A connection that went on with `echo`.
async fn switched(checkout: &Sidecar) -> Wire<TcpStream> {
    let mut wire = Wire::connect(checkout.outbound()).await;
    wire.send(&asking("/v1/a")).await;
    let head = wire.head().await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert_eq!(wire.take(5).await, b"hello");
    wire
}

#[tokio::test]
async fn an_upgrade_that_policy_denies_reaches_nobody() {
    let (_mesh, application, mut orders, checkout) = echo().await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    wire.send(&asking("/admin")).await;
    assert_eq!(wire.answer().await.status, 403);
    let record = orders.record().await;
    assert_eq!(record.verdict, Verdict::Denied);
    assert!(application.heads().is_empty());
}

#[tokio::test]
async fn an_upgrade_that_could_be_read_in_two_ways_is_refused() {
    let (_mesh, application, _orders, checkout) = echo().await;
    for (fields, status) in [
        ("upgrade: echo", 400),
        ("connection: upgrade\r\nupgrade: echo, h2c", 400),
        ("connection: upgrade\r\nupgrade: echo\r\nupgrade: echo", 400),
        (
            "connection: upgrade\r\nupgrade: echo\r\ncontent-length: 3",
            400,
        ),
        (
            "connection: upgrade\r\nupgrade: echo\r\ntransfer-encoding: chunked",
            400,
        ),
        ("connection: upgrade\r\nupgrade: HTTP/2.0", 501),
    ] {
        let mut wire = Wire::connect(checkout.outbound()).await;
        let host = "host: orders.shop.mesh.internal";
        wire.send(&format!("GET /v1/a HTTP/1.1\r\n{host}\r\n{fields}\r\n\r\n"))
            .await;
        assert_eq!(wire.answer().await.status, status, "{fields}");
    }
    assert!(application.heads().is_empty());
}

#[tokio::test]
async fn a_101_to_what_nobody_asked_for_is_a_failure() {
    let (_mesh, _application, _orders, checkout) = echo().await;
    let plain = HIDDEN.to_owned();
    let other = asking("/v1/a").replace("upgrade: echo", "upgrade: websocket");
    for request in [plain, other] {
        let mut wire = Wire::connect(checkout.outbound()).await;
        wire.send(&request).await;
        let answer = wire.answer().await;
        let reason = answer.field("countersign-reason");
        assert_eq!((answer.status, reason), (502, Some("upstream-reset")));
    }
}

#[tokio::test]
async fn behind_an_upgrade_that_is_not_granted_no_request_is_read() {
    let (_mesh, application, _orders, checkout) = pair().await;
    for path in ["/v1/a", "/admin"] {
        let mut wire = Wire::connect(checkout.outbound()).await;
        wire.send(&format!("{}{HIDDEN}", asking(path))).await;
        let answer = wire.answer().await;
        assert_eq!(answer.field("connection"), Some("close"), "{answer:?}");
        assert!(wire.rest().await.is_empty());
    }
    let heads = application.heads();
    assert_eq!(heads.len(), 1);
    assert!(!heads[0].contains("hidden"), "{heads:?}");
}

#[tokio::test]
async fn an_application_that_speaks_http2_is_asked_for_nothing_else() {
    let objects = allowing("shop/checkout").replace("protocol: http", "protocol: http2");
    let (mesh, application, orders, checkout) = echo().await;
    let number = mesh.set_objects(&objects);
    mesh.applied("shop/checkout", number).await;
    mesh.applied("shop/orders", number).await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    wire.send(&asking("/v1/a")).await;
    let answer = wire.answer().await;
    let reason = answer.field("countersign-reason");
    assert_eq!((answer.status, reason), (501, Some("upgrade-refused")));
    assert!(application.heads().is_empty());
    drop(orders);
}

#[tokio::test]
async fn what_comes_before_and_with_the_101_arrives_once_and_is_no_request() {
    let (_mesh, application, _orders, checkout) = echo().await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    wire.send(&format!("{}{HIDDEN}", asking("/v1/a"))).await;
    let head = wire.head().await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("connection: upgrade\r\nupgrade: echo\r\n"));
    let expected = format!("hello{HIDDEN}");
    assert_eq!(wire.take(expected.len()).await, expected.as_bytes());
    assert_eq!(application.heads().len(), 1);
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_end_is_passed_on() {
    let (_mesh, application, mut orders, checkout) = echo().await;
    let mut wire = switched(&checkout).await;
    wire.send("ping").await;
    assert_eq!(wire.take(4).await, b"ping");
    wire.finish().await;
    assert!(wire.rest().await.is_empty());
    let record = orders.record().await;
    assert_eq!(
        (record.verdict, record.status),
        (Verdict::Allowed, Some(101))
    );
    assert_eq!((record.bytes_in, record.bytes_out), (4, 9));
    let heads = application.heads();
    assert!(heads[0].contains("upgrade: echo"), "{heads:?}");
    assert!(
        heads[0].contains("x-forwarded-client-cert: hash="),
        "{heads:?}"
    );
}

#[tokio::test]
async fn an_upgraded_connection_is_cut_when_it_is_no_longer_permitted() {
    let (mesh, _application, mut orders, checkout) = echo().await;
    let mut wire = switched(&checkout).await;
    mesh.set_objects(&allowing("shop/nobody"));
    assert!(wire.rest().await.is_empty());
    let record = orders.record().await;
    assert_eq!(record.reason, Some(Reason::PolicyDenied));
    assert_eq!(record.verdict, Verdict::Denied);
}

#[tokio::test]
async fn an_upgraded_connection_outlives_a_change_that_still_permits_it() {
    let (mesh, _application, _orders, checkout) = echo().await;
    let mut wire = switched(&checkout).await;
    let objects = allowing("shop/checkout").replace("writers", "others");
    let number = mesh.set_objects(&objects);
    mesh.applied("shop/orders", number).await;
    wire.send("ping").await;
    assert_eq!(wire.take(4).await, b"ping");
}

#[tokio::test]
async fn an_upgraded_connection_without_a_byte_is_ended() {
    let (mesh, _application, _orders, _checkout) = echo().await;
    let mut impatient = mesh.config("shop/checkout");
    impatient.limits.idle = Duration::from_millis(300).into();
    let mut checkout = mesh.sidecar_with(impatient).await;
    // On a busy machine the answer itself may be too late.
    let mut wire = loop {
        let mut wire = Wire::connect(checkout.outbound()).await;
        wire.send(&asking("/v1/a")).await;
        if wire.head().await.starts_with("http/1.1 101 ") {
            break wire;
        }
    };
    assert_eq!(wire.rest().await, b"hello");
    let record = loop {
        let record = checkout.record().await;
        if record.status == Some(101) {
            break record;
        }
    };
    assert_eq!(record.reason, Some(Reason::Deadline));
}

#[tokio::test]
async fn a_drain_leaves_an_upgraded_connection_its_time_and_then_ends_it() {
    let (_mesh, _application, orders, checkout) = echo().await;
    let mut wire = switched(&checkout).await;
    let mut status = checkout.proxy.status();
    // Three pings must fit in, on a busy machine too.
    let drained = timeout(DEADLINE, checkout.proxy.drain(Duration::from_secs(3)));
    let carried = async {
        status.wait_for(|status| status.draining).await.unwrap();
        for _ in 0..3 {
            wire.send("ping").await;
            assert_eq!(wire.take(4).await, b"ping");
        }
        wire.rest().await
    };
    let (drained, rest) = tokio::join!(drained, carried);
    drained.expect("in time").unwrap();
    assert!(rest.is_empty());
    drop(orders);
}
