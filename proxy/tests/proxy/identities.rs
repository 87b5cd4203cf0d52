//! Who is who: servers that are not of the Service, and certificates that have ended.

use std::time::Duration;

use countersign_proxy::Reason;
use mtls::Expected;
use proto::mesh::v1;
use tokio::net::TcpStream;

use crate::mesh::Mesh;
use crate::policies::{allowing, pair};
use crate::wire::Wire;

#[tokio::test]
async fn a_server_that_is_no_workload_of_the_service_is_refused() {
    let objects = allowing("shop/checkout").replace("name: orders}", "name: billing}");
    let objects = objects
        .replace("service: orders", "service: billing")
        .replace("workloads: [shop/orders]", "workloads: [shop/billing]")
        .replace("orders-api", "billing-api");
    let mesh = Mesh::start(&format!("{}\n---\n{objects}", allowing("shop/checkout")));
    let billing = mesh.sidecar("shop/billing").await;
    let port = u32::from(billing.mesh("shop/billing:http").port());
    mesh.agent.world.send_modify(|world| {
        let endpoint = v1::Endpoint {
            address: "127.0.0.1".to_owned(),
            ports: [("http".to_owned(), port)].into(),
            ..v1::Endpoint::default()
        };
        let forged = [("shop/orders".to_owned(), endpoint)].into();
        world.announced.insert("shop/thief".to_owned(), forged);
    });
    let mut checkout = mesh.sidecar("shop/checkout").await;

    let answer = Wire::connect(checkout.outbound())
        .await
        .get("/v1/orders")
        .await;

    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.field("countersign-reason"),
        Some("tls-identity-mismatch")
    );
    assert_eq!(
        checkout.record().await.reason,
        Some(Reason::TlsIdentityMismatch)
    );
}

#[tokio::test]
async fn a_peer_whose_certificate_has_ended_asks_nothing_new() {
    let (mesh, application, orders, _checkout) = pair().await;
    let (_publisher, credentials) = mesh.issuer.credentials("shop/checkout");
    let expected = Expected::exactly(mesh.issuer.id("shop/orders"));
    let config = credentials.client_config(expected, &[b"http/1.1"]).unwrap();
    let stream = TcpStream::connect(orders.mesh("shop/orders:http"))
        .await
        .unwrap();
    let mut wire = Wire::over(mtls::connect(stream, config).await.unwrap());
    assert_eq!(wire.get("/v1/a").await.status, 200);

    mesh.time.advance(Duration::from_secs(3601));
    wire.send("GET /v1/b HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let rest = String::from_utf8(wire.rest().await).unwrap();

    assert!(!rest.contains(" 200 "), "{rest}");
    assert_eq!(application.heads().len(), 1);
}

#[tokio::test]
async fn renewed_credentials_serve_new_calls_while_kept_connections_go_on() {
    let (mesh, _application, orders, checkout) = pair().await;
    let mut wire = Wire::connect(checkout.outbound()).await;
    let before = orders.proxy.status().borrow().serial.clone();
    assert_eq!(wire.get("/v1/a").await.status, 200);

    mesh.agent.world.send_modify(|world| world.credentials += 1);
    let mut status = orders.proxy.status();
    status
        .wait_for(|status| status.serial != before)
        .await
        .unwrap();

    assert_eq!(wire.get("/v1/b").await.status, 200);
}
