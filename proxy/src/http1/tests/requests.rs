//! Heads of requests.

use bytes::BytesMut;
use http::{Method, StatusCode, Version};

use super::super::{Framing, HeadReader, Limits, Malformed};
use super::request;

const HOST: &str = "host: orders\r\n";

#[track_caller]
fn refused(rule: Malformed, heads: &[&str]) {
    for head in heads {
        let head = head.replace("{HOST}", HOST);
        let error = request(head.as_bytes()).expect_err(&head);
        assert_eq!(error, rule, "{head:?}");
    }
}

#[test]
fn a_bare_lf_is_refused() {
    refused(
        Malformed::BareLf,
        &[
            "GET / HTTP/1.1\n{HOST}\r\n",
            "GET / HTTP/1.1\r\nhost: orders\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}\n",
            "GET / HTTP/1.1\r\n{HOST}x: a\nsmuggled: b\r\n\r\n",
            "\nGET / HTTP/1.1\r\n{HOST}\r\n",
        ],
    );
}

#[test]
fn a_bare_lf_is_refused_before_the_head_ends() {
    let error = request(b"GET / HTTP/1.1\n").expect_err("nothing can follow");
    assert_eq!(error, Malformed::BareLf);
}

#[test]
fn a_bare_cr_is_refused() {
    refused(
        Malformed::BareCr,
        &[
            "GET / HTTP/1.1\r\n{HOST}x: a\rb\r\n\r\n",
            "GET /\r HTTP/1.1\r\n{HOST}\r\n",
            "GET / HTTP/1.1\r\n{HOST}x: a\r\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}x\r: a\r\n\r\n",
        ],
    );
}

#[test]
fn a_second_empty_line_before_a_request_is_refused() {
    refused(
        Malformed::EmptyLines,
        &["\r\n\r\nGET / HTTP/1.1\r\n{HOST}\r\n"],
    );
}

#[test]
fn one_empty_line_before_each_request_is_skipped() {
    let mut reader = HeadReader::new(Limits::default());
    let mut buffer = BytesMut::from(&b"\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n"[..]);
    buffer.extend_from_slice(b"\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut next = || {
        reader
            .request(&mut buffer)
            .expect("well formed")
            .expect("all of it")
    };
    assert_eq!(next().target.path(), "/a");
    assert_eq!(next().target.path(), "/b");
}

#[test]
fn white_space_before_the_first_field_is_refused() {
    refused(
        Malformed::LeadingWhitespace,
        &[
            "GET / HTTP/1.1\r\n {HOST}\r\n",
            "GET / HTTP/1.1\r\n\t{HOST}\r\n",
        ],
    );
}

#[test]
fn a_folded_line_is_refused() {
    refused(
        Malformed::ObsFold,
        &[
            "GET / HTTP/1.1\r\n{HOST}x: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}x: a\r\n\tb\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}transfer-encoding:\r\n chunked\r\n\r\n",
        ],
    );
}

#[test]
fn a_space_before_the_colon_is_refused() {
    refused(
        Malformed::SpaceBeforeColon,
        &[
            "GET / HTTP/1.1\r\n{HOST}content-length : 3\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}content-length\t: 3\r\n\r\n",
        ],
    );
}

#[test]
fn a_field_name_that_is_no_token_is_refused() {
    refused(
        Malformed::FieldName,
        &[
            "GET / HTTP/1.1\r\n{HOST}: a\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}x y: a\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}x\0: a\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}no colon\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}caf\u{e9}: a\r\n\r\n",
        ],
    );
}

#[test]
fn a_control_character_in_a_value_is_refused() {
    refused(
        Malformed::FieldValue,
        &[
            "GET / HTTP/1.1\r\n{HOST}x: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}x: \u{1}\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}x: a\u{7f}\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}transfer-encoding:\u{b}chunked\r\n\r\n",
            "GET / HTTP/1.1\r\n{HOST}transfer-encoding:\u{c}chunked\r\n\r\n",
        ],
    );
}

#[test]
fn a_request_line_of_other_than_three_words_is_refused() {
    refused(
        Malformed::RequestLine,
        &[
            "GET /\r\n{HOST}\r\n",
            "GET  / HTTP/1.1\r\n{HOST}\r\n",
            "GET /  HTTP/1.1\r\n{HOST}\r\n",
            "GET /or ders HTTP/1.1\r\n{HOST}\r\n",
            "GET / HTTP/1.1 \r\n{HOST}\r\n",
            "GET / http/1.1\r\n{HOST}\r\n",
            "GET / FTP/1.1\r\n{HOST}\r\n",
            "GET\t/\tHTTP/1.1\r\n{HOST}\r\n",
            "\u{1}\u{2}\u{3}\r\n\r\n",
        ],
    );
}

#[test]
fn a_method_that_is_no_token_is_refused() {
    refused(
        Malformed::Method,
        &[
            " / HTTP/1.1\r\n{HOST}\r\n",
            "G\u{e9}T / HTTP/1.1\r\n{HOST}\r\n",
            "GET\0 / HTTP/1.1\r\n{HOST}\r\n",
            "GET(a) / HTTP/1.1\r\n{HOST}\r\n",
        ],
    );
}

#[test]
fn another_version_is_refused_as_unsupported() {
    refused(
        Malformed::Version,
        &[
            "GET / HTTP/9.9\r\n{HOST}\r\n",
            "GET / HTTP/1.2\r\n{HOST}\r\n",
            "PRI * HTTP/2.0\r\n\r\n",
        ],
    );
    let status = Malformed::Version.status();
    assert_eq!(status, StatusCode::HTTP_VERSION_NOT_SUPPORTED);
}

#[test]
fn a_target_that_does_not_fit_the_method_is_refused() {
    refused(
        Malformed::Target,
        &[
            "GET * HTTP/1.1\r\n{HOST}\r\n",
            "GET orders HTTP/1.1\r\n{HOST}\r\n",
            "GET orders:80 HTTP/1.1\r\n{HOST}\r\n",
            "GET /a#b HTTP/1.1\r\n{HOST}\r\n",
            "GET /\u{e9} HTTP/1.1\r\n{HOST}\r\n",
            "GET http:// HTTP/1.1\r\n{HOST}\r\n",
            "CONNECT / HTTP/1.1\r\n{HOST}\r\n",
            "CONNECT orders HTTP/1.1\r\n{HOST}\r\n",
            "CONNECT http://orders:80/ HTTP/1.1\r\n{HOST}\r\n",
        ],
    );
}

#[test]
fn a_long_target_is_refused_as_too_long() {
    let limits = Limits {
        target_bytes: 16,
        ..Limits::default()
    };
    let head = format!("GET /{} HTTP/1.1\r\n{HOST}\r\n", "a".repeat(16));
    let error = HeadReader::new(limits).request(&mut BytesMut::from(head.as_str()));
    assert_eq!(error.expect_err("17 bytes"), Malformed::TargetTooLong);
    assert_eq!(Malformed::TargetTooLong.status(), StatusCode::URI_TOO_LONG);
}

#[test]
fn a_target_that_never_ends_is_refused_as_too_long() {
    let endless = format!("GET /{}", "a".repeat(Limits::default().head_bytes));
    let error = request(endless.as_bytes()).expect_err("no end within the limit");
    assert_eq!(error, Malformed::TargetTooLong);
}

#[test]
fn a_head_above_the_limit_is_refused_as_too_large() {
    let large = format!("GET / HTTP/1.1\r\nx: {}\r\n{HOST}\r\n", "a".repeat(1 << 20));
    let error = request(large.as_bytes()).expect_err("a megabyte");
    assert_eq!(error, Malformed::HeadTooLarge);
    let status = Malformed::HeadTooLarge.status();
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[test]
fn more_fields_than_allowed_are_refused() {
    let head = format!("GET / HTTP/1.1\r\n{HOST}{}\r\n", "x: a\r\n".repeat(100));
    let error = request(head.as_bytes()).expect_err("101 fields");
    assert_eq!(error, Malformed::TooManyFields);
    let head = format!("GET / HTTP/1.1\r\n{HOST}{}\r\n", "x: a\r\n".repeat(99));
    let most = request(head.as_bytes())
        .expect("100 fields")
        .expect("all of it");
    assert_eq!(most.fields.len(), 100);
}

#[test]
fn a_request_names_its_host_once() {
    refused(Malformed::HostMissing, &["GET / HTTP/1.1\r\n\r\n"]);
    refused(
        Malformed::HostRepeated,
        &[
            "GET / HTTP/1.1\r\n{HOST}{HOST}\r\n",
            "GET / HTTP/1.0\r\n{HOST}{HOST}\r\n",
        ],
    );
    refused(
        Malformed::HostSyntax,
        &[
            "GET / HTTP/1.1\r\nhost:\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a,b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: user@a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a/b\r\n\r\n",
        ],
    );
}

#[test]
fn two_framings_are_refused() {
    refused(
        Malformed::TwoFramings,
        &[
            "POST / HTTP/1.1\r\n{HOST}content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\n{HOST}transfer-encoding: identity\r\ncontent-length: 0\r\n\r\n",
        ],
    );
}

#[test]
fn a_content_length_that_is_not_one_number_is_refused() {
    for length in [
        "",
        "+3",
        "-3",
        "3, 3",
        "3,3",
        "3 3",
        "0x3",
        "3.0",
        "\"3\"",
        "three",
        "18446744073709551616",
        "9223372036854775808",
    ] {
        let head = format!("POST / HTTP/1.1\r\n{{HOST}}content-length: {length}\r\n\r\n");
        refused(Malformed::ContentLength, &[&head]);
    }
    refused(
        Malformed::ContentLength,
        &[
            "POST / HTTP/1.1\r\n{HOST}content-length: 3\r\ncontent-length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\n{HOST}content-length: 3\r\nContent-Length: 4\r\n\r\n",
        ],
    );
}

#[test]
fn a_transfer_coding_other_than_chunked_is_refused() {
    for coding in [
        "",
        "identity",
        "gzip, chunked",
        "chunked, identity",
        "chunked, chunked",
        "chunked;q=1",
        "xchunked",
        "chunked,",
        ",chunked",
        "\"chunked\"",
        "chun ked",
    ] {
        let head = format!("POST / HTTP/1.1\r\n{{HOST}}transfer-encoding: {coding}\r\n\r\n");
        refused(Malformed::TransferEncoding, &[&head]);
    }
    refused(
        Malformed::TransferEncoding,
        &[
            "POST / HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        ],
    );
}

#[test]
fn a_transfer_coding_in_http10_is_refused() {
    refused(
        Malformed::TransferEncodingInHttp10,
        &["POST / HTTP/1.0\r\n{HOST}transfer-encoding: chunked\r\n\r\n"],
    );
}

#[test]
fn another_expectation_is_refused() {
    refused(
        Malformed::Expectation,
        &[
            "POST / HTTP/1.1\r\n{HOST}expect: 200-ok\r\n\r\n",
            "POST / HTTP/1.1\r\n{HOST}expect: 100-continue, more\r\n\r\n",
        ],
    );
    assert_eq!(
        Malformed::Expectation.status(),
        StatusCode::EXPECTATION_FAILED
    );
}

#[test]
fn the_connection_ends_only_between_messages() {
    let reader = HeadReader::new(Limits::default());
    let begun = BytesMut::from(&b"GET"[..]);
    assert_eq!(reader.end_of_stream(&begun), Err(Malformed::Truncated));
    assert_eq!(reader.end_of_stream(&BytesMut::new()), Ok(()));
}

#[test]
fn a_request_is_read_up_to_its_empty_line() {
    let mut buffer = BytesMut::from(
        &b"POST /a?b=c HTTP/1.1\r\nHOST: orders:80\r\nX-Mixed:\t a b \t\r\nContent-Length: 3\r\n\r\nabc"[..],
    );
    let mut reader = HeadReader::new(Limits::default());
    let read = reader
        .request(&mut buffer)
        .expect("well formed")
        .expect("all of it");
    assert_eq!(read.method, Method::POST);
    assert_eq!(read.target, "/a?b=c");
    assert_eq!(read.version, Version::HTTP_11);
    assert_eq!(read.fields["x-mixed"], "a b");
    assert_eq!(read.framing, Framing::Length(3));
    assert!(read.persists && !read.expects_continue);
    assert_eq!(&buffer[..], b"abc");
}

#[test]
fn a_request_persists_unless_it_says_close_or_is_http10() {
    let persists = |head: &str| request(head.as_bytes()).expect(head).expect(head).persists;
    assert!(!persists(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    ));
    assert!(!persists(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: x, CLOSE\r\n\r\n"
    ));
    assert!(!persists(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nconnection: keep-alive\r\n\r\n"
    ));
    assert!(!persists(
        "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"
    ));
    assert!(persists(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: closed\r\n\r\n"
    ));
}

#[test]
fn only_http11_waits_for_100_continue() {
    let waits = |head: &str| {
        request(head.as_bytes())
            .expect(head)
            .expect(head)
            .expects_continue
    };
    assert!(!waits(
        "POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n"
    ));
    assert!(waits(
        "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\ncontent-length: 1\r\n\r\n"
    ));
}

#[test]
fn every_form_of_target_is_read() {
    for head in [
        "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET http://orders/a HTTP/1.1\r\nhost: orders\r\n\r\n",
        "CONNECT orders:443 HTTP/1.1\r\nhost: orders:443\r\n\r\n",
        "GET /a%20b;c/../?d=e HTTP/1.1\r\nhost: [::1]:80\r\n\r\n",
    ] {
        let read = request(head.as_bytes()).expect(head).expect(head);
        assert!(head.contains(&read.target.to_string()), "{}", read.target);
    }
}
