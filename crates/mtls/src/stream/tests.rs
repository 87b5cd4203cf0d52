use std::sync::Arc;

use identity::x509::{CertificateError, SvidError};
use proptest::prelude::*;
use rustls::client::Resumption;
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::CertifiedKey;
use rustls::version::TLS12;
use rustls::{CipherSuite, ClientConfig, HandshakeKind, NamedGroup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

use super::*;
use crate::credentials::channel;
use crate::error::PeerAlert;
use crate::expected::Expected;
use crate::testing::{Clock, HOUR, Leaf, Mesh, NOW, first_read, handshake};

/// A client that shows `leaf` is refused, and learns `alert` from its first read.
async fn client_refused(mesh: &Mesh, leaf: &Leaf<'_>, alert: PeerAlert) -> Refusal {
    let (server, client) = handshake(mesh.server(), mesh.client_with(Some(leaf.certified()))).await;
    assert!(matches!(first_read(client.unwrap()).await,
        HandshakeError::RefusedByPeer(got) if got == alert));
    refusal(server)
}

#[track_caller]
fn refusal<T: fmt::Debug>(result: Result<T, HandshakeError>) -> Refusal {
    match result {
        Err(HandshakeError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn an_expired_client_is_refused() {
    let mesh = Mesh::new("mesh.test");
    let not_after = NOW - HOUR;
    let leaf = mesh.leaf("/client").lasting(NOW - 2 * HOUR, not_after);
    let refusal = client_refused(&mesh, &leaf, PeerAlert::CertificateExpired).await;
    assert_eq!(
        refusal,
        Refusal::Expired {
            not_after,
            now: NOW
        }
    );
}

#[tokio::test]
async fn a_client_of_the_future_is_refused() {
    let mesh = Mesh::new("mesh.test");
    let not_before = NOW + HOUR;
    let leaf = mesh.leaf("/client").lasting(not_before, NOW + 2 * HOUR);
    let refusal = client_refused(&mesh, &leaf, PeerAlert::CertificateExpired).await;
    assert_eq!(
        refusal,
        Refusal::NotYetValid {
            not_before,
            now: NOW
        }
    );
}

#[tokio::test]
async fn a_client_of_a_trust_domain_without_bundle_is_refused() {
    let (mesh, other) = (Mesh::new("mesh.test"), Mesh::new("other.test"));
    let leaf = other.leaf("/client");
    let refusal = client_refused(&mesh, &leaf, PeerAlert::CertificateRefused).await;
    assert_eq!(
        refusal,
        Refusal::NoBundle {
            trust_domain: other.trust_domain.clone()
        }
    );
}

#[tokio::test]
async fn a_client_of_an_authority_that_took_our_name_is_refused() {
    let (mesh, forger) = (Mesh::new("mesh.test"), Mesh::new("mesh.test"));
    let leaf = forger.leaf("/client");
    let refusal = client_refused(&mesh, &leaf, PeerAlert::UnknownAuthority).await;
    assert_eq!(refusal, Refusal::UnknownAuthority);
}

/// Workload API §4.6: authorities of different trust domains are never one pool.
#[tokio::test]
async fn an_authority_of_one_trust_domain_vouches_for_no_other() {
    let (mesh, other) = (Mesh::new("mesh.test"), Mesh::new("other.test"));
    let forged = other.leaf_named("spiffe://mesh.test/client");
    let server = federated_server(&mesh, &other);
    let (server, _) = handshake(server, mesh.client_with(Some(forged.certified()))).await;
    assert_eq!(refusal(server), Refusal::UnknownAuthority);
}

#[tokio::test]
async fn a_client_of_a_federated_trust_domain_is_who_it_says() {
    let (mesh, other) = (Mesh::new("mesh.test"), Mesh::new("other.test"));
    let server = federated_server(&mesh, &other);
    let leaf = other.leaf("/client").certified();
    let (server, _) = handshake(server, mesh.client_with(Some(leaf))).await;
    assert_eq!(
        server.unwrap().peer().unwrap().spiffe_id(),
        &other.id("/client")
    );
}

fn federated_server(mesh: &Mesh, other: &Mesh) -> ServerTlsConfig {
    let (publisher, credentials) = channel(Clock::default().reader());
    let bundles = mesh.bundles().with(other.bundle());
    publisher
        .publish(mesh.leaf("/server").svid(), bundles)
        .unwrap();
    credentials.server_config(&[]).unwrap()
}

/// X509-SVID §5.2: "more than one URI SAN" is rejected.
#[tokio::test]
async fn a_client_with_two_uri_names_is_refused() {
    let mesh = Mesh::new("mesh.test");
    let leaf = mesh.leaf("/client").also_named("spiffe://mesh.test/admin");
    let refusal = client_refused(&mesh, &leaf, PeerAlert::CertificateRefused).await;
    let reason = CertificateError::UriSanCount { count: 2 };
    assert_eq!(refusal, Refusal::Certificate(SvidError::Leaf(reason)));
}

/// X509-SVID §3.2: signing certificates must not authenticate a peer.
#[tokio::test]
async fn a_signing_certificate_as_client_is_refused() {
    let mesh = Mesh::new("mesh.test");
    let leaf = mesh.leaf("/client").that_is_an_authority();
    let refusal = client_refused(&mesh, &leaf, PeerAlert::CertificateRefused).await;
    let reason = CertificateError::Ca;
    assert_eq!(refusal, Refusal::Certificate(SvidError::Leaf(reason)));
}

#[tokio::test]
async fn a_tampered_certificate_is_refused() {
    let mesh = Mesh::new("mesh.test");
    let tampered = mesh.leaf("/client").tampered();
    let (server, _) = handshake(mesh.server(), mesh.client_with(Some(tampered))).await;
    assert_eq!(refusal(server), Refusal::UnknownAuthority);
}

#[tokio::test]
async fn a_stolen_certificate_without_its_key_is_refused_by_both_sides() {
    let mesh = Mesh::new("mesh.test");
    let stolen = mesh.leaf("/client").stolen();
    let (server, _) = handshake(mesh.server(), mesh.client_with(Some(stolen))).await;
    assert_eq!(refusal(server), Refusal::NoProofOfKey);

    let stolen = mesh.leaf("/server").stolen();
    let (_, client) = handshake(mesh.server_with(stolen), mesh.client_with(None)).await;
    assert_eq!(refusal(client), Refusal::NoProofOfKey);
}

#[tokio::test]
async fn a_client_without_certificate_is_refused() {
    let mesh = Mesh::new("mesh.test");
    let (server, client) = handshake(mesh.server(), mesh.client_with(None)).await;
    assert_eq!(refusal(server), Refusal::NoCertificate);
    assert!(matches!(
        first_read(client.unwrap()).await,
        HandshakeError::RefusedByPeer(PeerAlert::CertificateRequired)
    ));
}

#[tokio::test]
async fn a_client_that_speaks_tls_1_2_alone_is_refused() {
    let mesh = Mesh::new("mesh.test");
    let mut client = mesh.client(mesh.only("/server"));
    let old = ClientConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&client.judge.verifier) as _)
        .with_no_client_auth();
    client.tls = Arc::new(old);
    let (server, client) = handshake(mesh.server(), client).await;
    assert!(matches!(server, Err(HandshakeError::Tls(_))), "{server:?}");
    assert!(matches!(
        client,
        Err(HandshakeError::RefusedByPeer(PeerAlert::ProtocolVersion))
    ));
}

#[tokio::test]
async fn a_server_that_was_not_expected_is_refused() {
    let mesh = Mesh::new("mesh.test");
    let expected = mesh.only("/orders");
    let (server, client) = handshake(mesh.server(), mesh.client(expected.clone())).await;
    let got = mesh.id("/server");
    assert_eq!(refusal(client), Refusal::IdentityMismatch { expected, got });
    assert!(matches!(
        server,
        Err(HandshakeError::RefusedByPeer(PeerAlert::CertificateRefused))
    ));
}

#[tokio::test]
async fn a_workload_that_poses_as_the_ca_is_refused() {
    let mesh = Mesh::new("mesh.test");
    let (_, client) = handshake(mesh.server(), mesh.client(Expected::CaReplica)).await;
    let (expected, got) = (Expected::CaReplica, mesh.id("/server"));
    assert_eq!(refusal(client), Refusal::IdentityMismatch { expected, got });
}

#[tokio::test]
async fn a_server_is_refused_from_the_moment_it_expires() {
    let (mesh, clock) = (Mesh::new("mesh.test"), Clock::default());
    let (_publisher, credentials) = mesh.credentials("/client", &clock);
    let config = credentials
        .client_config(mesh.only("/server"), &[])
        .unwrap();
    clock.advance(2 * HOUR);
    let (_, client) = handshake(mesh.server(), config).await;
    let (not_after, now) = (NOW + HOUR, NOW + 2 * HOUR);
    assert_eq!(refusal(client), Refusal::Expired { not_after, now });
}

#[tokio::test]
async fn a_server_seen_before_is_refused_once_it_has_expired() {
    let (mesh, clock) = (Mesh::new("mesh.test"), Clock::default());
    let (_publisher, credentials) = mesh.credentials("/client", &clock);
    let (server, expected) = (mesh.server(), mesh.only("/server"));
    let config = credentials.client_config(expected, &[]).unwrap();
    let (_, first) = handshake(server.clone(), config.clone()).await;
    assert!(first.is_ok());
    clock.advance(2 * HOUR);
    let (_, second) = handshake(server, config).await;
    let (not_after, now) = (NOW + HOUR, NOW + 2 * HOUR);
    assert_eq!(refusal(second), Refusal::Expired { not_after, now });
}

#[tokio::test]
async fn a_stolen_certificate_of_a_peer_seen_before_is_refused_without_its_key() {
    let mesh = Mesh::new("mesh.test");
    let (genuine, other) = (
        mesh.leaf("/client").certified(),
        mesh.leaf("/client").certified(),
    );
    let stolen = CertifiedKey::new(genuine.cert.clone(), Arc::clone(&other.key));
    let server = mesh.server();
    let (first, _) = handshake(server.clone(), mesh.client_with(Some(genuine))).await;
    assert!(first.is_ok());
    let (second, _) = handshake(server, mesh.client_with(Some(Arc::new(stolen)))).await;
    assert_eq!(refusal(second), Refusal::NoProofOfKey);
}

#[tokio::test]
async fn a_server_without_a_common_protocol_refuses() {
    let (mesh, clock) = (Mesh::new("mesh.test"), Clock::default());
    let (_server, server) = mesh.credentials("/server", &clock);
    let (_client, client) = mesh.credentials("/client", &clock);
    let (_, client) = handshake(
        server.server_config(&[b"h2"]).unwrap(),
        client
            .client_config(mesh.only("/server"), &[b"http/1.1"])
            .unwrap(),
    )
    .await;
    let expected = PeerAlert::NoApplicationProtocol;
    assert!(matches!(client, Err(HandshakeError::RefusedByPeer(got)) if got == expected));
}

#[tokio::test]
async fn a_connection_that_closes_is_no_refusal() {
    let mesh = Mesh::new("mesh.test");
    let (near, far) = tokio::io::duplex(1024);
    drop(near);
    assert!(matches!(
        accept(far, mesh.server()).await,
        Err(HandshakeError::Io(_))
    ));
}

#[tokio::test]
async fn bytes_that_are_no_tls_are_refused() {
    let mesh = Mesh::new("mesh.test");
    let (mut near, far) = tokio::io::duplex(1024);
    near.write_all(b"GET / HTTP/1.1\r\nhost: orders\r\n\r\n")
        .await
        .unwrap();
    assert!(matches!(
        accept(far, mesh.server()).await,
        Err(HandshakeError::Tls(_))
    ));
}

#[tokio::test]
async fn where_a_certificate_is_optional_a_bad_one_is_still_refused() {
    let (mesh, forger) = (Mesh::new("mesh.test"), Mesh::new("mesh.test"));
    let (_publisher, credentials) = mesh.credentials("/server", &Clock::default());
    let config = credentials.optional_client_server_config(&[]).unwrap();
    let forged = forger.leaf("/client").certified();
    let (server, _) = handshake(config, mesh.client_with(Some(forged))).await;
    assert_eq!(refusal(server), Refusal::UnknownAuthority);
}

#[tokio::test]
async fn where_a_certificate_is_optional_a_client_without_is_nobody() {
    let mesh = Mesh::new("mesh.test");
    let (_publisher, credentials) = mesh.credentials("/server", &Clock::default());
    let config = credentials.optional_client_server_config(&[]).unwrap();
    let (server, _) = handshake(config, mesh.client_with(None)).await;
    assert!(server.unwrap().peer().is_none());
}

#[tokio::test]
async fn both_sides_hold_evidence_of_each_other() {
    let (mesh, clock) = (Mesh::new("mesh.test"), Clock::default());
    let (_server, server) = mesh.credentials("/server", &clock);
    let (_client, client) = mesh.credentials("/client", &clock);
    let (accepted, connected) = handshake(
        server.server_config(&[b"h2", b"http/1.1"]).unwrap(),
        client
            .client_config(mesh.only("/server"), &[b"http/1.1"])
            .unwrap(),
    )
    .await;
    let (accepted, connected) = (accepted.unwrap(), connected.unwrap());

    let current = client.current().unwrap();
    let (peer, own) = (accepted.peer().unwrap(), current.svid().svid());
    assert_eq!(peer.spiffe_id(), own.spiffe_id());
    assert_eq!(peer.leaf_digest(), own.leaf_digest());
    assert_eq!(peer.not_after(), NOW + HOUR);
    assert_eq!(connected.peer().spiffe_id(), &mesh.id("/server"));
    assert_eq!(accepted.alpn(), Some(&b"http/1.1"[..]));
    assert_eq!(connected.alpn(), accepted.alpn());
    let label = "EXPORTER-test";
    assert_eq!(
        accepted.export_keying_material(label),
        connected.export_keying_material(label)
    );
    assert_ne!(
        connected.export_keying_material("EXPORTER-other"),
        connected.export_keying_material(label)
    );
}

#[tokio::test]
async fn evidence_that_is_not_kept_is_made_by_judging_again() {
    let mesh = Mesh::new("mesh.test");
    let (accepted, _connected) = handshake(mesh.server(), mesh.client(mesh.only("/server"))).await;
    let accepted = accepted.unwrap();
    let certificates = accepted.stream.get_ref().1.peer_certificates();
    let verifier = mesh.server().judge.unwrap().verifier;

    let late = NOW + 2 * HOUR;
    let refusal = Refusal::Expired {
        not_after: NOW + HOUR,
        now: late,
    };
    assert_eq!(verifier.evidence(certificates, late).err(), Some(refusal));
    let again = verifier.evidence(certificates, NOW).unwrap().unwrap();
    assert_eq!(
        again.peer.leaf_digest(),
        accepted.peer().unwrap().leaf_digest()
    );
}

#[tokio::test]
async fn our_server_resumes_nothing_even_if_the_client_would() {
    let mesh = Mesh::new("mesh.test");
    let (server, mut client) = (mesh.server(), mesh.client(mesh.only("/server")));
    Arc::make_mut(&mut client.tls).resumption = Resumption::in_memory_sessions(16);
    second_handshake_is_full(server, client).await;
}

#[tokio::test]
async fn our_client_resumes_nothing_even_if_the_server_would() {
    let mesh = Mesh::new("mesh.test");
    let (mut server, client) = (mesh.server(), mesh.client(mesh.only("/server")));
    let tls = Arc::get_mut(&mut server.tls).unwrap();
    tls.session_storage = ServerSessionMemoryCache::new(16);
    tls.send_tls13_tickets = 2;
    second_handshake_is_full(server, client).await;
}

async fn second_handshake_is_full(server: ServerTlsConfig, client: ClientTlsConfig) {
    for _ in 0..2 {
        let (accepted, connected) = handshake(server.clone(), client.clone()).await;
        let (mut accepted, mut connected) = (accepted.unwrap(), connected.unwrap());
        accepted.write_all(b"x").await.unwrap();
        accepted.flush().await.unwrap();
        connected.read_u8().await.unwrap();
        let kind = connected.stream.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn the_best_group_and_suite_of_the_build_are_negotiated() {
    let mesh = Mesh::new("mesh.test");
    let (accepted, _) = handshake(mesh.server(), mesh.client(mesh.only("/server"))).await;
    let accepted = accepted.unwrap();
    let connection = accepted.stream.get_ref().1;
    let best = match crypto::BACKEND {
        "aws-lc-rs" => NamedGroup::X25519MLKEM768,
        _ => NamedGroup::X25519,
    };
    assert_eq!(
        connection.negotiated_key_exchange_group().unwrap().name(),
        best
    );
    let suite = connection.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
}

#[tokio::test]
async fn bulk_passes_whole_in_both_directions() {
    let mesh = Mesh::new("mesh.test");
    let (accepted, connected) = handshake(mesh.server(), mesh.client(mesh.only("/server"))).await;
    let (mut accepted, mut connected) = (accepted.unwrap(), connected.unwrap());
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number as u8).collect();
    let echo = async {
        let mut received = vec![0; sent.len()];
        accepted.read_exact(&mut received).await.unwrap();
        accepted.write_all(&received).await.unwrap();
        accepted.shutdown().await.unwrap();
    };
    let call = async {
        connected.write_all(&sent).await.unwrap();
        connected.flush().await.unwrap();
        let mut received = Vec::new();
        connected.read_to_end(&mut received).await.unwrap();
        received
    };
    let ((), received) = tokio::join!(echo, call);
    assert!(received == sent);
}

#[tokio::test]
async fn a_handshake_passes_through_a_narrow_pipe() {
    let mesh = Mesh::new("mesh.test");
    let (near, far) = tokio::io::duplex(16);
    let client = mesh.client(mesh.only("/server"));
    let (accepted, connected) = tokio::join!(accept(far, mesh.server()), connect(near, client));
    assert_eq!(
        accepted.unwrap().peer().unwrap().spiffe_id(),
        &mesh.id("/client")
    );
    assert_eq!(connected.unwrap().peer().spiffe_id(), &mesh.id("/server"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_bytes_are_a_handshake(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let runtime = Builder::new_current_thread().build().unwrap();
        let accepted = runtime.block_on(async {
            let (mut near, far) = tokio::io::duplex(64 * 1024);
            near.write_all(&bytes).await.unwrap();
            near.shutdown().await.unwrap();
            accept(far, Mesh::new("mesh.test").server()).await
        });
        prop_assert!(matches!(accepted, Err(HandshakeError::Tls(_) | HandshakeError::Io(_))));
    }
}
