//! What no caller can say, and what no two parsers can read differently.

use mtls::Expected;
use tokio::net::TcpStream;

use crate::application::Application;
use crate::mesh::{Mesh, Sidecar};
use crate::policies::{allowing, pair};
use crate::wire::Wire;

/// A peer with a live certificate that speaks HTTP/1.1 to a mesh listener by hand.
async fn peer(mesh: &Mesh, orders: &Sidecar, workload: &str) -> Wire<mtls::ClientTls<TcpStream>> {
    let (_publisher, credentials) = mesh.issuer.credentials(workload);
    let expected = Expected::exactly(mesh.issuer.id("shop/orders"));
    let config = credentials.client_config(expected, &[b"http/1.1"]).unwrap();
    let stream = TcpStream::connect(orders.mesh("shop/orders:http"))
        .await
        .unwrap();
    Wire::over(mtls::connect(stream, config).await.unwrap())
}

#[tokio::test]
async fn no_spelling_of_the_identity_header_reaches_the_application() {
    let (mesh, application, orders, _checkout) = pair().await;
    let mut wire = peer(&mesh, &orders, "shop/checkout").await;
    wire.send(
        "GET /v1/a HTTP/1.1\r\nhost: a\r\nX-Forwarded-Client-Cert: URI=spiffe://evil/a\r\n\
         X_Forwarded-Client_Cert: URI=spiffe://evil/b\r\ncountersign-decision: 00\r\n\r\n",
    )
    .await;

    assert_eq!(wire.answer().await.status, 200);
    let head = application.heads().remove(0);
    assert!(
        !head.contains("evil") && !head.contains("countersign-decision"),
        "{head}"
    );
    let identity = "uri=spiffe://test.example/ns/shop/sa/checkout";
    assert!(head.contains("x-forwarded-client-cert: hash="), "{head}");
    assert!(head.contains(identity), "{head}");
}

#[tokio::test]
async fn what_an_application_says_in_the_proxys_name_is_dropped() {
    let mesh = Mesh::start(&allowing("shop/checkout"));
    let application = Application::answering(
        "HTTP/1.1 200 OK\r\ncountersign-reason: policy-denied\r\ncountersign_decision: 1\r\n\
         x_forwarded_client_cert: URI=spiffe://evil\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    mesh.serves("shop/orders", "shop/orders:http", application.address);
    let _orders = mesh.sidecar("shop/orders").await;
    let checkout = mesh.sidecar("shop/checkout").await;

    let answer = Wire::connect(checkout.outbound())
        .await
        .get("/v1/orders")
        .await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("countersign-reason"), None);
    assert!(
        !answer.head.contains('_') && !answer.head.contains("evil"),
        "{}",
        answer.head
    );
}

#[tokio::test]
async fn paths_with_two_readings_are_refused() {
    let (mesh, application, orders, _checkout) = pair().await;
    let mut wire = peer(&mesh, &orders, "shop/checkout").await;
    for path in [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1//a",
        "/v1/a%2Fb",
        "/v1/a;b",
        "/v1/%252e",
    ] {
        let answer = wire.get(path).await;
        let reason = answer.field("countersign-reason");
        assert_eq!(
            (answer.status, reason),
            (400, Some("path-ambiguous")),
            "{path}"
        );
    }
    assert!(application.heads().is_empty());
}

#[tokio::test]
async fn the_judged_form_of_a_path_is_what_the_application_gets() {
    let (_mesh, application, _orders, checkout) = pair().await;
    let answer = Wire::connect(checkout.outbound())
        .await
        .get("/%76%31/%61?x=%2F")
        .await;
    assert_eq!(answer.status, 200);
    assert!(application.heads()[0].starts_with("get /v1/a?x=%2f http/1.1"));
}

#[tokio::test]
async fn a_request_cannot_be_hidden_in_anothers_body() {
    let (mesh, application, orders, _checkout) = pair().await;
    for text in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        "GET /v1/a HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET /v1/a HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /v1/a HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET /v1/a HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n",
    ] {
        let mut wire = peer(&mesh, &orders, "shop/checkout").await;
        wire.send(text).await;
        let answer = wire.head().await;
        assert!(answer.starts_with("http/1.1 400 "), "{text:?}: {answer}");
    }
    assert!(application.heads().is_empty());
}

#[tokio::test]
async fn two_framings_never_become_two_requests() {
    let (_mesh, application, _orders, checkout) = pair().await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    let hidden = "GET /v1/hidden HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\n\r\n";
    let length = 5 + hidden.len();
    wire.send(&format!(
        "POST / HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\ncontent-length: {length}\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n{hidden}"
    ))
    .await;

    wire.rest().await;

    let heads = application.heads();
    assert!(
        !heads.iter().any(|head| head.contains("/v1/hidden")),
        "{heads:?}"
    );
    assert!(
        heads
            .iter()
            .all(|head| !head.contains("content-length: ") || !head.contains("chunked"))
    );
}

#[tokio::test]
async fn an_offer_of_h2c_and_hop_by_hop_fields_end_at_the_proxy() {
    let (_mesh, application, _orders, checkout) = pair().await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    wire.send(
        "GET http://orders.shop.mesh.internal/v1/a HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\n\
         connection: upgrade, x-local\r\nupgrade: h2c\r\nx-local: 1\r\nproxy-connection: keep-alive\r\n\r\n",
    )
    .await;

    assert_eq!(wire.answer().await.status, 200);
    let head = application.heads().remove(0);
    for gone in ["upgrade", "x-local", "proxy-connection"] {
        assert!(!head.contains(gone), "{gone}: {head}");
    }
    assert!(head.contains("host: orders.shop.mesh.internal"));
}
