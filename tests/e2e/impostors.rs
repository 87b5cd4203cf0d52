//! Certificates that are real, in the hands of the wrong party.

use std::time::Duration;

use http::StatusCode;
use identity::JoinToken;
use mesh_tests::mesh::Mesh;
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::stranger::{Joined, Line, join, key_and_csr, verified};
use mesh_tests::waiting::DEADLINE;
use mtls::pinned::PinnedRoots;
use mtls::{Credentials, Expected, HandshakeError, Publisher};
use proto::agent::v1::issue_result::Result as Issued;
use runtime::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

#[tokio::test]
async fn a_workload_posing_as_the_ca_learns_no_secret() {
    let mesh = Mesh::start().await;
    let (token, workload) = workload_of(&mesh).await;
    let (_publisher, credentials) = publish(&workload, mesh.time());
    let server = credentials
        .optional_client_server_config(&[b"h2"])
        .expect("published");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let pins = PinnedRoots::new(token.trust_domain().clone(), token.roots().to_vec());
    let time = mesh.time();
    let victim = async {
        let socket = TcpStream::connect(address)
            .await
            .expect("the impostor listens");
        mtls::connect(socket, pins.client_config(&[b"h2"], move || time.now())).await
    };
    let impostor = async {
        let (socket, _) = listener.accept().await.expect("the victim calls");
        mtls::accept(socket, server).await
    };
    let (victim, _impostor) = tokio::join!(victim, impostor);
    assert!(
        matches!(victim, Err(HandshakeError::Refused(_))),
        "{victim:?}"
    );
}

#[tokio::test]
async fn a_peer_of_another_trust_domain_is_refused() {
    let shop = Shop::open().await;
    let elsewhere = Mesh::start_as("elsewhere.test").await;
    let (_, stranger) = workload_of(&elsewhere).await;
    // It believes our side, so that only our side can refuse.
    let stranger = Joined {
        svid: stranger.svid,
        bundles: both(&shop.mesh, stranger.bundles).await,
    };
    assert_refused(&shop, &stranger).await;
}

#[tokio::test]
async fn a_peer_whose_certificate_has_expired_is_refused() {
    let shop = Shop::open().await;
    let (_, stranger) = workload_of(&shop.mesh).await;
    shop.mesh.clock.advance(Duration::from_secs(2 * 60 * 60));
    assert_refused(&shop, &stranger).await;
}

#[tokio::test]
async fn the_mesh_recovers_after_all_its_certificates_expired() {
    let shop = Shop::open().await;
    shop.mesh.clock.advance(Duration::from_secs(3 * 60 * 60));
    let works = || async {
        let answer = shop
            .checkout
            .caller()
            .await
            .get(&format!("{ORDERS}/v1/orders"))
            .await;
        (answer.status == StatusCode::OK).then_some(())
    };
    mesh_tests::waiting::eventually("a call passes again", works).await;
}

/// The handshake fails, or the first read after it: under TLS 1.3 a client learns late.
async fn assert_refused(shop: &Shop, stranger: &Joined) {
    let listener = *shop
        .orders
        .proxy
        .mesh_addresses()
        .values()
        .next()
        .expect("a mesh listener");
    let (_publisher, credentials) = publish(stranger, Clock::system());
    let expected = Expected::exactly(shop.orders.spiffe_id.clone());
    let config = credentials
        .client_config(expected, &[b"http/1.1"])
        .expect("published");
    let socket = TcpStream::connect(listener)
        .await
        .expect("the proxy listens");
    let Ok(mut tls) = mtls::connect(socket, config).await else {
        return;
    };
    // The refusal may come before or after this.
    drop(
        tls.write_all(b"GET /v1/orders HTTP/1.1\r\nhost: orders\r\n\r\n")
            .await,
    );
    let answer = timeout(DEADLINE, tls.read(&mut [0; 64]))
        .await
        .expect("the connection ends");
    assert!(matches!(answer, Ok(0) | Err(_)), "{answer:?}");
}

fn publish(holder: &Joined, clock: Clock) -> (Publisher, Credentials) {
    let (publisher, credentials) = mtls::channel(move || clock.now());
    publisher
        .publish(holder.svid.clone(), holder.bundles.clone())
        .expect("valid by this clock");
    (publisher, credentials)
}

/// The SVID of a workload, in the hands of one who took it from its host.
async fn workload_of(mesh: &Mesh) -> (JoinToken, Joined) {
    mesh.workload("shop/stolen").register().await;
    let token: JoinToken = mesh
        .join_token("web-7", &["shop/stolen"])
        .await
        .parse()
        .expect("a token");
    let agent = join(&token, &mesh.time()).await;
    let line = Line::mutual(mesh.ca.agents_address(), &agent, &mesh.time()).await;
    let (key, csr) = key_and_csr();
    let id = format!("spiffe://{}/ns/shop/sa/stolen", mesh.ca.trust_domain());
    let issued = line
        .issue(&id, csr)
        .await
        .expect("answered")
        .result
        .expect("a result");
    let Issued::Svid(svid) = issued else {
        panic!("{issued:?}")
    };
    let svid = verified(svid, key, &agent.bundles, &mesh.time());
    (
        token,
        Joined {
            svid,
            bundles: agent.bundles,
        },
    )
}

async fn both(mesh: &Mesh, bundles: identity::x509::BundleSet) -> identity::x509::BundleSet {
    let (_, ours) = workload_of(mesh).await;
    ours.bundles.iter().chain(bundles.iter()).cloned().collect()
}
