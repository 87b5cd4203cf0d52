//! Heads of responses.

use http::{Method, StatusCode, Version};

use super::super::{Framing, Malformed};
use super::response;

#[track_caller]
fn refused(rule: Malformed, heads: &[&str]) {
    for head in heads {
        let error = response(&Method::GET, head.as_bytes()).expect_err(head);
        assert_eq!(error, rule, "{head:?}");
    }
}

#[track_caller]
fn framing(method: &Method, head: &str) -> Framing {
    let read = response(method, head.as_bytes()).expect(head).expect(head);
    read.framing
}

#[test]
fn a_response_that_frames_its_body_twice_is_refused() {
    refused(
        Malformed::TwoFramings,
        &["HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n"],
    );
    refused(
        Malformed::ContentLength,
        &[
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\n",
        ],
    );
    refused(
        Malformed::TransferEncoding,
        &["HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"],
    );
    refused(
        Malformed::TransferEncodingInHttp10,
        &["HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"],
    );
}

#[test]
fn a_body_where_none_may_be_is_refused() {
    refused(
        Malformed::FramedWithoutBody,
        &[
            "HTTP/1.1 204 No Content\r\ncontent-length: 1\r\n\r\n",
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 100 Continue\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\ncontent-length: 9\r\n\r\n",
        ],
    );
    let connected = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
    let error = response(&Method::CONNECT, connected).expect_err("a tunnel has no body");
    assert_eq!(error, Malformed::FramedWithoutBody);
}

#[test]
fn a_malformed_status_line_is_refused() {
    refused(
        Malformed::StatusLine,
        &[
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "HTTP/1.1 2000\r\n\r\n",
            "HTTP/1.1 200 O\0K\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
        ],
    );
    refused(
        Malformed::Status,
        &["HTTP/1.1 600 \r\n\r\n", "HTTP/1.1 099 \r\n\r\n"],
    );
}

#[test]
fn a_malformed_field_of_a_response_is_refused() {
    refused(
        Malformed::ObsFold,
        &["HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n"],
    );
    refused(Malformed::BareLf, &["HTTP/1.1 200 OK\nx: a\r\n\r\n"]);
    refused(
        Malformed::SpaceBeforeColon,
        &["HTTP/1.1 200 OK\r\nx : a\r\n\r\n"],
    );
    refused(Malformed::BareCr, &["HTTP/1.1 200 O\rK\r\nx: a\r\n\r\n"]);
}

#[test]
fn a_body_ends_where_rfc_9112_says() {
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n";
    let open = "HTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(framing(&Method::GET, long), Framing::Length(5));
    assert_eq!(framing(&Method::HEAD, long), Framing::Empty);
    assert_eq!(framing(&Method::GET, chunked), Framing::Chunked);
    assert_eq!(framing(&Method::HEAD, chunked), Framing::Empty);
    assert_eq!(framing(&Method::GET, open), Framing::UntilClose);
    assert_eq!(framing(&Method::CONNECT, open), Framing::Tunnel);
    for (head, expected) in [
        (
            "HTTP/1.1 101 \r\nupgrade: websocket\r\n\r\n",
            Framing::Tunnel,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
            Framing::Empty,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", Framing::Empty),
        (
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            Framing::Empty,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
            Framing::Empty,
        ),
    ] {
        assert_eq!(framing(&Method::GET, head), expected, "{head:?}");
    }
}

#[test]
fn a_connection_takes_another_request_if_the_response_lets_it() {
    let persists = |head: &str| {
        let read = response(&Method::GET, head.as_bytes())
            .expect(head)
            .expect(head);
        read.persists
    };
    assert!(!persists("HTTP/1.1 200 OK\r\n\r\n"));
    assert!(!persists(
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    ));
    assert!(!persists("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"));
    assert!(!persists("HTTP/1.1 101 \r\n\r\n"));
    assert!(persists(
        "HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
    ));
    assert!(persists("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
}

#[test]
fn a_reason_phrase_may_be_empty_or_left_out() {
    for head in [
        "HTTP/1.1 404 \r\n\r\n",
        "HTTP/1.1 404\r\n\r\n",
        "HTTP/1.1 404 \u{e9}\r\n\r\n",
    ] {
        let read = response(&Method::GET, head.as_bytes())
            .expect(head)
            .expect(head);
        assert_eq!(read.status, StatusCode::NOT_FOUND);
        assert_eq!(read.version, Version::HTTP_11);
    }
}
