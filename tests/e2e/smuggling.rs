//! Messages that two readers could delimit in two ways: refused at the outbound port and at a
//! mesh listener that speaks HTTP/1.1, and from the application. Nothing hidden arrives.

use std::net::SocketAddr;

use mesh_tests::application::Application;
use mesh_tests::caller::Caller;
use mesh_tests::holder::{Bridge, Holder};
use mesh_tests::raw::say;
use mesh_tests::shop::{ORDERS, Shop};

const HOST: &str = "host: orders.shop.mesh.internal\r\n";
/// What an attacker wants the next hop to see.
const HIDDEN: &str = "GET /v1/hidden HTTP/1.1\r\nhost: orders.shop.mesh.internal\r\n\r\n";

#[tokio::test]
async fn content_length_beside_transfer_encoding_is_refused() {
    refused(&[
        "POST /v1/a HTTP/1.1\r\n{HOST}content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/a HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n1\r\nz\r\n0\r\n\r\n",
        "POST /v1/a HTTP/1.1\r\n{HOST}content-length: 0\r\ntransfer-encoding: identity\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_content_length_that_two_readers_could_read_is_refused() {
    let lengths = [
        "+0",
        "-0",
        "0, 0",
        "0,0",
        "0 0",
        "0x0",
        "00000000000000000000000000000000a",
        " ",
        "0;",
    ];
    let requests = lengths
        .map(|length| format!("POST /v1/a HTTP/1.1\r\n{{HOST}}content-length: {length}\r\n\r\n"));
    refused(&requests.each_ref().map(String::as_str)).await;
}

#[tokio::test]
async fn a_repeated_content_length_is_refused() {
    refused(&[
        "POST /v1/a HTTP/1.1\r\n{HOST}content-length: 0\r\ncontent-length: 0\r\n\r\n",
        "POST /v1/a HTTP/1.1\r\n{HOST}content-length: 0\r\nContent-Length: 67\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_transfer_encoding_that_two_readers_could_read_is_refused() {
    let codings = [
        "identity",
        "chunked, identity",
        "gzip, chunked",
        "xchunked",
        "\"chunked\"",
        "chunked;a=b",
        "\u{b}chunked",
        "chunked\u{b}",
        "chu\tnked",
        "",
    ];
    let requests = codings.map(|coding| {
        format!("POST /v1/a HTTP/1.1\r\n{{HOST}}transfer-encoding: {coding}\r\n\r\n0\r\n\r\n")
    });
    refused(&requests.each_ref().map(String::as_str)).await;
    refused(&[
        "POST /v1/a HTTP/1.1\r\n{HOST}transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/a HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        "POST /v1/a HTTP/1.0\r\n{HOST}transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_bare_line_feed_is_refused() {
    refused(&[
        "POST /v1/a HTTP/1.1\n{HOST}content-length: 0\r\n\r\n",
        "POST /v1/a HTTP/1.1\r\n{HOST}content-length: 0\n\r\n",
        "POST /v1/a HTTP/1.1\r\n{HOST}content-length: 0\r\n\n",
        "POST /v1/a HTTP/1.1\r\n{HOST}x: a\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_bare_carriage_return_is_refused() {
    refused(&[
        "POST /v1/a HTTP/1.1\r\n{HOST}x: a\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/a HTTP/1.1\r{HOST}content-length: 0\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_folded_or_leading_line_is_refused() {
    refused(&[
        "POST /v1/a HTTP/1.1\r\n{HOST}transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/a HTTP/1.1\r\n{HOST}x: a\r\n\tb\r\n\r\n",
        "POST /v1/a HTTP/1.1\r\n content-length: 0\r\n{HOST}\r\n",
    ])
    .await;
}

#[tokio::test]
async fn a_host_that_two_readers_could_read_is_refused() {
    refused(&[
        "GET /v1/a HTTP/1.1\r\n{HOST}{HOST}\r\n",
        "GET /v1/a HTTP/1.1\r\n{HOST}host: other\r\n\r\n",
        "GET /v1/a HTTP/1.1\r\nhost: orders.shop.mesh.internal, other\r\n\r\n",
        "GET /v1/a HTTP/1.1\r\nhost: other@orders.shop.mesh.internal\r\n\r\n",
        "GET /v1/a HTTP/1.1\r\n\r\n",
    ])
    .await;
}

#[tokio::test]
async fn chunks_that_two_readers_could_delimit_carry_nothing_hidden() {
    let doors = Doors::before(Application::http().await).await;
    for chunks in [
        "0\n\r\n",
        "0\r\n\n",
        "3\nabc\n0\n\n",
        "+0\r\n\r\n",
        "0x0\r\n\r\n",
        "-1\r\n\r\n",
        "0;a\nb\r\n\r\n",
        "0;\n\r\n\r\n",
        "0\r\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "10000000000000000\r\n\r\n",
        "0 0\r\n\r\n",
        "0\r\nx : y\r\n\r\n",
        "0\r\ncontent-length: 5\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
    ] {
        let head = "POST /v1/a HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\n\r\n";
        doors.assert_hides_nothing(&format!("{head}{chunks}")).await;
    }
}

#[tokio::test]
async fn chunk_extensions_are_bounded_and_do_not_arrive() {
    let doors = Doors::before(Application::http().await).await;
    let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(100_000));
    let head = "POST /v1/a HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\n\r\n";
    doors.assert_hides_nothing(&format!("{head}{long}")).await;
    let head =
        "POST /v1/a HTTP/1.1\r\n{HOST}connection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    for door in doors.addresses() {
        let good = format!("{head}3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n").replace("{HOST}", HOST);
        let answer = String::from_utf8_lossy(&say(door, good.as_bytes()).await).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("\"body_bytes\":3"), "{answer}");
    }
}

#[tokio::test]
async fn a_response_that_two_readers_could_delimit_does_not_reach_the_caller() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nabcde",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 5\n\nabcde",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 5\r\n\r\nabcde",
        "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nabcde",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    ] {
        let shop = Shop::open_before(Application::saying(answer).await).await;
        let got = shop
            .checkout
            .caller()
            .await
            .get(&format!("{ORDERS}/v1/a"))
            .await;
        assert_eq!(got.status.as_u16(), 502, "{answer:?}: {got:?}");
        assert!(!got.body.windows(3).any(|part| part == b"abc"), "{got:?}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_is_given_to_nobody() {
    let twice = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst\
                 HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond";
    let shop = Shop::open_before(Application::saying(twice).await).await;
    let mut caller: Caller = shop.checkout.caller().await;
    for _ in 0..2 {
        let got = caller.get(&format!("{ORDERS}/v1/a")).await;
        assert_eq!(&got.body[..], b"first");
    }
}

/// None of these arrives, nor what is hidden behind it, through either door.
async fn refused(requests: &[&str]) {
    let doors = Doors::before(Application::http().await).await;
    for request in requests {
        let text = format!("{request}{HIDDEN}").replace("{HOST}", HOST);
        for door in doors.addresses() {
            let answer = String::from_utf8_lossy(&say(door, text.as_bytes()).await).into_owned();
            assert!(answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer}");
            assert_eq!(
                answer.matches("HTTP/1.1 ").count(),
                1,
                "{request:?}: {answer}"
            );
        }
    }
    assert_eq!(doors.shop.application.requests(), 0);
}

/// Both ways into a proxy by HTTP/1.1, without TLS.
struct Doors {
    mesh: Bridge,
    shop: Shop,
}

impl Doors {
    async fn before(application: Application) -> Self {
        let shop = Shop::open_before(application).await;
        let holder = Holder::of(&shop.mesh, "checkout").await;
        let mesh = holder
            .bridge(shop.orders.mesh_listener(), b"http/1.1")
            .await;
        Self { mesh, shop }
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.shop.checkout.outbound(), self.mesh.address()]
    }

    /// The head is good, so that the request may have begun to arrive; what follows it does not.
    async fn assert_hides_nothing(&self, request: &str) {
        for door in self.addresses() {
            let text = format!("{request}{HIDDEN}").replace("{HOST}", HOST);
            let before = self.shop.application.requests();
            let answer = String::from_utf8_lossy(&say(door, text.as_bytes()).await).into_owned();
            assert!(!answer.contains("HTTP/1.1 200"), "{request:?}: {answer}");
            let arrived = self.shop.application.requests() - before;
            assert!(arrived <= 1, "{request:?}: {answer}");
        }
    }
}
