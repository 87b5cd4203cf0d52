//! HTTP that is malformed, ambiguous or endless: refused, or read in the one way that the next
//! hop reads it too. The proxy answers the next good call.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use mesh_tests::caller::Caller;
use mesh_tests::raw::say;
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::waiting::{DEADLINE, eventually};
use mesh_tests::workload::Workload;
use proxy::config::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const HOST: &str = "host: orders.shop.mesh.internal\r\n";
/// Ends the connection after the answer.
const LAST: &str = "connection: close\r\n";

#[tokio::test]
async fn a_malformed_request_is_refused_and_does_not_arrive() {
    let shop = Shop::open().await;
    for malformed in [
        "GET /v1/orders HTTP/1.1\r\n{LAST}{HOST}content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "POST /v1/orders HTTP/1.1\r\n{LAST}{HOST}content-length: +3\r\n\r\nabc",
        "POST /v1/orders HTTP/1.1\r\n{LAST}{HOST}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST /v1/orders HTTP/1.0\r\n{LAST}{HOST}transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /v1/orders HTTP/1.1\r\n{LAST}{HOST}x-folded: a\r\n b\r\n\r\n",
        "GET /v1/orders HTTP/1.1\r\n{LAST}{HOST}{HOST}\r\n",
        "GET /v1/orders HTTP/1.1\r\n{LAST}{HOST}x-spaced : a\r\n\r\n",
        "GET /v1/orders HTTP/1.1\r\n{LAST}{HOST}x-null: \0\r\n\r\n",
        "GET /v1/orders HTTP/1.1\r\n{LAST}host: orders.shop.mesh.internal, other\r\n\r\n",
        "GET /v1/orders HTTP/1.1\r\n{LAST}\r\n",
        "GET /v1/or ders HTTP/1.1\r\n{LAST}{HOST}\r\n",
        "GET /v1/orders HTTP/9.9\r\n{LAST}{HOST}\r\n",
        "\u{1}\u{2}\u{3}\r\n\r\n",
    ] {
        let answer = answer_to(&shop, malformed).await;
        let refused = answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 5");
        assert!(refused, "{malformed:?}: {answer}");
    }
    assert_eq!(shop.application.requests(), 0);
    assert_serves(&shop.checkout).await;
}

#[tokio::test]
async fn a_request_hidden_in_another_is_never_seen() {
    let shop = Shop::open().await;
    let hidden = "GET /v1/hidden HTTP/1.1\r\n{HOST}\r\n";
    for outer in [
        "POST /v1/outer HTTP/1.1\r\n{HOST}{LAST}content-length: 60\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/outer HTTP/1.1\r\n{HOST}{LAST}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        "POST /v1/outer HTTP/1.1\r\n{HOST}{LAST}transfer-encoding: chunked\r\n\r\n0;a=b\r\n\r\n",
        "GET /v1/outer HTTP/1.1\r\n{HOST}{LAST}\r\n",
        "POST /v1/outer HTTP/1.1\n{HOST}{LAST}content-length: 0\n\n",
        "POST /v1/outer HTTP/1.1\r\n{HOST}{LAST}transfer-encoding:\u{b}chunked\r\n\r\n0\r\n\r\n",
    ] {
        let before = shop.application.requests();
        let answer = answer_to(&shop, &format!("{outer}{hidden}")).await;
        assert!(!answer.contains("/v1/hidden"), "{outer:?}: {answer}");
        assert!(
            shop.application.requests() <= before + 1,
            "{outer:?}: {answer}"
        );
    }
    assert_serves(&shop.checkout).await;
}

#[tokio::test]
async fn a_body_in_chunks_arrives_without_their_extensions() {
    let shop = Shop::open().await;
    let chunked = "POST /v1/orders HTTP/1.1\r\n{HOST}{LAST}transfer-encoding: chunked\r\n\r\n\
                   3;name=\"value\"\r\nabc\r\n0\r\n\r\n";
    let answer = answer_to(&shop, chunked).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\"body_bytes\":3"), "{answer}");
}

#[tokio::test]
async fn a_head_of_a_megabyte_is_refused() {
    let shop = Shop::open().await;
    for head in [
        format!(
            "GET /v1/orders HTTP/1.1\r\n{{HOST}}x-large: {}\r\n\r\n",
            "a".repeat(1 << 20)
        ),
        format!(
            "GET /v1/orders HTTP/1.1\r\n{{HOST}}{}\r\n",
            "x-many: a\r\n".repeat(100_000)
        ),
        format!("GET /v1/{} HTTP/1.1\r\n{{HOST}}\r\n", "a".repeat(1 << 20)),
    ] {
        let answer = answer_to(&shop, &head).await;
        // The refusal may be lost when the rest of the head meets a closed connection.
        let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(refused, "{answer}");
    }
    assert_eq!(shop.application.requests(), 0);
    assert_serves(&shop.checkout).await;
}

#[tokio::test]
async fn garbage_after_the_http2_preface_ends_the_connection() {
    let shop = Shop::open().await;
    let garbage = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(),
        &[0xff; 4096],
    ]
    .concat();
    say(shop.checkout.outbound(), &garbage).await;
    assert_serves(&shop.checkout).await;
}

#[tokio::test]
async fn garbage_at_a_tls_listener_ends_the_connection() {
    let shop = Shop::open().await;
    for listener in [shop.orders.mesh_listener(), shop.mesh.ca.agents_address()] {
        for garbage in [
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".as_slice(),
            // A handshake record that holds no ClientHello.
            &[0x16, 0x03, 0x01, 0x00, 0x04, 0xff, 0xff, 0xff, 0xff],
            &[0xff; 64 * 1024],
        ] {
            say(listener, garbage).await;
        }
    }
    assert_serves(&shop.checkout).await;
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let shop = Shop::open().await;
    let impatient = impatient(&shop).await;
    let mut slow = connect(impatient.outbound()).await;
    slow.write_all(b"GET /v1/orders HTTP/1.1\r\nx-a: b\r\n")
        .await
        .expect("open");
    assert_cut(&mut slow).await;
    assert_serves(&impatient).await;
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_cut_off() {
    let shop = Shop::open().await;
    let served = shop.mesh.workload("shop/orders").on("impatient");
    let application = shop.application.address();
    let served = served
        .serving("http", application)
        .limited(short())
        .start()
        .await;
    let mut slow = connect(served.mesh_listener()).await;
    // The head of a handshake record whose rest does not come.
    slow.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00])
        .await
        .expect("open");
    assert_cut(&mut slow).await;
}

#[tokio::test]
async fn silent_connections_do_not_lock_callers_out() {
    let shop = Shop::open().await;
    let impatient = impatient(&shop).await;
    let mut silent = Vec::new();
    for _ in 0..3 * short().connections {
        silent.push(connect(impatient.outbound()).await);
    }
    assert_serves(&impatient).await;
}

/// Another checkout, whose proxy waits for nobody.
async fn impatient(shop: &Shop) -> Workload {
    let checkout = shop.mesh.workload("shop/checkout").on("impatient");
    checkout.limited(short()).start().await
}

fn short() -> Limits {
    Limits {
        handshake: Duration::from_millis(200).into(),
        header_read: Duration::from_millis(200).into(),
        connections: 8,
        ..Limits::default()
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("somebody listens")
}

/// The end comes, with a refusal before it or without.
async fn assert_cut(socket: &mut TcpStream) {
    let mut said = Vec::new();
    let end = timeout(DEADLINE, socket.read_to_end(&mut said)).await;
    drop(end.expect("the connection ends"));
    let said = String::from_utf8_lossy(&said);
    assert!(!said.starts_with("HTTP/1.1 200"), "{said}");
}

async fn assert_serves(workload: &Workload) {
    let served = || async {
        let socket = TcpStream::connect(workload.outbound()).await.ok()?;
        drop(socket);
        let call = async {
            Caller::connect(workload.outbound())
                .await
                .get(&format!("{ORDERS}/v1/orders"))
                .await
        };
        let answer = timeout(DEADLINE, call).await.ok()?;
        (answer.status == StatusCode::OK).then_some(())
    };
    eventually("a good call is answered", served).await;
}

async fn answer_to(shop: &Shop, text: &str) -> String {
    let text = text.replace("{HOST}", HOST).replace("{LAST}", LAST);
    let answer = say(shop.checkout.outbound(), text.as_bytes()).await;
    String::from_utf8_lossy(&answer).into_owned()
}
