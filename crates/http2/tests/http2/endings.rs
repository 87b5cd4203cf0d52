//! How streams and connections end: whole, refused, reset, left.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http2::{Error, Reason};

use super::peer::*;

const CANCEL: [u8; 4] = [0, 0, 0, 8];

#[test]
fn streams_above_the_limit_are_refused_unprocessed() {
    let mut peer = Peer::client();
    let mut open: Vec<_> = [1, 3, 5, 7].map(|id| peer.open(id, 0, &POST)).into();
    peer.say_head(9, 0, &POST).unwrap();
    assert_eq!(peer.heard_reset(), (9, Reason::REFUSED_STREAM));
    // What it had sent before it knew.
    peer.say(DATA, 0, 9, b"late").unwrap();
    peer.say_head(9, END_STREAM, &[("a", "b")]).unwrap();
    assert_eq!(peer.heard(), []);
    open.pop();
    peer.open(11, 0, &POST);
    let refused = Error::Reset(Reason::REFUSED_STREAM);
    assert!(refused.is_unprocessed());
    assert!(!Error::Reset(Reason::CANCEL).is_unprocessed());
    assert!(!Error::Closed.is_unprocessed());
}

#[test]
fn what_a_peer_sends_late_on_a_stream_that_we_reset_is_passed_over() {
    let mut peer = Peer::client();
    peer.open(1, 0, &POST).respond.reset(Reason::CANCEL);
    assert_eq!(peer.heard_reset(), (1, Reason::CANCEL));
    peer.say(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]).unwrap();
    peer.say(PRIORITY, 0, 1, &[0; 5]).unwrap();
    for _ in 0..100 {
        // More than the connection's window: it is given back.
        peer.say(DATA, 0, 1, &[0; 16_384]).unwrap();
        assert!(
            peer.heard()
                .iter()
                .all(|sent| (sent.kind, sent.stream) == (WINDOW_UPDATE, 0))
        );
    }
    peer.say_head(1, END_STREAM, &[("a", "b")]).unwrap();
    peer.say(RST_STREAM, 0, 1, &CANCEL).unwrap();
    assert_eq!(peer.heard(), []);
}

#[test]
fn what_a_peer_sends_after_the_end_is_refused() {
    let mut peer = Peer::client();
    let mut accepted = peer.open(1, END_STREAM, &GET);
    accepted
        .respond
        .respond(StatusCode::OK, &HeaderMap::new(), true)
        .unwrap();
    peer.heard();
    peer.say(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]).unwrap();
    peer.say(RST_STREAM, 0, 1, &CANCEL).unwrap();
    assert_eq!(peer.heard(), []);
    peer.say(DATA, 0, 1, b"x").unwrap();
    assert_eq!(peer.heard_reset(), (1, Reason::STREAM_CLOSED));
}

#[test]
fn late_responses_on_streams_that_we_reset_are_passed_over() {
    let (mut peer, requests) = Peer::server();
    drop(request(&requests, &Method::GET, true).unwrap());
    assert_eq!(peer.heard_reset(), (1, Reason::CANCEL));
    peer.say_head(1, 0, &OK).unwrap();
    peer.say(DATA, 0, 1, b"late").unwrap();
    peer.say_head(1, END_STREAM, &[("a", "b")]).unwrap();
    peer.say(RST_STREAM, 0, 1, &CANCEL).unwrap();
    assert_eq!(peer.heard(), []);
}

#[test]
fn a_response_that_came_whole_is_read_to_its_end_though_its_stream_is_reset() {
    let (peer, requests) = Peer::server();
    let (mut response, writer) = request(&requests, &Method::POST, false).unwrap();
    peer.say_head(1, 0, &OK).unwrap();
    peer.say(DATA, 0, 1, b"all of it").unwrap();
    peer.say_head(1, END_STREAM, &[("a", "b")]).unwrap();
    peer.say(RST_STREAM, 0, 1, &[0; 4]).unwrap();
    let reset = Error::Reset(Reason::NO_ERROR);
    let mut data = Bytes::from_static(b"more");
    let sent = now(|context| writer.unwrap().poll_data(context, &mut data, true));
    assert_eq!(sent, Err(reset));
    assert!(now(|context| response.poll_head(context, drop)).is_ok());
    assert_eq!(read(&mut response), (b"all of it".to_vec(), Some(Ok(()))));
    assert!(!response.is_end());
    assert_eq!(response.trailers().unwrap()["a"], "b");
    assert!(response.is_end());
}

#[test]
fn a_response_that_is_cut_off_is_no_end() {
    let (peer, requests) = Peer::server();
    let (mut response, _) = request(&requests, &Method::GET, true).unwrap();
    peer.say_head(1, 0, &OK).unwrap();
    peer.say(DATA, 0, 1, b"some").unwrap();
    peer.say(RST_STREAM, 0, 1, &[0; 4]).unwrap();
    let reset = Error::Reset(Reason::NO_ERROR);
    assert!(now(|context| response.poll_head(context, drop)).is_ok());
    assert_eq!(read(&mut response), (vec![], Some(Err(reset))));
    assert!(!response.is_end());
}

#[test]
fn interims_come_before_the_head() {
    let (peer, requests) = Peer::server();
    let (mut response, _) = request(&requests, &Method::GET, true).unwrap();
    peer.say_head(1, 0, &[(":status", "103"), ("link", "a")])
        .unwrap();
    peer.say_head(1, END_STREAM, &OK).unwrap();
    let mut interims = Vec::new();
    let head = now(|context| response.poll_head(context, |it| interims.push(it.status)));
    assert_eq!(interims, [StatusCode::EARLY_HINTS]);
    assert_eq!(head.unwrap().status, StatusCode::OK);
}

#[test]
fn a_request_with_a_large_head_is_answered_431() {
    let mut peer = Peer::client();
    let value = "x".repeat(4096);
    let large = with(&POST, &[("a", &value)]);
    peer.say_head(1, END_STREAM, &large).unwrap();
    let [answer] = &peer.heard()[..] else {
        panic!("one frame")
    };
    assert_eq!((answer.stream, answer.flags), (1, END_HEADERS | END_STREAM));
    let status = peer.status(answer);
    assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    peer.say_head(3, 0, &large).unwrap();
    assert_eq!(peer.heard_reset(), (3, Reason::NO_ERROR));
    // Its body is passed over.
    peer.say(DATA, END_STREAM, 3, b"body").unwrap();
    assert_eq!(peer.heard(), []);
    assert!(peer.connection.accept().is_none());
}

#[test]
fn handles_that_are_dropped_reset_what_has_not_ended() {
    let mut peer = Peer::client();
    drop(peer.open(1, END_STREAM, &GET));
    assert_eq!(peer.heard_reset(), (1, Reason::CANCEL));
    let mut accepted = peer.open(3, 0, &POST);
    accepted
        .respond
        .respond(StatusCode::OK, &HeaderMap::new(), true)
        .unwrap();
    drop(accepted);
    // It was answered whole: the rest of the request is not needed (RFC 9113 section 8.1).
    assert_eq!(peer.heard_reset(), (3, Reason::NO_ERROR));
    let mut accepted = peer.open(5, END_STREAM, &GET);
    accepted
        .respond
        .respond(StatusCode::OK, &HeaderMap::new(), true)
        .unwrap();
    drop(accepted);
    assert!(peer.heard().iter().all(|sent| sent.kind != RST_STREAM));
}

#[test]
fn a_server_leaves_once_those_in_flight_are_served() {
    let mut peer = Peer::client();
    let mut first = peer.open(1, END_STREAM, &GET);
    peer.connection.leave();
    let [goaway, ping] = &peer.heard()[..] else {
        panic!("two frames")
    };
    assert_eq!(
        (goaway.code(0).code(), goaway.code(4)),
        (0x7fff_ffff, Reason::NO_ERROR)
    );
    // It was on its way.
    let mut second = peer.open(3, END_STREAM, &GET);
    peer.say(PING, ACK, 0, &ping.payload).unwrap();
    assert_eq!(peer.heard_goaway(), (3, Reason::NO_ERROR));
    for it in [&mut first, &mut second] {
        assert!(!peer.connection.is_over());
        it.respond
            .respond(StatusCode::OK, &HeaderMap::new(), true)
            .unwrap();
    }
    drop((first, second));
    assert!(peer.connection.is_over());
}

#[test]
fn streams_opened_after_we_left_are_passed_over() {
    let mut peer = Peer::client();
    let mut accepted = peer.open(1, 0, &POST);
    peer.connection.leave();
    let ping = peer.heard().pop().unwrap();
    peer.say(PING, ACK, 0, &ping.payload).unwrap();
    peer.heard();
    peer.say_head(3, 0, &POST).unwrap();
    for _ in 0..100 {
        peer.say(DATA, 0, 3, &[0; 16_384]).unwrap();
        peer.heard();
    }
    peer.say(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1]).unwrap();
    peer.say_head(3, END_STREAM, &[("a", "b")]).unwrap();
    peer.say(RST_STREAM, 0, 3, &CANCEL).unwrap();
    assert!(peer.connection.accept().is_none());
    assert_eq!(peer.heard(), []);
    peer.say(DATA, END_STREAM, 1, b"whole").unwrap();
    let body = read(accepted.body.as_mut().unwrap());
    assert_eq!(body, (b"whole".to_vec(), Some(Ok(()))));
}

#[test]
fn a_server_that_leaves_names_the_requests_that_it_did_nothing_for() {
    let (peer, requests) = Peer::server();
    let (mut first, _) = request(&requests, &Method::GET, true).unwrap();
    let (mut second, _) = request(&requests, &Method::GET, true).unwrap();
    peer.say(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 11]).unwrap();
    let gone = Error::GoneAway(Reason::ENHANCE_YOUR_CALM);
    let error = now(|context| second.poll_head(context, drop)).unwrap_err();
    assert_eq!((error, error.is_unprocessed()), (gone, true));
    assert!(!requests.is_usable());
    let refused = request(&requests, &Method::GET, true).unwrap_err();
    assert_eq!(refused, gone);
    peer.say_head(1, END_STREAM, &OK).unwrap();
    assert!(now(|context| first.poll_head(context, drop)).is_ok());
    drop((first, second));
    assert!(peer.connection.is_over());
}

#[test]
fn a_connection_that_breaks_ends_every_stream() {
    let (peer, requests) = Peer::server();
    let (mut response, _) = request(&requests, &Method::GET, true).unwrap();
    peer.connection.close();
    let error = now(|context| response.poll_head(context, drop)).unwrap_err();
    assert_eq!((error, error.is_unprocessed()), (Error::Closed, false));
    assert_eq!(
        request(&requests, &Method::GET, true).unwrap_err(),
        Error::Closed
    );
    assert!(peer.connection.is_over());
}

#[test]
fn a_client_ends_once_nobody_can_use_it() {
    let (mut peer, requests) = Peer::server();
    let (mut response, _) = request(&requests, &Method::GET, true).unwrap();
    drop(requests);
    assert!(!peer.connection.is_over());
    peer.say_head(1, END_STREAM, &OK).unwrap();
    assert!(now(|context| response.poll_head(context, drop)).is_ok());
    drop(response);
    assert!(peer.connection.is_over());
    peer.connection.leave();
    assert_eq!(peer.heard_goaway(), (0, Reason::NO_ERROR));
}

#[test]
fn a_peer_that_is_there_answers() {
    let mut peer = Peer::client();
    peer.connection.ping();
    let ping = peer.heard().pop().unwrap();
    peer.say(PING, ACK, 0, &[0; 8]).unwrap();
    assert!(!peer.connection.was_answered());
    peer.say(PING, ACK, 0, &ping.payload).unwrap();
    assert!(peer.connection.was_answered());
    assert!(!peer.connection.was_answered());
}
