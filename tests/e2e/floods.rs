//! HTTP/2 that is meant to exhaust: refused, or no longer listened to, at the outbound port and
//! at a mesh listener. Other connections are served all the while.

use std::net::SocketAddr;

use http::StatusCode;
use mesh_tests::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS, block, flood,
    flood_unread, frame, opening,
};
use mesh_tests::holder::{Bridge, Holder};
use mesh_tests::shop::{ORDERS, Shop};
use mesh_tests::waiting::{DEADLINE, eventually};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// More than any flood may be taken of; also more than loopback sockets buffer.
const MOST: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn a_continuation_flood_is_cut_off() {
    let doors = Doors::open().await;
    for door in doors.addresses() {
        let mut start = opening(&[]);
        start.extend(frame(HEADERS, END_STREAM, 1, &block("GET", "/v1/orders")));
        let piece = frame(CONTINUATION, 0, 1, &literal("x-flood", 1024));
        let outcome = flood(door, &start, || piece.clone(), MOST).await;
        assert!(outcome.is_cut_off(MOST), "{outcome:?}");
    }
    doors.assert_serve(0).await;
}

#[tokio::test]
async fn a_rapid_reset_is_cut_off() {
    let doors = Doors::open().await;
    for door in doors.addresses() {
        let mut stream = 1;
        let next = || {
            let mut bytes = frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                &block("GET", "/v1/orders"),
            );
            bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
            stream += 2;
            bytes
        };
        let outcome = flood(door, &opening(&[]), next, MOST).await;
        assert!(outcome.is_cut_off(MOST), "{outcome:?}");
    }
    doors.assert_serve_all().await;
}

#[tokio::test]
async fn an_empty_data_flood_is_cut_off() {
    let doors = Doors::open().await;
    for door in doors.addresses() {
        let mut start = opening(&[]);
        let head = block("POST", "/v1/echo");
        start.extend(frame(HEADERS, END_HEADERS, 1, &head));
        let empty = frame(DATA, 0, 1, &[]);
        let outcome = flood(door, &start, || empty.clone(), MOST).await;
        assert!(outcome.is_cut_off(MOST), "{outcome:?}");
    }
    doors.assert_serve_all().await;
}

#[tokio::test]
async fn a_ping_flood_that_reads_no_answer_is_not_listened_to() {
    let doors = Doors::open().await;
    let ping = frame(PING, 0, 0, &[7; 8]);
    for door in doors.addresses() {
        let taken = flood_unread(door, &opening(&[]), || ping.clone(), MOST).await;
        assert!(taken < MOST, "{taken} bytes");
    }
    doors.assert_serve(0).await;
}

#[tokio::test]
async fn a_settings_flood_that_reads_no_answer_is_not_listened_to() {
    let doors = Doors::open().await;
    let settings = frame(SETTINGS, 0, 0, &[]);
    for door in doors.addresses() {
        let taken = flood_unread(door, &opening(&[]), || settings.clone(), MOST).await;
        assert!(taken < MOST, "{taken} bytes");
    }
    doors.assert_serve(0).await;
}

#[tokio::test]
async fn a_head_that_grows_in_hpack_does_not_arrive() {
    let doors = Doors::open().await;
    for door in doors.addresses() {
        // One entry of the dynamic table, named again by one byte each: 4 MB of fields.
        let mut head = block("GET", "/v1/orders");
        head.extend(b"\x40\x06x-bomb\x7f\x81\x1e");
        head.extend([b'a'; 127 + 1 + (0x1e << 7)]);
        head.extend([0xbe; 1000]);
        let mut start = opening(&[]);
        start.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &head));
        let outcome = flood(door, &start, Vec::new, start.len()).await;
        assert!(outcome.ended, "{outcome:?}");
    }
    doors.assert_serve(0).await;
}

#[tokio::test]
async fn a_caller_with_a_window_of_zero_stops_the_application() {
    let doors = Doors::open().await;
    for door in doors.addresses() {
        const INITIAL_WINDOW_SIZE: u16 = 4;
        let mut bytes = opening(&[(INITIAL_WINDOW_SIZE, 0)]);
        for stream in (1..200).step_by(2) {
            let head = block("GET", "/v1/flood");
            bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &head));
        }
        let before = doors.shop.application.flooded();
        let mut socket = TcpStream::connect(door).await.expect("somebody listens");
        socket.write_all(&bytes).await.expect("open");
        let let_go = settled(|| doors.shop.application.flooded()).await - before;
        // 100 streams; each may fill its windows and the sockets to the application.
        assert!(
            let_go < 100 * 8 * 1024 * 1024,
            "{let_go} bytes are on their way"
        );
    }
    doors.assert_serve_all().await;
}

/// Both ways into a proxy by HTTP/2, without TLS.
struct Doors {
    mesh: Bridge,
    shop: Shop,
}

impl Doors {
    async fn open() -> Self {
        let shop = Shop::open().await;
        let holder = Holder::of(&shop.mesh, "checkout").await;
        let mesh = holder.bridge(shop.orders.mesh_listener(), b"h2").await;
        Self { mesh, shop }
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        [self.shop.checkout.outbound(), self.mesh.address()]
    }

    /// So many requests arrived, and the next good one does.
    async fn assert_serve(&self, arrived: usize) {
        assert_eq!(self.shop.application.requests(), arrived);
        self.assert_serve_all().await;
    }

    async fn assert_serve_all(&self) {
        let mut caller = self.shop.checkout.h2_caller().await;
        let url = format!("{ORDERS}/v1/orders");
        let answer = timeout(DEADLINE, caller.get(&url)).await.expect("in time");
        assert_eq!(answer.status, StatusCode::OK);
    }
}

/// A field that is new each time (RFC 7541 section 6.2.2).
fn literal(name: &str, size: u16) -> Vec<u8> {
    let mut bytes = vec![0, u8::try_from(name.len()).expect("a short name")];
    bytes.extend(name.as_bytes());
    let rest = size - 127;
    bytes.extend([127, (rest & 0x7f) as u8 | 0x80, (rest >> 7) as u8]);
    bytes.extend(vec![b'a'; size.into()]);
    bytes
}

/// The number, once it no longer changes.
async fn settled(number: impl Fn() -> usize) -> usize {
    let (mut last, mut same) = (number(), 0);
    eventually("the number settles", || {
        let now = number();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        async move { (same > 50).then_some(now) }
    })
    .await
}
