use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;

use super::*;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn sockets(workers: usize) -> Sockets {
    Sockets::new(NonZeroUsize::new(workers).unwrap())
}

fn mesh() -> SocketName {
    SocketName::Mesh("shop/orders:http".parse().unwrap())
}

#[test]
fn a_port_that_another_owner_listens_on_is_refused() {
    let first = sockets(2);
    first.tcp(&mesh(), ANY).unwrap();
    let taken = first.address(&mesh()).unwrap();

    let refused = sockets(2).tcp(&SocketName::Outbound, taken).unwrap_err();

    assert!(matches!(
        refused,
        BindError::Inet { address, source, .. }
            if address == taken && source.kind() == io::ErrorKind::AddrInUse
    ));
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    std::fs::write(&path, "notes").unwrap();

    let refused = sockets(1)
        .unix(&SocketName::Admin, &path, true)
        .unwrap_err();

    assert!(matches!(refused, BindError::Unix { .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
}

#[test]
fn each_worker_has_a_socket_of_its_own_at_one_port() {
    let sockets = sockets(3);

    let listeners = sockets.tcp(&mesh(), ANY).unwrap();

    let at = sockets.address(&mesh()).unwrap();
    assert_eq!(listeners.len(), 3);
    assert!(listeners.iter().all(|it| it.local_addr().unwrap() == at));
}

#[test]
fn a_port_is_free_once_owner_and_server_let_go() {
    let sockets = sockets(2);
    let served = sockets.tcp(&mesh(), ANY).unwrap();
    let at = sockets.address(&mesh()).unwrap();
    sockets.close_all();
    TcpStream::connect(at).unwrap();
    drop(served);

    let refused = TcpStream::connect(at).unwrap_err();

    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_successor_serves_the_same_port_and_those_who_wait_there() {
    let old = sockets(1);
    drop(old.tcp(&mesh(), ANY).unwrap());
    let at = old.address(&mesh()).unwrap();
    let waiting = TcpStream::connect(at).unwrap();
    let new = Sockets::inherit(NonZeroUsize::new(2).unwrap(), old.duplicate().unwrap());
    old.abandon();

    let served = new.tcp(&mesh(), ANY).unwrap();

    assert_eq!((served.len(), new.address(&mesh())), (2, Some(at)));
    let (accepted, _) = served[0].accept().unwrap();
    assert_eq!(accepted.peer_addr().unwrap(), waiting.local_addr().unwrap());
}

#[test]
fn a_configuration_that_moved_is_not_served_at_the_old_port() {
    let old = sockets(1);
    drop(old.tcp(&SocketName::Outbound, ANY).unwrap());
    let elsewhere = {
        let free = TcpListener::bind(ANY).unwrap();
        free.local_addr().unwrap()
    };
    let new = Sockets::inherit(NonZeroUsize::MIN, old.duplicate().unwrap());

    new.tcp(&SocketName::Outbound, elsewhere).unwrap();

    assert_eq!(new.address(&SocketName::Outbound), Some(elsewhere));
}

#[test]
fn a_successor_closes_what_it_does_not_serve() {
    let old = sockets(1);
    drop(old.tcp(&mesh(), ANY).unwrap());
    let at = old.address(&mesh()).unwrap();
    let new = Sockets::inherit(NonZeroUsize::MIN, old.duplicate().unwrap());
    old.abandon();
    TcpStream::connect(at).unwrap();

    new.admit();

    let refused = TcpStream::connect(at).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn the_file_of_a_unix_socket_outlives_an_owner_that_was_relieved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("takeover.sock");
    let old = sockets(1);
    drop(old.unix(&SocketName::Takeover, &path, true).unwrap());
    let new = Sockets::inherit(NonZeroUsize::MIN, old.duplicate().unwrap());
    let served = new.unix(&SocketName::Takeover, &path, true).unwrap();

    old.abandon();

    UnixStream::connect(&path).unwrap();
    assert!(served.accept().is_ok());
}

#[test]
fn the_file_of_a_unix_socket_outlives_a_successor_that_was_never_ready() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("takeover.sock");
    let old = sockets(1);
    let served = old.unix(&SocketName::Takeover, &path, true).unwrap();
    let new = Sockets::inherit(NonZeroUsize::MIN, old.duplicate().unwrap());
    drop(new.unix(&SocketName::Takeover, &path, true).unwrap());

    new.close_all();

    UnixStream::connect(&path).unwrap();
    assert!(served.accept().is_ok());
}

#[test]
fn the_file_of_a_unix_socket_goes_with_its_last_owner() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let sockets = sockets(1);
    drop(sockets.unix(&SocketName::Admin, &path, true).unwrap());

    sockets.close_all();

    assert!(!path.exists());
}

#[tokio::test]
async fn nothing_is_admitted_before_a_successor_is_ready() {
    let successor = Sockets::inherit(NonZeroUsize::MIN, Vec::new());
    let waiting = successor.admitted();
    assert!(!successor.open.is_cancelled());

    successor.admit();

    waiting.await;
}
