//! WebSocket through two proxies, by a client and a server that know nothing of them.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use mesh_tests::application::Application;
use mesh_tests::raw;
use mesh_tests::shop::{NOBODY_MAY_CALL, Shop};
use mesh_tests::waiting::DEADLINE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const CHAT: &str = "ws://orders.shop.mesh.internal/v1/chat";
/// More than all buffers on the way hold.
const LARGE: usize = 8 * 1024 * 1024;

async fn shop() -> Shop {
    Shop::open_before(Application::websocket().await).await
}

async fn dial(proxy: SocketAddr, url: &str) -> Result<WebSocketStream<TcpStream>, Error> {
    let socket = TcpStream::connect(proxy).await.expect("the proxy listens");
    let opened = timeout(DEADLINE, client_async(url, socket)).await;
    opened.expect("in time").map(|(socket, _)| socket)
}

async fn echoed(socket: &mut WebSocketStream<TcpStream>, text: &str) -> Message {
    socket.send(Message::text(text)).await.expect("writable");
    let next = timeout(DEADLINE, socket.next()).await;
    next.expect("in time").expect("open").expect("a message")
}

#[tokio::test]
async fn a_websocket_that_policy_denies_is_told_403() {
    let shop = shop().await;
    let intruder = shop.intruder().await;
    let proxies = [
        (
            shop.checkout.outbound(),
            "ws://orders.shop.mesh.internal/admin",
        ),
        (intruder.outbound(), CHAT),
    ];
    for (proxy, url) in proxies {
        match dial(proxy, url).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 403),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shop.application.requests(), 0);
}

#[tokio::test]
async fn a_websocket_is_cut_when_policy_forbids_it() {
    let shop = shop().await;
    let mut socket = dial(shop.checkout.outbound(), CHAT).await.expect("open");
    assert_eq!(echoed(&mut socket, "ping").await, Message::text("ping"));
    shop.mesh.apply(NOBODY_MAY_CALL).await;
    let ended = timeout(DEADLINE, async {
        while let Some(Ok(_)) = socket.next().await {}
    });
    ended.await.expect("it ends");
}

#[tokio::test]
async fn messages_large_and_small_come_back_over_many_websockets() {
    let shop = shop().await;
    let mut callers = JoinSet::new();
    for number in 0..16 {
        let proxy = shop.checkout.outbound();
        callers.spawn(async move {
            let mut socket = dial(proxy, CHAT).await.expect("open");
            for round in 0..20 {
                let text = format!("{number}/{round}");
                assert_eq!(echoed(&mut socket, &text).await, Message::text(text));
            }
            socket.close(None).await.expect("closed in good order");
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("every message came back");
    }
    let (mut sender, mut receiver) = dial(shop.checkout.outbound(), CHAT)
        .await
        .expect("open")
        .split();
    let large = Message::binary(vec![7; LARGE]);
    let both = async { tokio::join!(sender.send(large.clone()), receiver.next()) };
    let (sent, received) = timeout(DEADLINE, both).await.expect("in time");
    sent.expect("it is carried");
    assert!(received.expect("open").expect("a message") == large);
}

#[tokio::test]
async fn a_websocket_goes_through_a_tunnel() {
    let shop = shop().await;
    let mut socket = TcpStream::connect(shop.checkout.outbound())
        .await
        .expect("the proxy listens");
    let connect = "CONNECT orders.shop.mesh.internal:80 HTTP/1.1\r\n\
                   host: orders.shop.mesh.internal:80\r\n\r\n";
    socket
        .write_all(connect.as_bytes())
        .await
        .expect("writable");
    let mut answer = [0; 19];
    socket.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK\r\n\r\n");
    let (mut socket, _) = client_async(CHAT, socket).await.expect("open");
    assert_eq!(echoed(&mut socket, "ping").await, Message::text("ping"));
}

#[tokio::test]
async fn nothing_behind_a_websocket_that_was_not_granted_is_a_request() {
    let shop = Shop::open_before(Application::http().await).await;
    let host = "host: orders.shop.mesh.internal\r\n";
    let asks = "connection: upgrade\r\nupgrade: websocket\r\n";
    let said =
        format!("GET /v1/a HTTP/1.1\r\n{host}{asks}\r\nGET /v1/hidden HTTP/1.1\r\n{host}\r\n");
    let answer = raw::say(shop.checkout.outbound(), said.as_bytes()).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 1, "{answer}");
    assert_eq!(shop.application.requests(), 1);
}
