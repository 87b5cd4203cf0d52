use proptest::prelude::*;

use super::*;
use crate::credentials::channel;
use crate::error::HandshakeError;
use crate::testing::{Clock, Mesh, NOW, handshake};

const CA: &str = "/countersign/ca/ca-1";

fn pins(mesh: &Mesh) -> PinnedRoots {
    PinnedRoots::new(mesh.trust_domain.clone(), vec![Sha256::of(&mesh.root())])
}

fn client(pins: &PinnedRoots) -> ClientTlsConfig {
    pins.client_config(&[], Clock::default().reader())
}

/// What a client with `pins` says of a server that shows `path` of `mesh`, as the CA would.
async fn refusal(pins: &PinnedRoots, mesh: &Mesh, path: &str) -> Refusal {
    let server = mesh.server_with(mesh.leaf(path).certified_with(mesh.root()));
    match handshake(server, client(pins)).await.1 {
        Err(HandshakeError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_ca_under_another_root_is_refused() {
    let (mesh, other) = (Mesh::new("mesh.test"), Mesh::new("mesh.test"));
    assert_eq!(refusal(&pins(&mesh), &other, CA).await, Refusal::NotPinned);
}

#[tokio::test]
async fn without_a_digest_nothing_is_accepted() {
    let mesh = Mesh::new("mesh.test");
    let pins = PinnedRoots::new(mesh.trust_domain.clone(), Vec::new());
    assert_eq!(refusal(&pins, &mesh, CA).await, Refusal::NotPinned);
}

#[tokio::test]
async fn the_pinned_root_beside_the_chain_of_another_is_refused() {
    let (mesh, forger) = (Mesh::new("mesh.test"), Mesh::new("mesh.test"));
    let server = forger.server_with(forger.leaf(CA).certified_with(mesh.root()));
    let (_, client) = handshake(server, client(&pins(&mesh))).await;
    assert!(matches!(
        client,
        Err(HandshakeError::Refused(Refusal::UnknownAuthority))
    ));
}

#[tokio::test]
async fn a_workload_under_the_pinned_root_is_refused() {
    let mesh = Mesh::new("mesh.test");
    let (expected, got) = (Expected::CaReplica, mesh.id("/ns/shop/sa/orders"));
    let refusal = refusal(&pins(&mesh), &mesh, "/ns/shop/sa/orders").await;
    assert_eq!(refusal, Refusal::IdentityMismatch { expected, got });
}

#[tokio::test]
async fn without_proof_of_the_root_a_server_must_still_be_a_ca_by_its_own_word() {
    let mesh = Mesh::new("mesh.test");
    let unproven = PinnedRoots::danger_unproven(mesh.trust_domain.clone());
    let (expected, got) = (Expected::CaReplica, mesh.id("/ns/shop/sa/orders"));
    let refused = refusal(&unproven, &mesh, "/ns/shop/sa/orders").await;
    assert_eq!(refused, Refusal::IdentityMismatch { expected, got });
    let server = mesh.server_with(mesh.leaf(CA).certified_with(mesh.root()));
    assert!(handshake(server, client(&unproven)).await.1.is_ok());
}

#[tokio::test]
async fn a_root_pinned_for_another_trust_domain_is_refused() {
    let (mesh, other) = (Mesh::new("mesh.test"), Mesh::new("other.test"));
    let pins = PinnedRoots::new(mesh.trust_domain.clone(), vec![Sha256::of(&other.root())]);
    let refusal = refusal(&pins, &other, CA).await;
    assert!(
        matches!(refusal, Refusal::PinnedRoot(_) | Refusal::NoBundle { .. }),
        "{refusal:?}"
    );
}

#[tokio::test]
async fn a_ca_replica_under_a_pinned_root_is_reached_and_shows_its_root() {
    let (mesh, clock) = (Mesh::new("mesh.test"), Clock::default());
    let (_publisher, credentials) = mesh.credentials(CA, &clock);
    let server = credentials.optional_client_server_config(&[]).unwrap();
    let (accepted, connected) = handshake(server, client(&pins(&mesh))).await;
    let connected = connected.unwrap();
    assert_eq!(connected.peer().spiffe_id(), &mesh.id(CA));
    assert_eq!(connected.pinned_root(), Some(&mesh.root()));
    assert!(accepted.unwrap().peer().is_none());
}

#[tokio::test]
async fn of_several_roots_the_ca_shows_the_one_that_its_chain_leads_to() {
    let (mesh, next) = (Mesh::new("mesh.test"), Mesh::new("mesh.test"));
    let roots = vec![next.root().to_vec(), mesh.root().to_vec()];
    let bundle = Bundle::new(mesh.trust_domain.clone(), 2, roots).unwrap();
    let (publisher, credentials) = channel(Clock::default().reader());
    publisher
        .publish(mesh.leaf(CA).svid(), bundle.clone().into())
        .unwrap();
    let server = credentials.optional_client_server_config(&[]).unwrap();
    let (_, connected) = handshake(server, client(&PinnedRoots::of_bundle(&bundle))).await;
    assert_eq!(connected.unwrap().pinned_root(), Some(&mesh.root()));
}

#[tokio::test]
async fn the_web_listener_with_our_own_certificate_is_reached_the_same_way() {
    let (mesh, clock) = (Mesh::new("mesh.test"), Clock::default());
    let (_publisher, credentials) = mesh.credentials(CA, &clock);
    let server = credentials.web_server_config(&[b"h2"]).unwrap();
    let pins = PinnedRoots::of_bundle(&mesh.bundle());
    let (_, connected) = handshake(server, client(&pins)).await;
    assert_eq!(connected.unwrap().peer().spiffe_id(), &mesh.id(CA));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn bytes_with_a_pinned_digest_are_still_judged(
        first: Vec<u8>, others: Vec<Vec<u8>>
    ) {
        let mesh = "mesh.test".parse().unwrap();
        let pins = PinnedRoots::new(mesh, vec![Sha256::of(&first)]);
        let chain = std::iter::once(first).chain(others).map(CertificateDer::from).collect();
        prop_assert!(pins.verify(chain, NOW).is_err());
    }
}
