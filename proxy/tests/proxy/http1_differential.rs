//! Our codec beside hyper: where hyper refuses, ours refuses; where both accept, they agree on
//! start line, fields, content, trailers, and on where the next message begins.

use http::Method;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::{http1_by_codec, http1_by_hyper};

/// Pieces of messages, right and wrong, that the generator puts together.
const REQUEST_LINES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a?b=c HTTP/1.1\r\n",
    "PUT http://a/b HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "GET / HTTP/1.0\r\n",
    "CONNECT a:80 HTTP/1.1\r\n",
    "GET /a#b HTTP/1.1\r\n",
    "get / HTTP/1.1\r\n",
    "\r\nGET / HTTP/1.1\r\n",
];
const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 404\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n",
    "HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\nHTTP/1.1 201 Created\r\n",
    "HTTP/1.1 599 \r\n",
    "HTTP/1.1 600 \r\n",
];
const FIELDS: &[&str] = &[
    "host: a\r\n",
    "host: a\r\n",
    "Host: b\r\n",
    "content-length: 3\r\n",
    "content-length: 5\r\n",
    "Content-Length: 0\r\n",
    "content-length: +3\r\n",
    "content-length: 3, 3\r\n",
    "content-length: \r\n",
    "transfer-encoding: chunked\r\n",
    "Transfer-Encoding: CHUNKED\r\n",
    "transfer-encoding: gzip, chunked\r\n",
    "transfer-encoding: identity\r\n",
    "transfer-encoding : chunked\r\n",
    "transfer-encoding:\r\n chunked\r\n",
    "connection: close\r\n",
    "connection: keep-alive\r\n",
    "expect: 100-continue\r\n",
    "upgrade: websocket\r\n",
    "x-a:  b \t\r\n",
    "x-a: c\r\n",
    "x-bytes: \u{e9}\r\n",
    "x:\r\n",
];
const BODIES: &[&str] = &[
    "",
    "abc",
    "abcde",
    "3\r\nabc\r\n0\r\n\r\n",
    "3;x=y\r\nabc\r\n0\r\n\r\n",
    "3 \r\nabc\r\n0\r\n\r\n",
    "3\nabc\n0\n\n",
    "03\r\nabc\r\nA\r\n0123456789\r\n0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n",
    "0\r\ncontent-length: 3\r\n\r\n",
    "0\r\nx : y\r\n\r\n",
    "3\r\nabcd\r\n0\r\n\r\n",
    "0\r\n",
];
const NOISE: &[u8] = b"\r\n\0 \t:;,0123456789aAfFxX+-/*#\x0b\x7f\x80\xff";

fn message(lines: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let wellformed = prop_oneof![
        3 => Just("host: a\r\ncontent-length: 3\r\n\r\nabc".to_owned()),
        3 => Just("host: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned()),
        3 => Just("host: a\r\n\r\n".to_owned()),
        9 => (vec(select(FIELDS), 0..5), select(BODIES), any::<bool>()).prop_map(
            |(fields, body, host)| {
                let host = if host { "host: a\r\n" } else { "" };
                format!("{host}{}\r\n{body}", fields.concat())
            }
        ),
    ];
    let noise = vec((any::<Index>(), select(NOISE), 0..3u8), 0..2);
    (select(lines), wellformed, noise).prop_map(|(line, rest, noise)| {
        let mut bytes = format!("{line}{rest}").into_bytes();
        for (at, byte, way) in noise {
            let at = at.index(bytes.len());
            match way {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future)
}

proptest! {
    #[test]
    fn no_request_is_read_otherwise_than_hyper_reads_it(
        messages in vec(message(REQUEST_LINES), 1..4),
    ) {
        let bytes = messages.concat();
        let ours = http1_by_codec::requests(std::iter::once(&bytes[..]));
        let mut theirs = block_on(http1_by_hyper::requests(&bytes));
        prop_assert!(ours.messages.len() <= theirs.len(), "{ours:?}\n{theirs:?}");
        theirs.truncate(ours.messages.len());
        prop_assert_eq!(ours.messages, theirs);
    }

    #[test]
    fn no_response_is_read_otherwise_than_hyper_reads_it(
        bytes in message(STATUS_LINES),
        method in select(vec![Method::GET, Method::HEAD]),
    ) {
        if let Ok((ours, _)) = http1_by_codec::response(&method, &bytes) {
            let theirs = block_on(http1_by_hyper::response(method, &bytes));
            prop_assert_eq!(Some(ours), theirs);
        }
    }
}

/// So that the properties above speak of something.
#[test]
fn both_read_what_is_well_formed() {
    let bytes = b"POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\nx: y\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let ours = http1_by_codec::requests(bytes.chunks(1));
    assert_eq!(ours.error, None);
    assert_eq!(ours.messages, block_on(http1_by_hyper::requests(bytes)));
    assert_eq!(ours.messages.len(), 2);
    let bytes = b"HTTP/1.1 200 OK\r\nx: y\r\n\r\nuntil close";
    let (ours, _) = http1_by_codec::response(&Method::GET, bytes).expect("well formed");
    assert_eq!(
        block_on(http1_by_hyper::response(Method::GET, bytes)),
        Some(ours)
    );
}
