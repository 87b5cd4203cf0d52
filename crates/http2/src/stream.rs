//! What is known of one stream (RFC 9113 section 5.1).

use std::collections::VecDeque;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::HeaderMap;

use crate::head::Response;
use crate::window::{ReceiveWindow, SendWindow};
use crate::{Config, Error};

/// More interims than this do not wait for their reader: they are a courtesy.
const MOST_INTERIMS: usize = 8;

/// Two pieces of a body that are no larger together are one.
const SMALL: usize = 1024;

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    /// How many handles there are on it.
    pub(crate) handles: u8,
    /// Whether we may yet send on it, and the peer.
    pub(crate) sends: bool,
    pub(crate) receives: bool,
    /// Why it ended before its end, for the one who writes, and the one who reads: what came whole
    /// is read to its end.
    pub(crate) error: Option<Error>,
    pub(crate) broken: Option<Error>,
    pub(crate) outward: SendWindow,
    pub(crate) inward: ReceiveWindow,
    /// Its place among those that wait for room on the connection.
    pub(crate) turn: Turn,
    /// Nobody reads it any more.
    pub(crate) unread: bool,
    /// Whether its head, which is not an interim, came or went.
    pub(crate) answered: bool,
    pub(crate) body: Body,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
}

/// What came on a stream, and waits to be read.
#[derive(Debug, Default)]
pub(crate) struct Body {
    pub(crate) head: Option<Box<Response>>,
    pub(crate) interims: Vec<Response>,
    first: Bytes,
    rest: VecDeque<Bytes>,
    pub(crate) trailers: Option<Box<HeaderMap>>,
    /// Bytes that came and were not passed on, whether or not somebody took them.
    held: usize,
    /// Of the declared length, what has not come.
    pub(crate) expected: Option<u64>,
    /// The response to a HEAD has a length and no body.
    pub(crate) is_for_head: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    None,
    /// With its number: lower ones came before.
    Waits(u64),
    /// It has been woken, and keeps its place if there is no room after all.
    Has(u64),
}

impl Stream {
    pub(crate) fn new(id: u32, config: &Config, peer_window: u32) -> Self {
        Self {
            id,
            handles: 0,
            sends: true,
            receives: true,
            error: None,
            broken: None,
            outward: SendWindow::new(peer_window),
            inward: ReceiveWindow::new(config.stream_window),
            turn: Turn::None,
            unread: false,
            answered: false,
            body: Body::default(),
            reader: None,
            writer: None,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        !self.sends && !self.receives
    }

    /// Ends both directions, and says how many bytes nobody will read now.
    pub(crate) fn fail(&mut self, error: Error) -> usize {
        if self.is_closed() {
            return 0;
        }
        let mut dropped = 0;
        if self.receives {
            self.broken = Some(error);
            dropped = self.body.clear();
        }
        (self.sends, self.receives) = (false, false);
        self.error = Some(error);
        self.wake_reader();
        self.wake_writer();
        dropped
    }

    pub(crate) fn wake_reader(&mut self) {
        if let Some(task) = self.reader.take() {
            task.wake();
        }
    }

    pub(crate) fn wake_writer(&mut self) {
        if let Some(task) = self.writer.take() {
            task.wake();
        }
    }
}

impl Body {
    /// Keeps `data` for its reader. Small pieces that wait are joined: what they cost is bounded
    /// by the window too.
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.held += data.len();
        if self.first.is_empty() {
            self.first = Bytes::copy_from_slice(data);
            return;
        }
        let last = self.rest.back_mut().unwrap_or(&mut self.first);
        if last.len() + data.len() <= SMALL {
            *last = [last, data].concat().into();
        } else {
            self.rest.push_back(Bytes::copy_from_slice(data));
        }
    }

    /// So much was passed on, of what is held: says how much that is.
    pub(crate) fn pass_on(&mut self, bytes: usize) -> usize {
        let passed = bytes.min(self.held);
        self.held -= passed;
        passed
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.first.is_empty() {
            return None;
        }
        let next = self.rest.pop_front().unwrap_or_default();
        Some(std::mem::replace(&mut self.first, next))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Keeps it for the reader; no if too many wait already.
    #[must_use]
    pub(crate) fn push_interim(&mut self, interim: Response) -> bool {
        let has_room = self.interims.len() < MOST_INTERIMS;
        if has_room {
            self.interims.push(interim);
        }
        has_room
    }

    /// Counts what came against the declared length; no if it is more.
    #[must_use]
    pub(crate) fn count(&mut self, bytes: usize) -> bool {
        if self.is_for_head {
            return bytes == 0;
        }
        match &mut self.expected {
            Some(left) => match left.checked_sub(bytes as u64) {
                Some(rest) => {
                    *left = rest;
                    true
                }
                None => false,
            },
            None => true,
        }
    }

    /// Whether it may end here.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_for_head || self.expected.is_none_or(|left| left == 0)
    }

    /// Drops what nobody took, and says how many bytes that was.
    pub(crate) fn clear(&mut self) -> usize {
        let rest: usize = self.rest.iter().map(Bytes::len).sum();
        let bytes = self.first.len() + rest;
        self.first = Bytes::new();
        self.rest = VecDeque::new();
        self.pass_on(bytes)
    }
}

/// Has this task woken, and no other.
pub(crate) fn set(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(context.waker()),
        None => *place = Some(context.waker().clone()),
    }
}

/// How a stream stands towards those who read it.
pub(crate) fn is_end(stream: &Stream) -> bool {
    !stream.receives
        && stream.broken.is_none()
        && stream.body.is_empty()
        && stream.body.trailers.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiny_pieces_that_wait_are_joined() {
        let mut body = Body::default();
        for byte in 0..=u8::MAX {
            (0..256).for_each(|_| body.push(&[byte]));
        }
        let pieces: Vec<Bytes> = std::iter::from_fn(|| body.pop()).collect();
        assert_eq!(pieces.len(), 65_536 / SMALL);
        let expected: Vec<u8> = (0..=u8::MAX).flat_map(|byte| [byte; 256]).collect();
        assert_eq!(pieces.concat(), expected);
    }
}
