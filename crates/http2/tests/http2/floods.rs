//! What a peer may not do without end.

use http::{HeaderMap, Method, StatusCode};
use http2::{Error, Reason};

use super::peer::*;

const MOST_IDLE: usize = 10_000;
const MOST_GIVEN_UP: u32 = 500;

/// The peer may say it so often before it is told to calm down.
#[track_caller]
fn ends_after(peer: &mut Peer, most: usize, says: impl Fn(&Peer) -> Result<(), Error>) {
    for at in 0..most {
        assert_eq!(says(peer), Ok(()), "{at}");
    }
    let rule = "too many frames that ask for nothing";
    let error = Error::Ended(Reason::ENHANCE_YOUR_CALM, rule);
    assert_eq!(says(peer), Err(error));
    assert_eq!(peer.heard_goaway().1, Reason::ENHANCE_YOUR_CALM);
}

#[track_caller]
fn floods(says: impl Fn(&Peer) -> Result<(), Error>) {
    let mut peer = Peer::client();
    let _accepted = peer.open(1, 0, &POST);
    // The first SETTINGS count as well.
    ends_after(&mut peer, MOST_IDLE - 1, says);
}

#[test]
fn frames_that_ask_for_nothing_are_counted() {
    floods(|peer| peer.say(PING, 0, 0, &[0; 8]));
    floods(|peer| peer.say(PING, ACK, 0, &[0; 8]));
    floods(|peer| peer.say(SETTINGS, 0, 0, &[]));
    floods(|peer| peer.say(SETTINGS, ACK, 0, &[]));
    floods(|peer| peer.say(GOAWAY, 0, 0, &[0; 8]));
    floods(|peer| peer.say(PRIORITY, 0, 1, &[0; 5]));
    floods(|peer| peer.say(DATA, 0, 1, &[]));
    floods(|peer| peer.say(DATA, PADDED, 1, &[1, 0]));
    floods(|peer| peer.say(99, 0, 1, &[]));
}

#[test]
fn the_count_begins_anew_with_time() {
    let mut peer = Peer::client();
    for _ in 0..3 {
        (0..MOST_IDLE - 1).for_each(|_| peer.say(PING, 0, 0, &[0; 8]).unwrap());
        peer.connection.tick();
    }
    ends_after(&mut peer, MOST_IDLE, |peer| peer.say(PING, 0, 0, &[0; 8]));
}

#[test]
fn breaches_on_a_closed_stream_are_counted() {
    let mut peer = Peer::client();
    let mut accepted = peer.open(1, END_STREAM, &GET);
    accepted
        .respond
        .respond(StatusCode::OK, &HeaderMap::new(), true)
        .unwrap();
    ends_after(&mut peer, MOST_IDLE - 1, |peer| peer.say(DATA, 0, 1, b"x"));
}

#[test]
fn interims_that_nobody_reads_are_counted() {
    let (mut peer, requests) = Peer::server();
    let (mut response, _) = request(&requests, &Method::GET, true).unwrap();
    ends_after(&mut peer, MOST_IDLE + 7, |peer| {
        peer.say_head(1, 0, &[(":status", "103")])
    });
    let mut kept = 0;
    let head = now(|context| response.poll_head(context, |_| kept += 1));
    let too_many = Error::Refused(Reason::PROTOCOL_ERROR, "too many interims");
    assert_eq!(head.unwrap_err(), too_many);
    assert_eq!(kept, 8);
}

/// Gives up streams, however `gives_up` does, until the peer is told to calm down.
#[track_caller]
fn given_up(gives_up: impl Fn(&Peer, u32)) {
    let mut peer = Peer::client();
    for at in 0..MOST_GIVEN_UP {
        let mut accepted = peer.open(1 + 2 * at, 0, &POST);
        gives_up(&peer, 1 + 2 * at);
        assert!(!is_waiting(|context| accepted.respond.poll_reset(context)));
    }
    assert!(peer.heard().iter().all(|sent| sent.kind != GOAWAY));
    let id = 1 + 2 * MOST_GIVEN_UP;
    let mut served = peer.open(id, END_STREAM, &GET);
    peer.say_head(id + 2, 0, &POST).unwrap();
    gives_up(&peer, id + 2);
    assert_eq!(peer.heard_goaway(), (id + 2, Reason::ENHANCE_YOUR_CALM));
    // What is in flight is finished; nothing more is taken.
    peer.say_head(id + 4, END_STREAM, &GET).unwrap();
    assert!(peer.connection.accept().is_none());
    assert!(!peer.connection.is_over());
    served
        .respond
        .respond(StatusCode::OK, &HeaderMap::new(), true)
        .unwrap();
    drop(served);
    assert!(peer.connection.is_over());
}

#[test]
fn streams_that_the_peer_gives_up_are_counted() {
    given_up(|peer, id| peer.say(RST_STREAM, 0, id, &8_u32.to_be_bytes()).unwrap());
}

/// CVE-2025-8671.
#[test]
fn streams_that_the_peer_has_us_reset_are_counted() {
    given_up(|peer, id| peer.say(WINDOW_UPDATE, 0, id, &[0; 4]).unwrap());
    given_up(|peer, id| peer.say(PRIORITY, 0, id, &[0; 4]).unwrap());
}

#[test]
fn streams_that_were_answered_make_up_for_those_given_up() {
    let mut peer = Peer::client();
    for at in 0..MOST_GIVEN_UP {
        let mut accepted = peer.open(1 + 4 * at, END_STREAM, &GET);
        accepted
            .respond
            .respond(StatusCode::OK, &HeaderMap::new(), true)
            .unwrap();
        let _given_up = peer.open(3 + 4 * at, END_STREAM, &GET);
        peer.say(RST_STREAM, 0, 3 + 4 * at, &[0, 0, 0, 8]).unwrap();
        peer.say(RST_STREAM, 0, 1 + 4 * at, &[0, 0, 0, 8]).unwrap();
    }
    assert!(peer.heard().iter().all(|sent| sent.kind != GOAWAY));
}

/// CVE-2023-44487.
#[test]
fn requests_given_up_at_once_begin_nothing() {
    let mut peer = Peer::client();
    for id in [1, 3] {
        peer.say_head(id, 0, &POST).unwrap();
        peer.say(RST_STREAM, 0, id, &[0, 0, 0, 8]).unwrap();
    }
    peer.say_head(5, END_STREAM, &GET).unwrap();
    assert_eq!(peer.connection.accept().unwrap().head.method, Method::GET);
    assert!(peer.connection.accept().is_none());
    assert!(peer.heard_reset().0 == 5);
}

#[test]
fn places_are_not_freed_faster_than_work_ends() {
    let mut peer = Peer::client();
    let mut work = Vec::new();
    for at in 0..8 {
        work.push(peer.open(1 + 2 * at, END_STREAM, &GET));
        peer.say(RST_STREAM, 0, 1 + 2 * at, &[0, 0, 0, 8]).unwrap();
    }
    // Twice as many as may be open at once.
    peer.say_head(17, END_STREAM, &GET).unwrap();
    assert_eq!(peer.heard_reset(), (17, Reason::REFUSED_STREAM));
    work.pop();
    peer.open(19, END_STREAM, &GET);
}

#[test]
fn answers_to_a_peer_that_reads_nothing_fill_the_output() {
    let peer = Peer::client();
    let mut pings = 0;
    while !peer.connection.is_full() {
        peer.say(PING, 0, 0, &[0; 8]).unwrap();
        pings += 1;
    }
    assert_eq!(pings, 131_072_usize.div_ceil(17));
}
