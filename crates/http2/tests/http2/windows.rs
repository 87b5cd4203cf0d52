//! Flow control: what may be sent, whose turn it is, and that every byte is given back once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http2::Writer;

use super::peer::*;

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn grow(peer: &Peer, id: u32, by: u32) {
    peer.say(WINDOW_UPDATE, 0, id, &by.to_be_bytes()).unwrap();
}

/// By how much our side opened the connection's window.
fn given_back(peer: &mut Peer) -> u32 {
    let frames = peer.heard();
    let windows = frames
        .iter()
        .filter(|it| (it.kind, it.stream) == (WINDOW_UPDATE, 0));
    windows.map(|it| it.code(0).code()).sum()
}

/// Responses whose bodies are still to be sent.
fn responses<const N: usize>(peer: &mut Peer) -> [Writer; N] {
    let mut at = 0;
    [(); N].map(|()| {
        at += 1;
        let mut writer = peer.open(2 * at - 1, END_STREAM, &GET).respond;
        writer
            .respond(StatusCode::OK, &HeaderMap::new(), false)
            .unwrap();
        peer.heard();
        writer
    })
}

#[test]
fn no_more_is_sent_than_the_peer_takes() {
    let mut peer = Peer::client();
    let [mut first, mut second] = responses(&mut peer);
    assert_eq!(send(&mut first, 50_000), 50_000);
    peer.heard();
    assert_eq!(send(&mut second, 50_000), 15_535);
    grow(&peer, 0, 100_000);
    assert_eq!(send(&mut first, 50_000), 15_535);
    assert_eq!(send(&mut first, 50_000), 0);
    grow(&peer, 1, 7);
    assert_eq!(send(&mut first, 50_000), 7);
}

#[test]
fn settings_change_the_windows_of_open_streams() {
    let mut peer = Peer::client();
    let [mut writer] = responses(&mut peer);
    assert_eq!(send(&mut writer, 1000), 1000);
    peer.say(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]).unwrap();
    assert_eq!(send(&mut writer, 1000), 0);
    // It is 990 below nothing.
    grow(&peer, 1, 990);
    assert_eq!(send(&mut writer, 1000), 0);
    peer.say(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 12]).unwrap();
    assert_eq!(send(&mut writer, 1000), 2);
    let [mut second] = [peer.open(3, END_STREAM, &GET).respond];
    second
        .respond(StatusCode::OK, &HeaderMap::new(), false)
        .unwrap();
    assert_eq!(send(&mut second, 1000), 12);
}

#[test]
fn settings_wake_only_writers_whose_windows_grew() {
    let mut peer = Peer::client();
    let [mut writer] = responses(&mut peer);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(writer.poll_reset(&Context::from_waker(&waker)).is_pending());
    for _ in 0..10 {
        peer.say(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 10]).unwrap();
        peer.say(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 10]).unwrap();
    }
    assert_eq!(woken.times(), 0);
    peer.say(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 11]).unwrap();
    assert_eq!(woken.times(), 1);
}

/// Three bodies without end that are polled in the order in which they are woken, while the peer
/// makes room by and by: how much of each was sent.
fn compete(peer: &mut Peer, mut room: impl FnMut(&mut Peer), rounds: usize) -> [usize; 3] {
    peer.say(SETTINGS, 0, 0, &[0, 4, 0x7f, 0, 0, 0]).unwrap();
    let mut writers: [Writer; 3] = responses(peer);
    let woken = Arc::new(Mutex::new(VecDeque::from([0, 1, 2])));
    let mut sent = [0; 3];
    for _ in 0..rounds {
        while let Some(at) = next(&woken) {
            let waker = Waker::from(Arc::new(Queued(at, Arc::clone(&woken))));
            let mut data = Bytes::from_static(&[7; 50_000]);
            let context = Context::from_waker(&waker);
            while let Poll::Ready(taken) = writers[at].poll_data(&context, &mut data, false) {
                sent[at] += taken.unwrap();
                data = Bytes::from_static(&[7; 50_000]);
            }
        }
        room(peer);
    }
    sent
}

/// Is woken by being queued.
struct Queued(usize, Arc<Mutex<VecDeque<usize>>>);

impl Wake for Queued {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push_back(self.0);
    }
}

fn next(woken: &Mutex<VecDeque<usize>>) -> Option<usize> {
    woken.lock().unwrap().pop_front()
}

#[test]
fn bodies_that_compete_for_the_connections_window_have_equal_turns() {
    let mut peer = Peer::client();
    let more = |peer: &mut Peer| {
        peer.heard();
        grow(peer, 0, 1000);
    };
    let sent = compete(&mut peer, more, 300);
    assert!(sent.iter().all(|count| *count >= 90_000), "{sent:?}");
}

#[test]
fn bodies_that_compete_for_the_output_have_equal_turns() {
    let mut peer = Peer::client();
    grow(&peer, 0, 0x7f00_0000);
    let sent = compete(&mut peer, |peer| drop(peer.heard()), 30);
    assert!(sent.iter().all(|count| *count >= 9 * 65_000), "{sent:?}");
}

#[test]
fn a_body_that_waits_for_the_connection_is_woken_by_it() {
    let mut peer = Peer::client();
    let [mut first, mut second] = responses(&mut peer);
    assert_eq!(send(&mut first, 100_000), 65_535);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut data = Bytes::from_static(b"second");
    let mut poll = || second.poll_data(&Context::from_waker(&waker), &mut data, true);
    assert_eq!(poll(), Poll::Pending);
    peer.heard();
    assert_eq!(woken.times(), 0);
    grow(&peer, 0, 5);
    assert_eq!(woken.times(), 1);
    assert_eq!(poll(), Poll::Ready(Ok(5)));
}

#[test]
fn what_waits_for_the_connection_may_end_meanwhile() {
    let mut peer = Peer::client();
    let mut writers: [Writer; 3] = responses(&mut peer);
    for writer in &mut writers {
        send(writer, 65_535);
    }
    let [first, mut second, third] = writers;
    drop(third);
    peer.say(RST_STREAM, 0, 3, &[0; 4]).unwrap();
    grow(&peer, 0, 100);
    assert!(now(|context| second.poll_reset(context)).reason().is_some());
    drop((first, second));
    assert!(peer.heard().iter().any(|sent| sent.kind == RST_STREAM));
}

#[test]
fn what_a_reader_passed_on_is_given_back() {
    let mut peer = Peer::client();
    let mut body = peer.open(1, 0, &POST).body.unwrap();
    for _ in 0..100 {
        peer.say(DATA, 0, 1, &[0; 10_000]).unwrap();
        assert_eq!(read(&mut body).0.len(), 10_000);
    }
    let more: u32 = given_back(&mut peer);
    assert!((900_000..=1_000_000).contains(&more), "{more}");
}

#[test]
fn what_a_dropped_reader_held_is_given_back() {
    let mut peer = Peer::client();
    let mut given = 0;
    for at in 0..100 {
        let id = 1 + 2 * at;
        let mut accepted = peer.open(id, 0, &POST);
        let body = accepted.body.as_mut().unwrap();
        peer.say(DATA, 0, id, &[0; 10_000]).unwrap();
        let taken = now(|context| body.poll_data(context)).unwrap().unwrap();
        // One piece was taken and not passed on, the other not even taken.
        peer.say(DATA, 0, id, &[0; 10_000]).unwrap();
        body.release(taken.len() / 2);
        if at % 2 == 0 {
            peer.say(RST_STREAM, 0, id, &[0; 4]).unwrap();
        }
        drop(accepted);
        given += given_back(&mut peer);
    }
    assert!((1_950_000..=2_000_000).contains(&given), "{given}");
}

#[test]
fn no_more_is_given_back_than_came() {
    let mut peer = Peer::client();
    let mut body = peer.open(1, 0, &POST).body.unwrap();
    peer.say(DATA, 0, 1, &[0; 10_000]).unwrap();
    (0..100).for_each(|_| body.release(10_000));
    assert_eq!(peer.heard(), []);
}

#[test]
fn padding_is_given_back_though_nobody_reads_it() {
    let mut peer = Peer::client();
    let accepted = peer.open(1, 0, &POST);
    let mut padded = vec![255];
    padded.extend([0; 255]);
    let given: u32 = (0..4000)
        .map(|_| {
            peer.say(DATA, PADDED, 1, &padded).unwrap();
            given_back(&mut peer)
        })
        .sum();
    assert!(given >= 4000 * 256 - 50_000, "{given}");
    drop(accepted);
}

#[test]
fn a_peer_that_takes_some_but_never_all_has_bounded_output_kept() {
    let mut peer = Peer::client();
    peer.say(SETTINGS, 0, 0, &[0, 4, 0x7f, 0, 0, 0]).unwrap();
    grow(&peer, 0, 0x7f00_0000);
    let [mut writer] = responses(&mut peer);
    for _ in 0..1000 {
        send(&mut writer, 65_536);
        let waiting = peer.connection.write(|bytes| (10_000, bytes.len()));
        assert!(waiting <= 65_536 + 5 * 9, "{waiting}");
    }
}

#[test]
fn bodies_that_wait_keep_nobody_from_reading() {
    let mut peer = Peer::client();
    peer.say(SETTINGS, 0, 0, &[0, 4, 0x7f, 0, 0, 0]).unwrap();
    grow(&peer, 0, 0x7f00_0000);
    for mut writer in responses::<4>(&mut peer) {
        while send(&mut writer, 50_000) > 0 {}
        assert!(!peer.connection.is_full());
    }
}

#[test]
fn requests_wait_while_the_peer_takes_no_more_streams() {
    let (peer, requests) = Peer::server();
    assert!(requests.has_room());
    peer.say(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]).unwrap();
    let (mut response, _) = request(&requests, &Method::GET, true).unwrap();
    assert!(!requests.has_room());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(
        requests
            .poll_room(&Context::from_waker(&waker))
            .is_pending()
    );
    peer.say_head(1, END_STREAM, &OK).unwrap();
    assert_eq!(woken.times(), 1);
    assert!(requests.has_room());
    assert!(requests.poll_room(&Context::from_waker(&waker)).is_ready());
    let _second = request(&requests, &Method::GET, true).unwrap();
    assert!(
        requests
            .poll_room(&Context::from_waker(&waker))
            .is_pending()
    );
    // It frees no place now.
    assert!(now(|context| response.poll_head(context, drop)).is_ok());
    drop(response);
    assert_eq!(woken.times(), 1);
}
