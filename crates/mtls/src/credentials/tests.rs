use identity::x509::{BundleSet, Denied};

use super::*;
use crate::error::Refusal;
use crate::testing::{Clock, HOUR, Mesh, NOW, handshake};
use crate::{HandshakeError, PeerIdentity};

#[test]
fn before_the_first_publication_there_is_no_configuration() {
    let (_publisher, credentials) = channel(Clock::default().reader());
    assert!(credentials.current().is_none());
    assert_eq!(credentials.server_config(&[]).err(), Some(NotReady));
    assert_eq!(
        credentials.optional_client_server_config(&[]).err(),
        Some(NotReady)
    );
    assert_eq!(credentials.web_server_config(&[]).err(), Some(NotReady));
    assert_eq!(
        credentials.client_config(Expected::CaReplica, &[]).err(),
        Some(NotReady)
    );
}

#[test]
fn an_expired_certificate_of_our_own_is_not_published() {
    let mesh = Mesh::new("mesh.test");
    let (publisher, credentials) = channel(Clock::default().reader());
    let svid = mesh.leaf("/a").lasting(NOW - 2 * HOUR, NOW - HOUR).svid();
    let refused = publisher.publish(svid, mesh.bundles());
    assert!(matches!(
        refused,
        Err(PublishError::Refused(SvidError::Expired { .. }))
    ));
    assert!(credentials.current().is_none());
}

#[test]
fn a_certificate_without_its_own_bundle_is_not_published() {
    let mesh = Mesh::new("mesh.test");
    let (publisher, _credentials) = channel(Clock::default().reader());
    let refused = publisher.publish(mesh.leaf("/a").svid(), BundleSet::from_iter([]));
    assert!(matches!(
        refused,
        Err(PublishError::Refused(SvidError::NoBundle { .. }))
    ));
}

#[test]
fn a_certificate_of_another_root_is_not_published_and_readers_keep_what_they_have() {
    let (mesh, forger) = (Mesh::new("mesh.test"), Mesh::new("mesh.test"));
    let (publisher, credentials) = mesh.credentials("/a", &Clock::default());
    let before = credentials.current().unwrap();
    let refused = publisher.publish(forger.leaf("/a").svid(), mesh.bundles());
    assert!(matches!(
        refused,
        Err(PublishError::Refused(SvidError::Path { .. }))
    ));
    assert!(Arc::ptr_eq(&before, &credentials.current().unwrap()));
}

#[test]
fn back_dating_is_no_part_of_a_leafs_life() {
    let mesh = Mesh::new("mesh.test");
    let (publisher, credentials) = channel(Clock::default().reader());
    let svid = mesh.leaf("/a").lasting(NOW - HOUR, NOW + HOUR).svid();
    publisher.publish(svid, mesh.bundles()).unwrap();
    assert_eq!(credentials.current().unwrap().life(), HOUR);
}

#[tokio::test]
async fn readers_of_a_publisher_that_is_gone_are_told() {
    let (publisher, mut credentials) = channel(Clock::default().reader());
    drop(publisher);
    assert_eq!(credentials.wait_ready().await.err(), Some(PublisherGone));
    assert_eq!(credentials.changed().await.err(), Some(PublisherGone));
}

#[tokio::test]
async fn each_publication_is_a_generation_that_readers_see_once() {
    let mesh = Mesh::new("mesh.test");
    let (publisher, mut credentials) = mesh.credentials("/a", &Clock::default());
    let first = credentials.changed().await.unwrap();
    let second = publisher
        .publish(mesh.leaf("/a").svid(), mesh.bundles())
        .unwrap();
    assert!(second > first.generation());
    assert_eq!(credentials.changed().await.unwrap().generation(), second);
    assert_eq!(credentials.wait_ready().await.unwrap().generation(), second);
}

#[test]
fn a_configuration_is_made_once_for_each_generation() {
    let mesh = Mesh::new("mesh.test");
    let (publisher, credentials) = mesh.credentials("/a", &Clock::default());
    let server = || credentials.server_config(&[b"h2"]).unwrap().tls;
    let client = || {
        credentials
            .client_config(mesh.only("/b"), &[b"h2"])
            .unwrap()
            .tls
    };
    let (first_server, first_client) = (server(), client());
    assert!(Arc::ptr_eq(&first_server, &server()));
    assert!(Arc::ptr_eq(&first_client, &client()));
    publisher
        .publish(mesh.leaf("/a").svid(), mesh.bundles())
        .unwrap();
    assert!(!Arc::ptr_eq(&first_server, &server()));
    assert!(!Arc::ptr_eq(&first_client, &client()));
}

#[test]
fn whom_a_client_expects_and_what_it_speaks_make_another_configuration() {
    let mesh = Mesh::new("mesh.test");
    let (_publisher, credentials) = mesh.credentials("/a", &Clock::default());
    let client = |expected, alpn: &[&[u8]]| credentials.client_config(expected, alpn).unwrap().tls;
    let one = client(mesh.only("/b"), &[b"h2"]);
    assert!(!Arc::ptr_eq(&one, &client(mesh.only("/c"), &[b"h2"])));
    assert!(!Arc::ptr_eq(&one, &client(mesh.only("/b"), &[b"http/1.1"])));
    assert!(!Arc::ptr_eq(&one, &client(Expected::CaReplica, &[b"h2"])));
}

#[tokio::test]
async fn a_renewal_changes_new_connections_and_no_old_one() {
    let (mesh, clock) = (Mesh::new("mesh.test"), Clock::default());
    let (publisher, server) = mesh.credentials("/server", &clock);
    let client = mesh.client(mesh.only("/server"));
    let connect = || handshake(server.server_config(&[]).unwrap(), client.clone());

    let old = connect().await.1.unwrap();
    let renewed = mesh.leaf("/server").svid();
    let expected = renewed.svid().leaf_digest();
    publisher.publish(renewed, mesh.bundles()).unwrap();
    let new = connect().await.1.unwrap();

    assert_ne!(old.peer().leaf_digest(), expected);
    assert_eq!(new.peer().leaf_digest(), expected);
}

type Handshake<T> = Result<T, HandshakeError>;

/// What a handshake of `/client` with `/server` comes to when both ask the same list.
async fn under(
    denied: impl FnOnce(&PeerIdentity) -> Option<Denied>,
) -> (Handshake<()>, Handshake<()>) {
    let (mesh, clock) = (Mesh::new("mesh.test"), Clock::default());
    let (server_publisher, server) = mesh.credentials("/server", &clock);
    let (client_publisher, client) = mesh.credentials("/client", &clock);
    let client = || client.client_config(mesh.only("/server"), &[]).unwrap();
    let server = server.server_config(&[]).unwrap();
    let before = handshake(server.clone(), client()).await.1.unwrap();
    let list = DenyList::new(denied(before.peer())).unwrap();
    server_publisher.deny(list.clone());
    client_publisher.deny(list);
    let (accepted, connected) = handshake(server, client()).await;
    (accepted.map(drop), connected.map(drop))
}

#[tokio::test]
async fn a_client_that_is_denied_is_refused_by_a_configuration_made_before() {
    let denied = Denied::Identity("spiffe://mesh.test/client".parse().unwrap());
    let (accepted, _) = under(|_| Some(denied.clone())).await;
    let Err(HandshakeError::Refused(Refusal::Revoked { peer, by })) = accepted else {
        panic!("{accepted:?}");
    };
    assert_eq!((peer.path(), by), ("/client", denied));
}

#[tokio::test]
async fn a_server_whose_certificate_is_denied_is_refused_though_it_was_remembered() {
    let mut serial = None;
    let (_, connected) = under(|server| {
        serial = Some(Denied::Serial(server.serial()));
        serial.clone()
    })
    .await;
    let Err(HandshakeError::Refused(Refusal::Revoked { by, .. })) = connected else {
        panic!("{connected:?}");
    };
    assert_eq!(Some(by), serial);
}

#[tokio::test]
async fn whom_a_list_no_longer_names_is_let_in_again() {
    let (mesh, clock) = (Mesh::new("mesh.test"), Clock::default());
    let (publisher, server) = mesh.credentials("/server", &clock);
    let client = mesh.client(mesh.only("/server"));
    let denied = Denied::Identity("spiffe://mesh.test/client".parse().unwrap());
    publisher.deny(DenyList::new([denied]).unwrap());
    let config = server.server_config(&[]).unwrap();
    let (refused, _) = handshake(config.clone(), client.clone()).await;
    assert!(refused.is_err());
    publisher.deny(DenyList::default());
    let (accepted, _) = handshake(config, client).await;
    assert_eq!(
        accepted.unwrap().peer().unwrap().spiffe_id().path(),
        "/client"
    );
}
