//! Heads of requests: what `h2`'s server refuses, ours refuses.

use std::io::ErrorKind;

use http2::Reason;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::peer::*;

type Fields<'a> = Vec<(&'a str, &'a str)>;

/// Each with whether `h2` takes it.
fn malformed() -> Vec<(Fields<'static>, bool)> {
    let without = |name: &str| {
        let rest = GET.into_iter().filter(|(other, _)| *other != name);
        rest.collect::<Fields<'static>>()
    };
    let instead = |name: &str, value: &'static str| {
        let fields = GET.into_iter();
        let fields = fields.map(|(other, old)| (other, if other == name { value } else { old }));
        fields.collect::<Fields<'static>>()
    };
    vec![
        (without(":method"), false),
        (without(":scheme"), false),
        (without(":path"), false),
        (instead(":path", ""), false),
        (instead(":path", "a path"), false),
        (instead(":path", "nowhere"), false),
        (instead(":authority", "a b"), false),
        (instead(":scheme", "ht tp"), false),
        (instead(":method", "GE T"), false),
        (instead(":method", "CONNECT"), false),
        (with(&GET, &[(":path", "/")]), false),
        (with(&GET, &[(":status", "200")]), false),
        (with(&GET, &[(":protocol", "websocket")]), false),
        (with(&GET, &[(":other", "x")]), false),
        (with(&[("a", "b")], &GET), false),
        (with(&GET, &[("A", "b")]), false),
        (with(&GET, &[("", "b")]), false),
        (with(&GET, &[("a b", "b")]), false),
        (with(&GET, &[("a", "b\r\nc: d")]), false),
        (with(&GET, &[("a", "b\0")]), false),
        (with(&GET, &[("a", " b")]), true),
        (with(&GET, &[("connection", "close")]), false),
        (with(&GET, &[("keep-alive", "1")]), false),
        (with(&GET, &[("proxy-connection", "close")]), false),
        (with(&GET, &[("transfer-encoding", "chunked")]), false),
        (with(&GET, &[("upgrade", "x")]), false),
        (with(&GET, &[("te", "gzip")]), false),
        (with(&GET, &[("content-length", "1")]), false),
        (with(&GET, &[("content-length", "x")]), false),
        (
            with(&GET, &[("content-length", "0"), ("content-length", "1")]),
            false,
        ),
    ]
}

fn well_formed() -> Vec<Fields<'static>> {
    vec![
        GET.to_vec(),
        [&GET[..2], &GET[3..]].concat(),
        vec![(":method", "CONNECT"), (":authority", "a.example:443")],
        vec![(":method", "OPTIONS"), (":scheme", "https"), (":path", "*")],
        with(&GET, &[("te", "trailers"), ("content-length", "0")]),
        with(&GET, &[("cookie", "a=b"), ("cookie", "c=d"), ("empty", "")]),
    ]
}

/// What resets the request, if our server does not take it up.
fn by_ours(fields: &[(&str, &str)]) -> Option<Reason> {
    let mut peer = Peer::client();
    peer.say_head(1, END_STREAM, fields).unwrap();
    match peer.connection.accept() {
        Some(_) => None,
        None => Some(peer.heard_reset().1),
    }
}

/// Whether `h2`'s server takes it up.
async fn by_h2(fields: &[(&str, &str)]) -> bool {
    let (mut peer, io) = duplex(65_536);
    let mut said = PREFACE.to_vec();
    said.extend(frame(SETTINGS, 0, 0, &[]));
    said.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields)));
    peer.write_all(&said).await.unwrap();
    let mut server = h2::server::handshake(io).await.unwrap();
    tokio::select! {
        accepted = server.accept() => matches!(accepted, Some(Ok(_))),
        () = until_reset(&mut peer) => false,
    }
}

/// Until a frame resets a stream, or the connection is left.
async fn until_reset(peer: &mut DuplexStream) {
    loop {
        let mut head = [0; 9];
        match peer.read_exact(&mut head).await {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return,
            read => drop(read.unwrap()),
        }
        let [a, b, c, kind, ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        peer.read_exact(&mut vec![0; length]).await.unwrap();
        if kind == RST_STREAM || kind == GOAWAY {
            return;
        }
    }
}

#[tokio::test]
async fn what_h2_refuses_ours_refuses() {
    for (fields, is_taken_by_h2) in malformed() {
        assert_eq!(by_ours(&fields), Some(Reason::PROTOCOL_ERROR), "{fields:?}");
        assert_eq!(by_h2(&fields).await, is_taken_by_h2, "{fields:?}");
    }
}

#[tokio::test]
async fn well_formed_heads_are_taken_by_both() {
    for fields in well_formed() {
        assert_eq!(by_ours(&fields), None, "{fields:?}");
        assert!(by_h2(&fields).await, "{fields:?}");
    }
}

#[test]
fn a_malformed_head_leaves_the_tables_whole() {
    let mut peer = Peer::client();
    // Kept in the table (0x40), in a head that is malformed.
    let mut kept = block(&GET);
    kept.extend(b"\x40\x01a\x01b\x40\x01A\x01b");
    peer.say(HEADERS, END_HEADERS | END_STREAM, 1, &kept)
        .unwrap();
    assert_eq!(peer.heard_reset(), (1, Reason::PROTOCOL_ERROR));
    let mut uses = block(&GET);
    // The older of the two.
    uses.push(0x80 | 63);
    peer.say(HEADERS, END_HEADERS | END_STREAM, 3, &uses)
        .unwrap();
    assert_eq!(peer.connection.accept().unwrap().head.headers["a"], "b");
}
