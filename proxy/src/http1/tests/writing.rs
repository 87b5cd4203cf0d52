//! What is written.

use std::io::IoSlice;

use bytes::{Buf, Bytes};
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::Authority;
use http::{Method, StatusCode, Version};

use super::super::{
    BodyWriter, Connection, Framing, RequestLine, Unsendable, WriteQueue, write_informational,
    write_request_head, write_response_head,
};
use super::drain;

fn fields(all: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (
            header::HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    all.iter().map(field).collect()
}

fn get(target: &str) -> RequestLine<'_> {
    RequestLine {
        method: &Method::GET,
        target,
        query: None,
        authority: None,
    }
}

fn written(
    method: &Method,
    status: StatusCode,
    framing: Framing,
    connection: &Connection,
) -> Result<String, Unsendable> {
    let mut queue = WriteQueue::new();
    let all = fields(&[
        ("content-length", "7"),
        ("transfer-encoding", "gzip"),
        ("x", "a"),
    ]);
    write_response_head(&mut queue, method, status, &all, framing, connection)?;
    Ok(String::from_utf8(drain(&mut queue).to_vec()).expect("ASCII"))
}

#[test]
fn a_target_that_would_end_early_is_not_written() {
    let mut queue = WriteQueue::new();
    for target in ["", "/a b", "/\r\nx: y", "/\u{e9}", "/a#b", "/\0"] {
        let line = get(target);
        let error = write_request_head(
            &mut queue,
            line,
            &HeaderMap::new(),
            Framing::Empty,
            &Connection::Persists,
        );
        assert_eq!(error, Err(Unsendable::Target), "{target:?}");
    }
    assert!(!queue.has_remaining());
}

#[test]
fn a_request_is_never_framed_by_its_connection() {
    for framing in [Framing::UntilClose, Framing::Tunnel] {
        let error = write_request_head(
            &mut WriteQueue::new(),
            get("/"),
            &HeaderMap::new(),
            framing,
            &Connection::Closes,
        );
        assert_eq!(error, Err(Unsendable::Framing));
    }
}

#[test]
fn a_response_that_would_be_framed_otherwise_is_not_written() {
    let persists = &Connection::Persists;
    for (method, status, framing) in [
        (&Method::GET, StatusCode::OK, Framing::Empty),
        (&Method::GET, StatusCode::OK, Framing::UntilClose),
        (&Method::GET, StatusCode::OK, Framing::Tunnel),
        (&Method::HEAD, StatusCode::OK, Framing::Chunked),
        (&Method::CONNECT, StatusCode::OK, Framing::Length(0)),
        (&Method::GET, StatusCode::NO_CONTENT, Framing::Length(0)),
        (&Method::GET, StatusCode::NOT_MODIFIED, Framing::Chunked),
        (&Method::GET, StatusCode::CONTINUE, Framing::Empty),
        (
            &Method::GET,
            StatusCode::SWITCHING_PROTOCOLS,
            Framing::Empty,
        ),
    ] {
        let error = written(method, status, framing, persists).expect_err("framed otherwise");
        assert_eq!(error, Unsendable::Framing, "{method} {status} {framing:?}");
    }
}

#[test]
fn only_an_informational_response_is_written_before_the_final_one() {
    for status in [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS] {
        let error = write_informational(&mut WriteQueue::new(), status, &HeaderMap::new());
        assert_eq!(error, Err(Unsendable::NotInformational));
    }
}

#[test]
fn a_body_is_as_long_as_its_head_says() {
    let mut queue = WriteQueue::new();
    let mut writer = BodyWriter::new(Framing::Length(3));
    let four = Bytes::from_static(b"abcd");
    assert_eq!(writer.data(four, &mut queue), Err(Unsendable::TooLong));
    assert_eq!(writer.end(None, &mut queue), Err(Unsendable::TooShort));
    let mut none = BodyWriter::new(Framing::Empty);
    let one = Bytes::from_static(b"a");
    assert_eq!(none.data(one, &mut queue), Err(Unsendable::TooLong));
    assert!(!queue.has_remaining());
}

#[test]
fn trailers_that_frame_or_cannot_follow_are_not_written() {
    let mut queue = WriteQueue::new();
    let sum = fields(&[("x-sum", "1")]);
    let length = fields(&[("content-length", "1")]);
    let after_length = BodyWriter::new(Framing::Length(0)).end(Some(&sum), &mut queue);
    assert_eq!(after_length, Err(Unsendable::Trailers));
    let framing = BodyWriter::new(Framing::Chunked).end(Some(&length), &mut queue);
    assert_eq!(framing, Err(Unsendable::Trailers));
    assert!(!queue.has_remaining());
}

#[test]
fn the_framing_comes_from_its_type_and_not_from_fields() {
    let closes = &Connection::Closes;
    let text = written(&Method::GET, StatusCode::OK, Framing::Length(12), closes).expect("fits");
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nx: a\r\nconnection: close\r\ncontent-length: 12\r\n\r\n"
    );
    let text = written(&Method::GET, StatusCode::OK, Framing::UntilClose, closes).expect("fits");
    assert_eq!(text, "HTTP/1.1 200 OK\r\nx: a\r\nconnection: close\r\n\r\n");
}

#[test]
fn the_length_that_head_asks_for_stays() {
    let persists = &Connection::Persists;
    let head = written(&Method::HEAD, StatusCode::OK, Framing::Empty, persists).expect("fits");
    assert_eq!(head, "HTTP/1.1 200 OK\r\nx: a\r\ncontent-length: 7\r\n\r\n");
    let none = written(
        &Method::GET,
        StatusCode::NO_CONTENT,
        Framing::Empty,
        persists,
    );
    assert_eq!(
        none.expect("fits"),
        "HTTP/1.1 204 No Content\r\nx: a\r\n\r\n"
    );
}

#[test]
fn a_request_is_written_with_its_host_first() {
    let authority = Authority::from_static("orders:80");
    let line = RequestLine {
        method: &Method::POST,
        target: "/a",
        query: Some("b"),
        authority: Some(&authority),
    };
    let all = fields(&[
        ("host", "other"),
        ("te", "trailers"),
        ("connection", "x"),
        ("y", "z"),
    ]);
    let mut queue = WriteQueue::new();
    write_request_head(
        &mut queue,
        line,
        &all,
        Framing::Chunked,
        &Connection::Closes,
    )
    .expect("sendable");
    assert_eq!(
        &drain(&mut queue)[..],
        b"POST /a?b HTTP/1.1\r\nhost: orders:80\r\nte: trailers\r\ny: z\r\n\
          connection: close, te\r\ntransfer-encoding: chunked\r\n\r\n"
    );
}

#[test]
fn an_upgrade_is_written_with_its_nomination() {
    let upgrades = Connection::Upgrades(HeaderValue::from_static("websocket"));
    let status = StatusCode::SWITCHING_PROTOCOLS;
    let text = written(&Method::GET, status, Framing::Tunnel, &upgrades).expect("fits");
    let expected = "connection: upgrade\r\nupgrade: websocket\r\n\r\n";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn an_empty_piece_does_not_end_a_chunked_body() {
    let mut queue = WriteQueue::new();
    let mut writer = BodyWriter::new(Framing::Chunked);
    for piece in ["", "abcdefghijklmnop", ""] {
        writer
            .data(Bytes::from_static(piece.as_bytes()), &mut queue)
            .expect("chunks");
    }
    writer
        .end(Some(&fields(&[("x-sum", "1")])), &mut queue)
        .expect("trailers");
    assert_eq!(
        &drain(&mut queue)[..],
        b"10\r\nabcdefghijklmnop\r\n0\r\nx-sum: 1\r\n\r\n"
    );
}

#[test]
fn large_content_is_not_copied_and_small_is_gathered() {
    let large = Bytes::from(vec![b'a'; 8192]);
    let mut queue = WriteQueue::new();
    for piece in [
        Bytes::from_static(b"ab"),
        Bytes::from_static(b"cd"),
        large.clone(),
    ] {
        queue.push(piece);
    }
    queue.push(Bytes::from_static(b"ef"));
    let mut slices = [IoSlice::new(&[]); 8];
    assert_eq!(queue.chunks_vectored(&mut slices), 3);
    assert_eq!(&slices[0][..], b"abcd");
    assert_eq!(slices[1].as_ptr(), large.as_ptr());
    assert_eq!(&slices[2][..], b"ef");
}

#[test]
fn a_response_is_framed_by_what_its_client_understands() {
    let framing =
        |client, length| Framing::for_response(&Method::GET, StatusCode::OK, client, length);
    assert_eq!(framing(Version::HTTP_10, None), Framing::UntilClose);
    assert_eq!(framing(Version::HTTP_11, None), Framing::Chunked);
    assert_eq!(framing(Version::HTTP_10, Some(3)), Framing::Length(3));
}
