//! What a TLS listener of the mesh answers to a client that is not what it must be. The client
//! believes everything, so that only our side can refuse.

use std::net::SocketAddr;
use std::time::Duration;

use identity::JoinToken;
use identity::x509::X509Svid;
use mesh_tests::mesh::Mesh;
use mesh_tests::raw::{Client, Verdict};
use mesh_tests::shop::{SERVICE, Shop};
use mesh_tests::stranger::{Joined, Line, join, key_and_csr, verified};
use mesh_tests::waiting::eventually;
use proto::agent::v1::issue_result::Result as Issued;
use proxy::config::Limits;
use rustls::AlertDescription;
use rustls::version::{TLS12, TLS13};
use tokio::net::TcpStream;

const LATER: Duration = Duration::from_secs(2 * 60 * 60);

#[tokio::test]
async fn a_mesh_listener_refuses_a_caller_without_a_certificate() {
    let shop = Shop::open().await;
    let verdict = anonymous().try_on(shop.orders.mesh_listener()).await;
    let expected = Verdict::Refused(AlertDescription::CertificateRequired);
    assert_eq!(verdict, expected);
}

#[tokio::test]
async fn no_listener_of_the_mesh_speaks_tls_1_2() {
    let shop = Shop::open().await;
    let expected = Verdict::Refused(AlertDescription::ProtocolVersion);
    for listener in listeners(&shop) {
        let old = Client {
            version: &TLS12,
            ..anonymous()
        };
        assert_eq!(old.try_on(listener).await, expected, "{listener}");
    }
}

#[tokio::test]
async fn every_listener_admits_a_live_certificate() {
    let shop = Shop::open().await;
    let agent = agent(&shop.mesh).await.svid;
    let workload = workload(&shop.mesh).await;
    let [mesh, ca] = listeners(&shop);
    let verdicts = [
        showing(&workload).try_on(mesh).await,
        showing(&agent).try_on(ca).await,
    ];
    assert_eq!(verdicts, [Verdict::Admitted, Verdict::Admitted]);
}

#[tokio::test]
async fn no_listener_admits_an_expired_certificate() {
    let shop = Shop::open().await;
    let workload = workload(&shop.mesh).await;
    let agent = agent(&shop.mesh).await.svid;
    shop.mesh.clock.advance(LATER);
    let [mesh, ca] = listeners(&shop);
    let expected = Verdict::Refused(AlertDescription::CertificateExpired);
    assert_eq!(showing(&workload).try_on(mesh).await, expected);
    assert_eq!(showing(&agent).try_on(ca).await, expected);
}

#[tokio::test]
async fn no_listener_admits_a_tampered_certificate() {
    let shop = Shop::open().await;
    let svid = agent(&shop.mesh).await.svid;
    for listener in listeners(&shop) {
        let mut client = showing(&svid);
        let mut leaf = client.chain[0].to_vec();
        // The signature is at the end; the key is not touched.
        *leaf.last_mut().expect("not empty") ^= 1;
        client.chain[0] = leaf.into();
        let verdict = client.try_on(listener).await;
        assert!(is_refusal_of_the_certificate(&verdict), "{verdict:?}");
    }
}

#[tokio::test]
async fn no_listener_admits_a_certificate_of_another_trust_domain() {
    let shop = Shop::open().await;
    let elsewhere = Mesh::start_as("elsewhere.test").await;
    let stranger = agent(&elsewhere).await.svid;
    for listener in listeners(&shop) {
        let verdict = showing(&stranger).try_on(listener).await;
        assert!(is_refusal_of_the_certificate(&verdict), "{verdict:?}");
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let shop = Shop::open().await;
    let (stolen, own) = (workload(&shop.mesh).await, agent(&shop.mesh).await.svid);
    for listener in listeners(&shop) {
        // The thief signs with another key; rustls itself would not let us pair the two.
        let verdict = showing(&own).posing_as(&stolen).try_on(listener).await;
        assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
    }
}

fn is_refusal_of_the_certificate(verdict: &Verdict) -> bool {
    use AlertDescription as Alert;
    let refusals = [
        Alert::BadCertificate,
        Alert::CertificateUnknown,
        Alert::DecryptError,
        Alert::UnknownCA,
    ];
    refusals.map(Verdict::Refused).contains(verdict)
}

fn anonymous() -> Client<'static> {
    Client {
        chain: Vec::new(),
        key: None,
        version: &TLS13,
    }
}

fn showing(svid: &X509Svid) -> Client<'_> {
    Client {
        chain: svid.svid().chain().to_vec(),
        key: Some(svid.key()),
        version: &TLS13,
    }
}

/// Of the proxy and of the CA.
fn listeners(shop: &Shop) -> [SocketAddr; 2] {
    [shop.orders.mesh_listener(), shop.mesh.ca.agents_address()]
}

async fn agent(mesh: &Mesh) -> Joined {
    let token: JoinToken = mesh
        .join_token("web-7", &[])
        .await
        .parse()
        .expect("the CA's tokens parse");
    join(&token, &mesh.time()).await
}

/// An SVID of `shop/checkout`.
async fn workload(mesh: &Mesh) -> X509Svid {
    let token = mesh.join_token("web-8", &["shop/checkout"]).await;
    let agent = join(&token.parse().expect("it parses"), &mesh.time()).await;
    let line = Line::mutual(mesh.ca.agents_address(), &agent, &mesh.time()).await;
    let (key, csr) = key_and_csr();
    let answer = line
        .issue("spiffe://mesh.test/ns/shop/sa/checkout", csr)
        .await;
    match answer.expect("answered").result {
        Some(Issued::Svid(svid)) => verified(svid, key, &agent.bundles, &mesh.time()),
        other => panic!("not issued: {other:?}"),
    }
}

#[tokio::test]
async fn a_source_that_holds_all_its_places_gets_no_further() {
    let mesh = Mesh::start().await;
    let orders = mesh.workload("shop/orders").limited(Limits {
        connections_per_source: 1,
        ..Limits::default()
    });
    orders.register().await;
    mesh.try_apply(SERVICE).await.expect("valid");
    mesh.workload("shop/checkout").register().await;
    let orders = orders.start().await;
    let workload = workload(&mesh).await;
    let listener = orders.mesh_listener();
    let held = TcpStream::connect(listener).await.expect("it listens");
    eventually("its place is taken", || async {
        let verdict = showing(&workload).try_on(listener).await;
        (verdict == Verdict::Cut).then_some(())
    })
    .await;
    let metrics = orders.metrics().await;
    assert!(metrics.contains(r#"handshakes_total{direction="inbound",reason="bulkhead-full"}"#));
    drop(held);
    eventually("its place is free again", || async {
        let verdict = showing(&workload).try_on(listener).await;
        (verdict == Verdict::Admitted).then_some(())
    })
    .await;
}
