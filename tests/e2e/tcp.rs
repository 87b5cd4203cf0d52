//! TCP services: bytes arrive as they were sent, ends are passed on, and policy judges live
//! connections again.

use std::sync::Arc;

use mesh_tests::application::Application;
use mesh_tests::database::{Database, NOBODY_MAY_CONNECT};
use mesh_tests::mesh::Mesh;
use mesh_tests::waiting::DEADLINE;
use proxy::{CallRecord, Reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

/// More than all buffers on the way hold.
const LARGE: usize = 8 * 1024 * 1024;

#[tokio::test]
async fn a_tcp_connection_that_nobody_allowed_carries_nothing() {
    let mesh = Mesh::start().await;
    let _database = Database::open_in(&mesh, Application::tcp_echo().await).await;
    let intruder = Database::client(&mesh, "shop/intruder").await;
    let mut socket = connect(intruder.reach()).await;
    // The refusal may come before or after this.
    drop(socket.write_all(b"ping").await);
    assert_ended(&mut socket).await;
}

#[tokio::test]
async fn a_tcp_connection_is_cut_when_policy_forbids_it() {
    let mesh = Mesh::start().await;
    let database = Database::open_in(&mesh, Application::tcp_echo().await).await;
    let mut socket = connect(database.cashier.reach()).await;
    assert_eq!(echoed(&mut socket).await, *b"ping");
    mesh.apply(NOBODY_MAY_CONNECT).await;
    assert_ended(&mut socket).await;
}

#[tokio::test]
async fn a_tcp_connection_that_policy_cut_is_told_as_a_failure_at_both_ends() {
    let mesh = Mesh::start().await;
    let database = Database::open_in(&mesh, Application::tcp_echo().await).await;
    let mut socket = connect(database.cashier.reach()).await;
    assert_eq!(echoed(&mut socket).await, *b"ping");
    let mut callee = database.database.proxy.calls();
    let mut caller = database.cashier.proxy.calls();
    mesh.apply(NOBODY_MAY_CONNECT).await;
    let told = [next(&mut caller).await, next(&mut callee).await];
    let reasons = told.each_ref().map(|it| it.reason.map(Reason::code));
    assert_eq!(reasons, [Some("upstream-reset"), Some("policy-denied")]);
    let detail = told[0].detail.as_deref().unwrap_or_default();
    assert!(detail.starts_with("cut by the other proxy"), "{detail}");
}

#[tokio::test]
async fn a_tcp_connection_that_ended_in_order_is_no_failure_at_either_end() {
    let mesh = Mesh::start().await;
    let database = Database::open_in(&mesh, Application::tcp_echo().await).await;
    let mut socket = connect(database.cashier.reach()).await;
    assert_eq!(echoed(&mut socket).await, *b"ping");
    let mut callee = database.database.proxy.calls();
    let mut caller = database.cashier.proxy.calls();
    socket.shutdown().await.expect("half-closed");
    assert_ended(&mut socket).await;
    let told = [next(&mut caller).await, next(&mut callee).await];
    assert_eq!(told.map(|it| it.reason), [None, None]);
}

/// What is told of the next connection that ends.
async fn next(told: &mut Receiver<Arc<CallRecord>>) -> Arc<CallRecord> {
    let record = timeout(DEADLINE, told.recv()).await;
    record
        .expect("it is told in time")
        .expect("the proxy lives")
}

#[tokio::test]
async fn what_is_large_arrives_whole_both_ways() {
    let mesh = Mesh::start().await;
    let database = Database::open_in(&mesh, Application::tcp_echo().await).await;
    let (mut reader, mut writer) = connect(database.cashier.reach()).await.into_split();
    let sent = content();
    let mut received = vec![0; LARGE];
    let transfer =
        async { tokio::join!(writer.write_all(&sent), reader.read_exact(&mut received)) };
    let (written, read) = timeout(DEADLINE, transfer).await.expect("it ends");
    written.and(read).expect("it is carried");
    assert!(sent == received, "the content differs");
}

#[tokio::test]
async fn an_end_is_passed_on_and_the_answer_still_comes() {
    let mesh = Mesh::start().await;
    let application = Application::tcp_after_the_end().await;
    let database = Database::open_in(&mesh, application).await;
    let mut socket = connect(database.cashier.reach()).await;
    assert_eq!(socket.read_u8().await.expect("a greeting"), b'?');
    socket.write_all(b"all I have to say").await.expect("open");
    socket.shutdown().await.expect("half-closed");
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, socket.read_to_end(&mut answer)).await;
    read.expect("the answer ends").expect("in an orderly way");
    assert_eq!(answer, b"all I have to say");
}

/// Every byte depends on its place.
fn content() -> Vec<u8> {
    let words = (0..LARGE as u64 / 8).map(|place| place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    words.flat_map(u64::to_le_bytes).collect()
}

async fn connect(local: std::net::SocketAddr) -> TcpStream {
    TcpStream::connect(local).await.expect("the proxy listens")
}

async fn echoed(socket: &mut TcpStream) -> [u8; 4] {
    let mut echoed = [0; 4];
    socket.write_all(b"ping").await.expect("writable");
    let read = timeout(DEADLINE, socket.read_exact(&mut echoed)).await;
    read.expect("in time").expect("the echo arrives");
    echoed
}

async fn assert_ended(socket: &mut TcpStream) {
    let answer = timeout(DEADLINE, socket.read(&mut [0; 4])).await;
    let answer = answer.expect("the connection ends");
    assert!(matches!(answer, Ok(0) | Err(_)), "{answer:?}");
}
