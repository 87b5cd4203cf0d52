//! What ends a connection, with the code and the rule that the peer broke.

use http::Method;
use http2::{Connection, Error, Reason};

use super::peer::*;

/// Says the frames one after another; the last one ends the connection, and the peer is told.
#[track_caller]
fn refused(peer: &mut Peer, frames: &[Vec<u8>], reason: Reason, rule: &'static str) {
    let (last, before) = frames.split_last().unwrap();
    for bytes in before {
        assert_eq!(peer.say_bytes(bytes), Ok(()));
    }
    let error = Error::Ended(reason, rule);
    assert_eq!(peer.say_bytes(last), Err(error));
    assert_eq!(peer.heard_goaway().1, reason);
    assert_eq!(peer.say(PING, 0, 0, &[0; 8]), Err(error));
    assert!(peer.connection.is_over());
}

#[track_caller]
fn server_refuses(frames: &[Vec<u8>], reason: Reason, rule: &'static str) {
    refused(&mut Peer::client(), frames, reason, rule);
}

#[track_caller]
fn client_refuses(frames: &[Vec<u8>], reason: Reason, rule: &'static str) {
    let (mut peer, requests) = Peer::server();
    let _open = request(&requests, &Method::GET, true).unwrap();
    refused(&mut peer, frames, reason, rule);
}

fn opens(id: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, id, &block(&POST))
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    payload.extend(value.to_be_bytes());
    frame(SETTINGS, 0, 0, &payload)
}

#[test]
fn what_is_not_http2_is_refused() {
    let mut peer = Peer::silent_client();
    let request = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    refused(
        &mut peer,
        &[request],
        Reason::PROTOCOL_ERROR,
        "no HTTP/2 preface",
    );
    let mut peer = Peer::silent_client();
    let pieces = [PREFACE[..9].to_vec(), b"x".to_vec()];
    refused(
        &mut peer,
        &pieces,
        Reason::PROTOCOL_ERROR,
        "no HTTP/2 preface",
    );
}

#[test]
fn the_first_frame_is_settings() {
    for first in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, ACK, 0, &[])] {
        let mut peer = Peer::silent_client();
        let rule = "the first frame is not SETTINGS";
        refused(
            &mut peer,
            &[PREFACE.to_vec(), first],
            Reason::PROTOCOL_ERROR,
            rule,
        );
        assert!(!peer.connection.is_established());
    }
}

#[test]
fn a_frame_longer_than_we_take_is_refused() {
    let rule = "a frame longer than SETTINGS_MAX_FRAME_SIZE";
    let long = frame(DATA, 0, 1, &[0; 16_385]);
    server_refuses(&[opens(1, 0), long.clone()], Reason::FRAME_SIZE_ERROR, rule);
    // Its head is enough, in whatever pieces it comes.
    let pieces = [long[..5].to_vec(), long[5..9].to_vec()];
    server_refuses(&pieces, Reason::FRAME_SIZE_ERROR, rule);
}

#[test]
fn nothing_comes_between_the_frames_of_a_block() {
    let begun = frame(HEADERS, 0, 1, &block(&GET[..2]));
    let rule = "a frame inside a block of fields";
    for other in [
        frame(PING, 0, 0, &[0; 8]),
        opens(3, 0),
        frame(99, 0, 1, &[]),
    ] {
        server_refuses(&[begun.clone(), other], Reason::PROTOCOL_ERROR, rule);
    }
    let rule = "CONTINUATION of nothing";
    let other = frame(CONTINUATION, END_HEADERS, 3, &block(&GET[2..]));
    server_refuses(&[begun, other.clone()], Reason::PROTOCOL_ERROR, rule);
    server_refuses(&[other], Reason::PROTOCOL_ERROR, rule);
}

#[test]
fn push_is_refused() {
    let rule = "PUSH_PROMISE, which nobody enabled";
    let promise = frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]);
    client_refuses(std::slice::from_ref(&promise), Reason::PROTOCOL_ERROR, rule);
    server_refuses(&[opens(1, 0), promise], Reason::PROTOCOL_ERROR, rule);
}

#[test]
fn frames_of_a_stream_are_on_one() {
    let rule = "a stream's frame on none";
    for kind in [DATA, HEADERS] {
        server_refuses(&[frame(kind, 0, 0, &[])], Reason::PROTOCOL_ERROR, rule);
    }
    let on_none = [
        frame(PRIORITY, 0, 0, &[0; 5]),
        frame(RST_STREAM, 0, 0, &[0; 4]),
    ];
    for frame in on_none {
        server_refuses(&[frame], Reason::PROTOCOL_ERROR, rule);
    }
}

#[test]
fn frames_of_a_connection_are_on_none() {
    let reason = Reason::PROTOCOL_ERROR;
    server_refuses(
        &[frame(SETTINGS, 0, 1, &[])],
        reason,
        "SETTINGS on a stream",
    );
    server_refuses(&[frame(PING, 0, 1, &[0; 8])], reason, "PING on a stream");
    server_refuses(
        &[frame(GOAWAY, 0, 1, &[0; 8])],
        reason,
        "GOAWAY on a stream",
    );
}

#[test]
fn a_stream_that_nobody_opened_has_no_frames() {
    let rule = "a frame on a stream that nobody opened";
    let frames = |id| {
        [
            frame(DATA, 0, id, b"x"),
            frame(RST_STREAM, 0, id, &[0; 4]),
            frame(WINDOW_UPDATE, 0, id, &[0, 0, 0, 1]),
        ]
    };
    for (kind, id) in [(0, 3), (1, 3), (2, 3), (0, 2), (1, 2), (2, 2)] {
        let unopened = frames(id)[kind].clone();
        server_refuses(
            &[opens(1, 0), unopened.clone()],
            Reason::PROTOCOL_ERROR,
            rule,
        );
        client_refuses(&[unopened], Reason::PROTOCOL_ERROR, rule);
    }
    let rule = "a response on a stream that nobody opened";
    for id in [2, 3] {
        let response = frame(HEADERS, END_HEADERS, id, &block(&OK));
        client_refuses(&[response], Reason::PROTOCOL_ERROR, rule);
    }
}

#[test]
fn a_breach_on_a_stream_that_nobody_opened_ends_the_connection() {
    let itself = frame(PRIORITY, 0, 5, &[0, 0, 0, 5, 1]);
    let rule = "a stream that depends on itself";
    server_refuses(&[itself], Reason::PROTOCOL_ERROR, rule);
    let short = frame(PRIORITY, 0, 5, &[0; 4]);
    let rule = "PRIORITY of a wrong length";
    server_refuses(&[short], Reason::FRAME_SIZE_ERROR, rule);
}

#[test]
fn more_than_the_connections_window_is_refused() {
    let mut frames = vec![opens(1, 0), opens(3, 0)];
    frames.extend((0..6).map(|at| frame(DATA, 0, 1 + 2 * (at % 2), &[0; 16_384])));
    // Padding counts.
    let mut padded = vec![200];
    padded.extend([0; 1800]);
    frames.push(frame(DATA, PADDED, 1, &padded));
    let rule = "more than the connection's window";
    server_refuses(&frames, Reason::FLOW_CONTROL_ERROR, rule);
}

#[test]
fn padding_longer_than_its_frame_is_refused() {
    let rule = "padding longer than its frame";
    let data = frame(DATA, PADDED, 1, &[4, 0, 0, 0]);
    server_refuses(&[opens(1, 0), data], Reason::PROTOCOL_ERROR, rule);
    let rule = "HEADERS shorter than it says";
    for (flags, payload) in [(PADDED, &[][..]), (PADDED, &[1]), (PRIORITIZED, &[0; 4])] {
        let head = frame(HEADERS, END_HEADERS | flags, 1, payload);
        server_refuses(&[head], Reason::PROTOCOL_ERROR, rule);
    }
}

#[test]
fn frames_of_a_wrong_length_are_refused() {
    let reason = Reason::FRAME_SIZE_ERROR;
    let check = |frame: Vec<u8>, rule| server_refuses(&[opens(1, 0), frame], reason, rule);
    check(
        frame(RST_STREAM, 0, 1, &[0; 5]),
        "RST_STREAM of a wrong length",
    );
    check(
        frame(WINDOW_UPDATE, 0, 1, &[0; 3]),
        "WINDOW_UPDATE of a wrong length",
    );
    check(
        frame(WINDOW_UPDATE, 0, 0, &[0; 5]),
        "WINDOW_UPDATE of a wrong length",
    );
    check(frame(SETTINGS, 0, 0, &[0; 5]), "SETTINGS of a wrong length");
    check(
        frame(SETTINGS, ACK, 0, &[0; 6]),
        "an acknowledgement with settings",
    );
    check(frame(PING, 0, 0, &[0; 7]), "PING of a wrong length");
    check(frame(GOAWAY, 0, 0, &[0; 7]), "GOAWAY of a wrong length");
}

#[test]
fn settings_that_nobody_may_have_are_refused() {
    let reason = Reason::PROTOCOL_ERROR;
    let rule = "ENABLE_PUSH is neither 0 nor 1";
    server_refuses(&[setting(2, 2)], reason, rule);
    client_refuses(&[setting(2, 2)], reason, rule);
    client_refuses(&[setting(2, 1)], reason, "a server enables push");
    let rule = "INITIAL_WINDOW_SIZE above 2^31-1";
    server_refuses(&[setting(4, 1 << 31)], Reason::FLOW_CONTROL_ERROR, rule);
    let rule = "MAX_FRAME_SIZE out of range";
    server_refuses(&[setting(5, 16_383)], reason, rule);
    server_refuses(&[setting(5, 1 << 24)], reason, rule);
}

#[test]
fn settings_at_their_bounds_are_acknowledged() {
    let mut peer = Peer::client();
    let bounds = [
        (1, u32::MAX),
        (2, 1),
        (3, 0),
        (4, (1 << 31) - 1),
        (5, (1 << 24) - 1),
        (99, 7),
    ];
    for (id, value) in bounds {
        assert_eq!(peer.say_bytes(&setting(id, value)), Ok(()));
        let [ack] = &peer.heard()[..] else {
            panic!("one acknowledgement")
        };
        assert_eq!((ack.kind, ack.flags, ack.payload.len()), (SETTINGS, ACK, 0));
    }
}

#[test]
fn windows_beyond_what_there_is_are_refused() {
    let reason = Reason::FLOW_CONTROL_ERROR;
    let most = frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
    server_refuses(&[most], reason, "the connection's window above 2^31-1");
    let none = frame(WINDOW_UPDATE, 0, 0, &[0x80, 0, 0, 0]);
    server_refuses(&[none], Reason::PROTOCOL_ERROR, "WINDOW_UPDATE of nothing");
    let more = frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
    let most = setting(4, 0x7fff_ffff);
    let rule = "a stream's window above 2^31-1";
    server_refuses(&[opens(1, 0), more, most], reason, rule);
}

#[test]
fn a_stream_that_depends_on_itself_is_refused() {
    let mut payload = vec![0, 0, 0, 1, 16];
    payload.extend(block(&GET));
    let head = frame(HEADERS, END_HEADERS | PRIORITIZED, 1, &payload);
    let rule = "a stream that depends on itself";
    server_refuses(&[head], Reason::PROTOCOL_ERROR, rule);
}

#[test]
fn a_block_that_is_no_hpack_is_refused() {
    let rule = "a block of fields that HPACK does not have";
    let head = frame(
        HEADERS,
        END_HEADERS,
        1,
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    );
    server_refuses(std::slice::from_ref(&head), Reason::COMPRESSION_ERROR, rule);
    client_refuses(&[head], Reason::COMPRESSION_ERROR, rule);
}

#[test]
fn streams_are_opened_upwards_with_odd_numbers() {
    let rule = "a client opens a stream with an even number";
    server_refuses(&[opens(2, 0)], Reason::PROTOCOL_ERROR, rule);
    let rule = "HEADERS on a stream that was closed before";
    server_refuses(&[opens(5, 0), opens(3, 0)], Reason::PROTOCOL_ERROR, rule);
}

#[test]
fn a_head_far_too_large_is_refused_before_it_is_whole() {
    let rule = "a head far larger than SETTINGS_MAX_HEADER_LIST_SIZE";
    let begun = frame(HEADERS, 0, 1, &[0; 16_384]);
    let more = frame(CONTINUATION, 0, 1, &[0; 4097]);
    server_refuses(&[begun, more], Reason::ENHANCE_YOUR_CALM, rule);
    let mut empty = vec![frame(HEADERS, 0, 1, &[])];
    empty.extend(vec![frame(CONTINUATION, 0, 1, &[]); 33]);
    server_refuses(&empty, Reason::ENHANCE_YOUR_CALM, rule);
}

#[test]
fn a_refused_connection_names_the_last_stream_and_fails_the_others() {
    let mut peer = Peer::client();
    let mut accepted = peer.open(5, 0, &POST);
    peer.say(PING, 0, 1, &[0; 8]).unwrap_err();
    let error = Error::Ended(Reason::PROTOCOL_ERROR, "PING on a stream");
    assert_eq!(peer.heard_goaway(), (5, Reason::PROTOCOL_ERROR));
    assert_eq!(now(|context| accepted.respond.poll_reset(context)), error);
    let mut body = accepted.body.unwrap();
    assert_eq!(now(|context| body.poll_data(context)), Some(Err(error)));
}

#[test]
fn windows_are_offered_within_bounds() {
    let mut offered = config();
    (offered.stream_window, offered.connection_window) = (0, u32::MAX);
    let mut peer = Peer::silent_client();
    peer.connection = Connection::server(offered);
    let [settings, window] = &peer.heard()[..] else {
        panic!("two frames")
    };
    assert_eq!(settings.payload[6..12], [0, 4, 0, 0, 0xff, 0xff]);
    assert_eq!(window.payload, (0x7fff_ffff_u32 - 65_535).to_be_bytes());
}
