//! What ends one stream and leaves the connection, with the code and the rule that the peer broke.

use http::Method;
use http2::{Error, Reader, Reason};

use super::peer::*;

/// A stream that our server took up is reset by `says`.
#[track_caller]
fn server_resets(
    opens: &[(&str, &str)],
    flags: u8,
    says: impl FnOnce(&Peer),
    reason: Reason,
    rule: &'static str,
) {
    let mut peer = Peer::client();
    let mut accepted = peer.open(1, flags, opens);
    peer.heard();
    says(&peer);
    assert_eq!(peer.heard_reset(), (1, reason));
    let error = Error::Refused(reason, rule);
    assert_eq!(now(|context| accepted.respond.poll_reset(context)), error);
    if let Some(mut body) = accepted.body {
        assert_eq!(read(&mut body).1, Some(Err(error)));
    }
    // The connection goes on.
    peer.open(3, END_STREAM, &GET);
}

/// A response to `method` resets its stream.
#[track_caller]
fn client_resets(method: &Method, says: impl FnOnce(&Peer), reason: Reason, rule: &'static str) {
    let (mut peer, requests) = Peer::server();
    let (mut response, _writer) = request(&requests, method, false).unwrap();
    peer.heard();
    says(&peer);
    assert_eq!(peer.heard_reset(), (1, reason));
    assert_eq!(ending(&mut response), Error::Refused(reason, rule));
    request(&requests, method, true).unwrap();
}

#[track_caller]
fn ending(response: &mut Reader) -> Error {
    // A head may have come before.
    let head = now(|context| response.poll_head(context, drop));
    let ending = head.map(|_| read(response).1);
    ending.map_or_else(|error| error, |body| body.unwrap().unwrap_err())
}

fn client_refuses_head(fields: &[(&str, &str)], flags: u8, rule: &'static str) {
    let says = |peer: &Peer| peer.say_head(1, flags, fields).unwrap();
    client_resets(&Method::GET, says, Reason::PROTOCOL_ERROR, rule);
}

#[test]
fn nothing_follows_the_end_of_a_request() {
    let reason = Reason::STREAM_CLOSED;
    let data = |peer: &Peer| peer.say(DATA, 0, 1, b"x").unwrap();
    server_resets(&GET, END_STREAM, data, reason, "DATA after the end");
    let trailers = |peer: &Peer| peer.say_head(1, END_STREAM, &[]).unwrap();
    server_resets(&GET, END_STREAM, trailers, reason, "HEADERS after the end");
}

#[test]
fn a_body_is_as_long_as_declared() {
    let reason = Reason::PROTOCOL_ERROR;
    let post = with(&POST, &[("content-length", "3")]);
    let says = |peer: &Peer| peer.say(DATA, 0, 1, b"four").unwrap();
    server_resets(&post, 0, says, reason, "a body longer than declared");
    let says = |peer: &Peer| peer.say(DATA, END_STREAM, 1, b"2.").unwrap();
    server_resets(&post, 0, says, reason, "a body shorter than declared");
    let says = |peer: &Peer| peer.say_head(1, END_STREAM, &[]).unwrap();
    server_resets(&post, 0, says, reason, "a body shorter than declared");
    let short = with(&OK, &[("content-length", "3")]);
    client_refuses_head(&short, END_STREAM, "a body shorter than declared");
}

#[test]
fn more_than_the_streams_window_is_refused() {
    let says = |peer: &Peer| {
        (0..4).for_each(|_| peer.say(DATA, 0, 1, &[0; 16_384]).unwrap());
    };
    let rule = "more than the stream's window";
    server_resets(&POST, 0, says, Reason::FLOW_CONTROL_ERROR, rule);
}

#[test]
fn windows_of_streams_grow_within_bounds() {
    let says = |peer: &Peer| peer.say(WINDOW_UPDATE, 0, 1, &[0x80, 0, 0, 0]).unwrap();
    let rule = "WINDOW_UPDATE of nothing";
    server_resets(&POST, 0, says, Reason::PROTOCOL_ERROR, rule);
    let says = |peer: &Peer| {
        peer.say(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])
            .unwrap()
    };
    let rule = "the stream's window above 2^31-1";
    server_resets(&POST, 0, says, Reason::FLOW_CONTROL_ERROR, rule);
}

#[test]
fn priorities_are_well_formed() {
    let says = |peer: &Peer| peer.say(PRIORITY, 0, 1, &[0; 6]).unwrap();
    let rule = "PRIORITY of a wrong length";
    server_resets(&POST, 0, says, Reason::FRAME_SIZE_ERROR, rule);
    let says = |peer: &Peer| peer.say(PRIORITY, 0, 1, &[0x80, 0, 0, 1, 9]).unwrap();
    let rule = "a stream that depends on itself";
    server_resets(&POST, 0, says, Reason::PROTOCOL_ERROR, rule);
}

#[test]
fn trailers_are_fields_that_end_the_stream() {
    let reason = Reason::PROTOCOL_ERROR;
    let says = |peer: &Peer| peer.say_head(1, 0, &[("a", "b")]).unwrap();
    let rule = "a second head that does not end the stream";
    server_resets(&POST, 0, says, reason, rule);
    let rule = "a pseudo-header field in trailers";
    for field in [(":status", "200"), (":path", "/")] {
        let says = |peer: &Peer| peer.say_head(1, END_STREAM, &[field]).unwrap();
        server_resets(&POST, 0, says, reason, rule);
    }
    let says = |peer: &Peer| {
        let value = "x".repeat(4096);
        peer.say_head(1, END_STREAM, &[("a", &value)]).unwrap();
    };
    let rule = "a head larger than SETTINGS_MAX_HEADER_LIST_SIZE";
    server_resets(&POST, 0, says, reason, rule);
}

#[test]
fn a_response_begins_with_a_head() {
    let says = |peer: &Peer| peer.say(DATA, 0, 1, b"x").unwrap();
    let rule = "DATA before a head";
    client_resets(&Method::GET, says, Reason::PROTOCOL_ERROR, rule);
}

#[test]
fn malformed_heads_of_responses_are_refused() {
    client_refuses_head(&[("a", "b")], 0, "no :status");
    let rule = "a request's field in a response";
    client_refuses_head(&with(&OK, &[(":path", "/")]), 0, rule);
    let rule = "a pseudo-header field twice, or after others";
    client_refuses_head(&with(&OK, &OK), 0, rule);
    client_refuses_head(&with(&[("a", "b")], &OK), 0, rule);
    let rule = "a field of one connection";
    client_refuses_head(&with(&OK, &[("connection", "close")]), 0, rule);
    client_refuses_head(&[(":status", "101")], 0, "101 in HTTP/2");
    let rule = "an interim that ends the stream";
    client_refuses_head(&[(":status", "103")], END_STREAM, rule);
    let rule = "content-length twice";
    let twice = [("content-length", "1"), ("content-length", "2")];
    client_refuses_head(&with(&OK, &twice), 0, rule);
    let rule = "content-length is no number";
    for length in ["", "-1", "+1", "1, 1", "18446744073709551616"] {
        client_refuses_head(&with(&OK, &[("content-length", length)]), 0, rule);
    }
    let value = "x".repeat(4096);
    let rule = "a head larger than SETTINGS_MAX_HEADER_LIST_SIZE";
    client_refuses_head(&with(&OK, &[("a", &value)]), 0, rule);
}

#[test]
fn responses_that_have_no_body_are_sent_none() {
    let rule = "a body longer than declared";
    for (method, status) in [
        (Method::HEAD, "200"),
        (Method::GET, "204"),
        (Method::GET, "304"),
    ] {
        let says = |peer: &Peer| {
            let fields = [(":status", status), ("content-length", "5")];
            peer.say_head(1, 0, &fields).unwrap();
            peer.say(DATA, 0, 1, b"12345").unwrap();
        };
        client_resets(&method, says, Reason::PROTOCOL_ERROR, rule);
    }
}

#[test]
fn responses_that_have_no_body_may_declare_one() {
    for (method, status) in [
        (Method::HEAD, "200"),
        (Method::GET, "204"),
        (Method::GET, "304"),
    ] {
        let (peer, requests) = Peer::server();
        let (mut response, _) = request(&requests, &method, true).unwrap();
        let fields = [(":status", status), ("content-length", "5")];
        peer.say_head(1, 0, &fields).unwrap();
        peer.say(DATA, END_STREAM, 1, b"").unwrap();
        let head = now(|context| response.poll_head(context, drop)).unwrap();
        assert_eq!(head.fields["content-length"], "5");
        assert_eq!(read(&mut response), (vec![], Some(Ok(()))));
    }
}
