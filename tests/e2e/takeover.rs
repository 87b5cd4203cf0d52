//! A new proxy process takes the place of a running one, and no caller notices; whatever befalls
//! the new one before it is ready, the old one goes on.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use http::StatusCode;
use http::header::CONNECTION;
use mesh_tests::application::Application;
use mesh_tests::caller::Caller;
use mesh_tests::frames;
use mesh_tests::host::Host;
use mesh_tests::operator::CaProcess;
use mesh_tests::other_user::OtherUser;
use mesh_tests::shop::{CHECKOUT_MAY_CALL, ORDERS, SERVICE};
use mesh_tests::waiting::{DEADLINE, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const TAKEOVERS: usize = 5;

struct Mesh {
    orders: Host,
    checkout: Host,
    application: Application,
    _ca: CaProcess,
}

impl Mesh {
    async fn start() -> Self {
        let ca = CaProcess::start().await;
        ca.register("shop", "orders").await;
        ca.register("shop", "checkout").await;
        for objects in [SERVICE, CHECKOUT_MAY_CALL] {
            ca.try_apply(objects).await.expect("valid objects");
        }
        let application = Application::http().await;
        let at = application.address();
        let orders = Host::start(&ca, "orders-1", "shop/orders", Some(at)).await;
        let checkout = Host::start(&ca, "checkout-1", "shop/checkout", None).await;
        let mesh = Self {
            orders,
            checkout,
            application,
            _ca: ca,
        };
        eventually("a call passes", || async {
            let mut caller = Caller::connect(mesh.checkout.outbound).await;
            let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
        mesh
    }

    async fn more_calls(&self, count: usize) {
        let before = self.application.requests();
        eventually("calls go on", || async {
            (self.application.requests() >= before + count).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn another_user_gets_no_socket_even_where_the_file_lets_him() {
    let Some(other) = OtherUser::obtain() else {
        return;
    };
    let ca = CaProcess::start().await;
    ca.register("shop", "orders").await;
    let host = Host::start(&ca, "orders-1", "shop/orders", None).await;
    let socket = host.takeover_socket();
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).expect("ours");
    for folder in [host.directory(), ca.directory()] {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("ours");
    }

    let path = socket.to_str().expect("a plain path");
    let said = other.curl(&["--unix-socket", path, "http://proxy/"]).await;

    assert!(said.starts_with("curl: "), "{said}");
    eventually("the refusal is logged", || async {
        let log = host.proxy.said();
        log.contains("is of uid 65534, not 0").then_some(())
    })
    .await;
    assert_eq!(host.ready().await["draining"], false);
}

#[tokio::test]
async fn a_successor_killed_before_it_is_ready_changes_nothing() {
    let mut mesh = Mesh::start().await;
    // Without an agent nobody gets ready.
    mesh.orders.stop_agent().await;
    let successor = mesh.orders.successor();
    eventually("it has the sockets", || async {
        let log = mesh.orders.proxy.said();
        log.contains("a successor asks for the sockets")
            .then_some(())
    })
    .await;
    let end = CancellationToken::new();
    let mut callers = load(mesh.checkout.outbound, &end);

    successor.kill().await;

    mesh.more_calls(50).await;
    mesh.orders.crash_agent().await;
    let mut old = mesh.orders.take_over().await;
    assert!(old.ended().await.success(), "{}", old.said());
    mesh.more_calls(50).await;
    end.cancel();
    while let Some(caller) = callers.join_next().await {
        caller.expect("no call failed");
    }
}

#[tokio::test]
async fn takeovers_of_the_receiving_proxy_under_load_lose_no_call() {
    let mut mesh = Mesh::start().await;
    let end = CancellationToken::new();
    let mut callers = load(mesh.checkout.outbound, &end);
    for _ in 0..TAKEOVERS {
        mesh.more_calls(30).await;
        let mut old = mesh.orders.take_over().await;
        assert!(old.ended().await.success(), "{}", old.said());
    }
    mesh.more_calls(30).await;
    end.cancel();
    while let Some(caller) = callers.join_next().await {
        caller.expect("no call failed");
    }
}

#[tokio::test]
async fn takeovers_of_the_calling_proxy_under_load_lose_no_call() {
    let mut mesh = Mesh::start().await;
    let end = CancellationToken::new();
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        callers.spawn(one_call_each(mesh.checkout.outbound, end.clone()));
    }
    for _ in 0..TAKEOVERS {
        mesh.more_calls(30).await;
        let mut old = mesh.checkout.take_over().await;
        assert!(old.ended().await.success(), "{}", old.said());
    }
    mesh.more_calls(30).await;
    end.cancel();
    while let Some(caller) = callers.join_next().await {
        caller.expect("no call failed");
    }
}

#[tokio::test]
async fn a_connection_that_was_idle_when_its_proxy_was_relieved_is_still_answered() {
    let mut mesh = Mesh::start().await;
    let mut kept = Caller::connect(mesh.checkout.outbound).await;
    call(&mut kept).await;
    let told = silent_h2(mesh.checkout.outbound).await;

    let mut old = mesh.checkout.take_over().await;

    // Who was told to leave, and stays silent, is left; by then a second has passed.
    until_left(told).await;
    let answer = kept.get(&format!("{ORDERS}/v1/orders")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.headers[CONNECTION], "close");
    assert!(old.ended().await.success(), "{}", old.said());
}

/// An HTTP/2 connection on which nothing is asked, and nothing answered.
async fn silent_h2(outbound: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(outbound).await.expect("it listens");
    let opened = stream.write_all(&frames::opening(&[])).await;
    opened.expect("it is read");
    let mut first = [0];
    let settings = stream.read_exact(&mut first).await;
    settings.expect("it has been accepted");
    stream
}

async fn until_left(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let end = timeout(DEADLINE, stream.read_to_end(&mut rest));
    // An end or a reset: what was never answered may be unread at the other end.
    drop(end.await.expect("it is left in time"));
}

/// Callers on connections that are kept, half of them over HTTP/2.
fn load(outbound: SocketAddr, end: &CancellationToken) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for _ in 0..2 {
        callers.spawn(calls(Caller::connect(outbound), end.clone()));
        callers.spawn(calls(Caller::connect_h2(outbound), end.clone()));
    }
    callers
}

async fn calls(caller: impl Future<Output = Caller>, end: CancellationToken) {
    let mut caller = caller.await;
    while !end.is_cancelled() {
        call(&mut caller).await;
    }
}

/// Each call on a connection of its own.
async fn one_call_each(outbound: SocketAddr, end: CancellationToken) {
    while !end.is_cancelled() {
        call(&mut Caller::connect(outbound).await).await;
    }
}

async fn call(caller: &mut Caller) {
    let answer = caller.get(&format!("{ORDERS}/v1/orders")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
}
