//! Claims about connections that say nothing: they cost their own source, and nobody else.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use crypto::signing::SigningKey;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::harness::TestCa;

const DEADLINE: Duration = Duration::from_secs(8);

/// A connection from another host than the tests', which sends nothing.
async fn silent(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

async fn silent_connections(to: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..count {
        connections.push(silent(to).await);
    }
    connections
}

#[tokio::test]
async fn silent_connections_of_one_source_keep_no_agent_from_attesting() {
    let ca = TestCa::start_with(|config| {
        config.limits.handshakes = NonZeroU32::new(4).unwrap();
    })
    .await;
    let _silent = silent_connections(ca.ca.agents_address(), 8).await;
    let token = ca.token("web-7").await;
    let attested = timeout(DEADLINE, async {
        let connection = ca.anonymous().await;
        connection.attest(&token, &SigningKey::generate()).await
    });
    attested.await.expect("the CA answers").unwrap();
}

#[tokio::test]
async fn more_strangers_than_one_source_may_hold_are_closed_at_once() {
    let ca = TestCa::start_with(|config| {
        config.limits.agent_connections = NonZeroU32::new(32).unwrap();
    })
    .await;
    let mut silent = silent_connections(ca.ca.agents_address(), 3).await;
    let ended = timeout(DEADLINE, silent[2].read(&mut [0; 1])).await;
    assert_eq!(ended.expect("the CA closes it").unwrap(), 0);
}

#[tokio::test]
async fn agents_of_one_source_are_no_strangers_to_one_another() {
    let ca = TestCa::start_with(|config| {
        config.limits.agent_connections = NonZeroU32::new(32).unwrap();
    })
    .await;
    let agent = ca.agent("web-7").await;
    let mut open = Vec::new();
    for _ in 0..8 {
        let connection = timeout(DEADLINE, ca.of(&agent)).await;
        let connection = connection.expect("the CA answers");
        let served = connection.issue(Vec::new()).await;
        assert!(served.is_ok(), "after {} others: {served:?}", open.len());
        open.push(connection);
    }
}

#[tokio::test]
async fn more_web_connections_than_one_source_may_hold_are_closed_at_once() {
    let ca = TestCa::start_with(|config| {
        config.limits.web_connections = NonZeroU32::new(8).unwrap();
    })
    .await;
    let mut silent = silent_connections(ca.ca.web_address(), 3).await;
    let ended = timeout(DEADLINE, silent[2].read(&mut [0; 1])).await;
    assert_eq!(ended.expect("the CA closes it").unwrap(), 0);
}
