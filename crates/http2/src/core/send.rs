//! What goes out on streams that are open.

use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};

use super::Core;
use crate::Error;
use crate::frame::{self, HEAD, Head};
use crate::head;
use crate::stream::{Turn, set};
use crate::streams::Key;

impl Core {
    /// A response's head, or an interim.
    pub(crate) fn respond(
        &mut self,
        key: Key,
        status: StatusCode,
        fields: &HeaderMap,
        ends: bool,
    ) -> Result<(), Error> {
        let id = self.may_send(key)?;
        self.wake_driver();
        let out = self.output.frames();
        let start = out.len();
        out.resize(start + HEAD, 0);
        head::put_response(status, fields, &mut self.encoder, out);
        frame::seal_block(out, start, id, ends);
        let stream = self.streams.get_mut(key);
        if !status.is_informational() {
            stream.answered = true;
            self.flood.answered();
        }
        self.sent(key, ends);
        Ok(())
    }

    pub(crate) fn send_trailers(&mut self, key: Key, fields: &HeaderMap) -> Result<(), Error> {
        let id = self.may_send(key)?;
        if fields.is_empty() {
            return self.finish(key);
        }
        self.wake_driver();
        let out = self.output.frames();
        let start = out.len();
        out.resize(start + HEAD, 0);
        head::put_trailers(fields, &mut self.encoder, out);
        frame::seal_block(out, start, id, true);
        self.sent(key, true);
        Ok(())
    }

    /// Ends a body that has no more bytes.
    pub(crate) fn finish(&mut self, key: Key) -> Result<(), Error> {
        let id = self.may_send(key)?;
        frame::put(self.frames(), frame::DATA, frame::END_STREAM, id, &[]);
        self.sent(key, true);
        Ok(())
    }

    /// Sends as much of `data` as there is room for, and says how much that was.
    pub(crate) fn poll_data(
        &mut self,
        key: Key,
        context: &Context<'_>,
        data: &mut Bytes,
        last: bool,
    ) -> Poll<Result<usize, Error>> {
        let id = self.may_send(key)?;
        if data.is_empty() {
            return Poll::Ready(if last {
                self.finish(key).map(|()| 0)
            } else {
                Ok(0)
            });
        }
        let Some(room) = self.room(key, context) else {
            return Poll::Pending;
        };
        let taken = room.min(data.len());
        self.streams.get_mut(key).outward.take(taken);
        self.outward.take(taken);
        let ends = last && taken == data.len();
        let out = self.frames();
        let mut left = taken;
        while left > 0 {
            let length = left.min(frame::MOST);
            left -= length;
            let flags = if ends && left == 0 {
                frame::END_STREAM
            } else {
                0
            };
            let head = Head {
                length,
                kind: frame::DATA,
                flags,
                stream: id,
            };
            out.extend_from_slice(&head.bytes());
            out.extend_from_slice(&data[..length]);
            data.advance(length);
        }
        self.sent(key, ends);
        Poll::Ready(Ok(taken))
    }

    /// How much a body may send now; else it is woken when it may.
    fn room(&mut self, key: Key, context: &Context<'_>) -> Option<usize> {
        let shared = self.outward.room().min(self.output.room());
        let stream = self.streams.get_mut(key);
        let own = stream.outward.room();
        let room = own.min(shared);
        // Nobody waits for a turn while there is room on the connection.
        if room > 0 {
            stream.turn = Turn::None;
            return Some(room);
        }
        set(&mut stream.writer, context);
        // A stream whose own window is shut waits for its peer, not for a turn.
        if own == 0 {
            return None;
        }
        let turn = match stream.turn {
            Turn::Waits(_) => return None,
            // Others were faster: it stays before those that come again.
            Turn::Has(turn) => turn,
            Turn::None => {
                self.turns += 1;
                self.turns
            }
        };
        stream.turn = Turn::Waits(turn);
        let at = self.waiting.partition_point(|(other, _)| *other < turn);
        self.waiting.insert(at, (turn, key));
        None
    }

    fn may_send(&self, key: Key) -> Result<u32, Error> {
        let stream = self.streams.get(key);
        if stream.sends {
            return Ok(stream.id);
        }
        Err(stream.error.unwrap_or(Error::Closed))
    }

    fn sent(&mut self, key: Key, ends: bool) {
        if ends {
            self.streams.get_mut(key).sends = false;
            self.settle(key);
        }
    }
}
