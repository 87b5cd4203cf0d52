//! The state of a connection, whichever side it is.
//!
//! Invariant: every stream that is open on the wire is in [`Streams`], and no frame of a stream
//! follows the one that ended it.

mod heads;
mod receive;
mod send;

use std::collections::VecDeque;
use std::task::Waker;

use http::request;

use crate::flood::Flood;
use crate::frame::{self, PREFACE};
use crate::hpack::{Decoder, Encoder};
use crate::output::Output;
use crate::settings::{Config, FIRST_WINDOW, Peer};
use crate::stream::{Stream, Turn};
use crate::streams::{Key, Streams};
use crate::window::{ReceiveWindow, SendWindow};
use crate::{Error, Reason};

/// What HPACK's tables hold before anybody says otherwise (RFC 9113 section 6.5.2).
const TABLE: usize = 4096;

/// The PING that finds out which streams a peer opened before it learned that we leave.
const LEAVING: [u8; 8] = *b"leaving.";
/// The PING that finds out whether a peer is there.
const PRESENT: [u8; 8] = *b"present?";

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) is_client: bool,
    config: Config,
    peer: Peer,
    /// How much of the client's preface has not come.
    preface: &'static [u8],
    /// The peer's first frame came, and it was SETTINGS.
    pub(crate) is_established: bool,
    /// A frame of which a part came.
    partial: Vec<u8>,
    block: Option<heads::Block>,
    encoder: Encoder,
    decoder: Decoder,
    pub(crate) streams: Streams,
    /// The next that a client opens.
    next: u32,
    /// The last that a client opened, as its server knows.
    last: u32,
    outward: SendWindow,
    inward: ReceiveWindow,
    pub(crate) output: Output,
    /// Bodies that wait for room on the connection, in the order of their turns.
    waiting: VecDeque<(u64, Key)>,
    /// How many turns there were.
    turns: u64,
    /// Requests that nobody has taken up.
    accepted: VecDeque<(Key, Box<request::Parts>)>,
    /// Who waits to open a stream.
    openers: Vec<Waker>,
    pub(crate) leaving: Leaving,
    /// What the peer said as it left.
    pub(crate) peer_left: Option<Reason>,
    pub(crate) error: Option<Error>,
    flood: Flood,
    pub(crate) pong: bool,
    /// Handles that may open streams.
    pub(crate) senders: usize,
    pub(crate) driver: Option<Waker>,
    /// The connection's task looks after its output itself, when it is done with what it does.
    pub(crate) is_driven: bool,
}

/// How far a connection that we leave has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    No,
    /// The peer was told; what it opened meanwhile is served.
    Told,
    /// Nothing is taken any more.
    Closed,
}

/// What a frame broke.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Broken {
    Connection(Reason, &'static str),
    Stream(u32, Reason, &'static str),
}

impl Core {
    pub(crate) fn new(config: Config, is_client: bool) -> Self {
        let config = config.bounded();
        let mut core = Self {
            is_client,
            config,
            peer: Peer::default(),
            preface: if is_client { &[] } else { PREFACE },
            is_established: false,
            partial: Vec::new(),
            block: None,
            encoder: Encoder::new(),
            decoder: Decoder::new(TABLE),
            streams: Streams::default(),
            next: 1,
            last: 0,
            outward: SendWindow::new(FIRST_WINDOW),
            inward: ReceiveWindow::new(config.connection_window),
            output: Output::default(),
            waiting: VecDeque::new(),
            turns: 0,
            accepted: VecDeque::new(),
            openers: Vec::new(),
            leaving: Leaving::No,
            peer_left: None,
            error: None,
            flood: Flood::default(),
            pong: false,
            senders: 0,
            driver: None,
            is_driven: false,
        };
        core.begin();
        core
    }

    fn begin(&mut self) {
        let out = self.output.frames();
        if self.is_client {
            out.extend_from_slice(PREFACE);
        }
        self.config.put(out, self.is_client);
        let more = self.config.connection_window - FIRST_WINDOW;
        if more > 0 {
            frame::put_window(out, 0, more);
        }
    }

    /// The next request that came, and was not given up since.
    pub(crate) fn accept(&mut self) -> Option<(Key, Box<request::Parts>)> {
        while let Some((key, head)) = self.accepted.pop_front() {
            let stream = self.streams.get_mut(key);
            if stream.error.is_none() {
                return Some((key, head));
            }
            stream.handles = 0;
            self.settle(key);
        }
        None
    }

    /// Has the output written, once everything that is ready now has had its turn.
    pub(crate) fn wake_driver(&mut self) {
        if !self.is_driven
            && let Some(driver) = self.driver.take()
        {
            driver.wake();
        }
    }

    /// Frames to be written soon.
    fn frames(&mut self) -> &mut Vec<u8> {
        self.wake_driver();
        self.output.frames()
    }

    /// Gives bodies that wait for room their turn, if there is some.
    pub(crate) fn give_turns(&mut self) {
        if self.waiting.is_empty() || self.outward.room().min(self.output.room()) == 0 {
            return;
        }
        for (turn, key) in self.waiting.drain(..) {
            let stream = self.streams.get_mut(key);
            stream.turn = Turn::Has(turn);
            stream.wake_writer();
        }
    }

    /// Whether another stream may be opened at all.
    pub(crate) fn takes_streams(&self) -> bool {
        self.error.is_none()
            && self.peer_left.is_none()
            && self.leaving == Leaving::No
            && self.next <= frame::LARGEST
    }

    pub(crate) fn has_room_for_stream(&self) -> bool {
        self.streams.open() < self.peer.streams
    }

    pub(crate) fn peer_streams(&self) -> usize {
        self.peer.streams
    }

    pub(crate) fn wait_for_stream(&mut self, waker: &Waker) {
        if !self.openers.iter().any(|it| it.will_wake(waker)) {
            self.openers.push(waker.clone());
        }
    }

    fn wake_openers(&mut self) {
        for opener in self.openers.drain(..) {
            opener.wake();
        }
    }

    /// After a change of a stream.
    pub(crate) fn settle(&mut self, key: Key) {
        let stream = self.streams.get_mut(key);
        if !stream.is_closed() {
            return;
        }
        if let Turn::Waits(turn) = stream.turn {
            stream.turn = Turn::None;
            if let Ok(at) = self.waiting.binary_search(&(turn, key)) {
                self.waiting.remove(at);
            }
        }
        if self.streams.settle(key) {
            self.wake_openers();
        }
        if self.streams.len() == 0 && (self.senders == 0 || self.leaving != Leaving::No) {
            self.wake_driver();
        }
    }

    /// After its last handle was dropped.
    pub(crate) fn settle_dropped(&mut self, key: Key) {
        if self.streams.contains(key) {
            self.settle(key);
        }
    }

    /// Ends a stream before its end, and says so.
    pub(crate) fn reset(&mut self, key: Key, reason: Reason, error: Error) {
        let stream = self.streams.get_mut(key);
        if stream.is_closed() {
            return;
        }
        let id = stream.id;
        if stream.receives {
            self.streams.remember_reset(id);
        }
        let dropped = self.streams.get_mut(key).fail(error);
        frame::put_reset(self.frames(), id, reason);
        self.release(dropped);
        self.settle(key);
    }

    /// Ends every stream, and takes no other.
    pub(crate) fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
        self.fail_streams(error, |_| true);
        // Nobody takes them up now.
        while self.accept().is_some() {}
        self.wake_openers();
        self.wake_driver();
    }

    fn fail_streams(&mut self, error: Error, which: impl Fn(&Stream) -> bool) {
        let ids = self.streams.iter_mut().filter(|stream| which(stream));
        let ids: Vec<u32> = ids.map(|stream| stream.id).collect();
        for id in ids {
            if let Some(key) = self.streams.key(id) {
                let dropped = self.streams.get_mut(key).fail(error);
                self.release(dropped);
                self.settle(key);
            }
        }
    }

    /// Leaves in good order: a server tells its client, serves what that opened before it knew,
    /// and then takes nothing more.
    pub(crate) fn leave(&mut self) {
        if self.leaving != Leaving::No || self.error.is_some() {
            return;
        }
        if self.is_client {
            self.leaving = Leaving::Closed;
            frame::put_goaway(self.frames(), 0, Reason::NO_ERROR, "");
            return;
        }
        self.leaving = Leaving::Told;
        let out = self.frames();
        frame::put_goaway(out, frame::LARGEST, Reason::NO_ERROR, "");
        frame::put(out, frame::PING, 0, 0, &LEAVING);
    }

    /// Leaves, and takes nothing more from now on.
    fn close(&mut self, reason: Reason, why: &str) {
        if self.leaving != Leaving::Closed {
            self.leaving = Leaving::Closed;
            let last = self.last;
            frame::put_goaway(self.frames(), last, reason, why);
        }
    }

    pub(crate) fn ping(&mut self) {
        frame::put(self.frames(), frame::PING, 0, 0, &PRESENT);
    }

    pub(crate) fn tick(&mut self) {
        self.flood.tick();
    }

    /// Gives back what was read of the connection's window.
    pub(crate) fn release(&mut self, bytes: usize) {
        if bytes > 0
            && let Some(told) = self.inward.release(bytes)
        {
            frame::put_window(self.frames(), 0, told);
        }
    }
}
