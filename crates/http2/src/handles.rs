//! Handles on a connection's streams: one to read with, one to write with.
//!
//! Invariant: a stream that nobody holds and that has not ended is reset.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::core::Core;
use crate::head::{Outgoing, Response};
use crate::stream::{is_end, set};
use crate::streams::Key;
use crate::{Error, Reason};

pub(crate) type Shared = Rc<RefCell<Core>>;

/// Opens streams. The connection ends when the last clone is dropped and no stream is open.
#[derive(Debug)]
pub struct Requests {
    core: Shared,
}

/// Reads a stream.
#[derive(Debug)]
pub struct Reader {
    core: Shared,
    key: Key,
}

/// Writes to a stream.
#[derive(Debug)]
pub struct Writer {
    core: Shared,
    key: Key,
}

impl Requests {
    pub(crate) fn new(core: Shared) -> Self {
        core.borrow_mut().senders += 1;
        Self { core }
    }

    /// Whether it takes new requests: not once either side leaves, or it broke.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.core.borrow().takes_streams()
    }

    /// Whether the peer takes another stream now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.core.borrow().has_room_for_stream()
    }

    /// How many streams the peer takes.
    #[must_use]
    pub fn most_streams(&self) -> usize {
        self.core.borrow().peer_streams()
    }

    /// Ready when the peer takes another stream, or never will.
    pub fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        let mut core = self.core.borrow_mut();
        if core.has_room_for_stream() || !core.takes_streams() {
            return Poll::Ready(());
        }
        core.wait_for_stream(context.waker());
        Poll::Pending
    }

    /// Sends a request, whose body the writer takes unless it `ends` at once.
    ///
    /// # Errors
    /// If the connection takes none any more. Nothing was sent then.
    pub fn send(&self, head: &Outgoing<'_>, ends: bool) -> Result<(Reader, Option<Writer>), Error> {
        let mut core = self.core.borrow_mut();
        let key = core.request(head, ends)?;
        core.streams.get_mut(key).handles = if ends { 1 } else { 2 };
        let reader = Reader::new(&self.core, key);
        Ok((reader, (!ends).then(|| Writer::new(&self.core, key))))
    }
}

impl Clone for Requests {
    fn clone(&self) -> Self {
        Self::new(Rc::clone(&self.core))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        let mut core = self.core.borrow_mut();
        core.senders -= 1;
        if core.senders == 0 && core.streams.len() == 0 {
            core.wake_driver();
        }
    }
}

impl Reader {
    /// One of the handles that the stream already counts.
    pub(crate) fn new(core: &Shared, key: Key) -> Self {
        Self {
            core: Rc::clone(core),
            key,
        }
    }

    /// The response's head; what comes before it goes to `interim`.
    pub fn poll_head(
        &mut self,
        context: &Context<'_>,
        interim: impl FnMut(Response),
    ) -> Poll<Result<Response, Error>> {
        let mut core = self.core.borrow_mut();
        let stream = core.streams.get_mut(self.key);
        if !stream.body.interims.is_empty() {
            stream.body.interims.drain(..).for_each(interim);
        }
        if let Some(head) = stream.body.head.take() {
            return Poll::Ready(Ok(*head));
        }
        if let Some(error) = stream.broken {
            return Poll::Ready(Err(error));
        }
        set(&mut stream.reader, context);
        Poll::Pending
    }

    /// The next piece of the body; nothing at its end.
    pub fn poll_data(&mut self, context: &Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let mut core = self.core.borrow_mut();
        let stream = core.streams.get_mut(self.key);
        if let Some(data) = stream.body.pop() {
            return Poll::Ready(Some(Ok(data)));
        }
        if let Some(error) = stream.broken {
            return Poll::Ready(Some(Err(error)));
        }
        if !stream.receives {
            return Poll::Ready(None);
        }
        set(&mut stream.reader, context);
        Poll::Pending
    }

    /// What followed the body, once that was read.
    pub fn trailers(&mut self) -> Option<HeaderMap> {
        let mut core = self.core.borrow_mut();
        let trailers = core.streams.get_mut(self.key).body.trailers.take();
        trailers.map(|trailers| *trailers)
    }

    /// Whether all was read.
    #[must_use]
    pub fn is_end(&self) -> bool {
        is_end(self.core.borrow().streams.get(self.key))
    }

    /// So many bytes were passed on: the peer may send as many more. What was read and not passed
    /// on counts as such when this is dropped.
    pub fn release(&mut self, bytes: usize) {
        let mut core = self.core.borrow_mut();
        let passed = core.streams.get_mut(self.key).body.pass_on(bytes);
        core.give_back(self.key, passed);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut core = self.core.borrow_mut();
        let stream = core.streams.get_mut(self.key);
        stream.unread = true;
        stream.reader = None;
        let cleared = stream.body.clear();
        let left = cleared + stream.body.pass_on(usize::MAX);
        core.give_back(self.key, left);
        drop_handle(&mut core, self.key);
    }
}

impl Writer {
    /// One of the handles that the stream already counts.
    pub(crate) fn new(core: &Shared, key: Key) -> Self {
        Self {
            core: Rc::clone(core),
            key,
        }
    }

    /// Sends a response's head, or an interim.
    ///
    /// # Errors
    /// If the stream has ended.
    pub fn respond(
        &mut self,
        status: StatusCode,
        fields: &HeaderMap,
        ends: bool,
    ) -> Result<(), Error> {
        let mut core = self.core.borrow_mut();
        core.respond(self.key, status, fields, ends)
    }

    /// Takes from `data` what there is room for, and says how much; with the `last` of it the
    /// stream ends.
    ///
    /// # Errors
    /// If the stream has ended.
    pub fn poll_data(
        &mut self,
        context: &Context<'_>,
        data: &mut Bytes,
        last: bool,
    ) -> Poll<Result<usize, Error>> {
        let mut core = self.core.borrow_mut();
        core.poll_data(self.key, context, data, last)
    }

    /// # Errors
    /// If the stream has ended.
    pub fn trailers(&mut self, fields: &HeaderMap) -> Result<(), Error> {
        self.core.borrow_mut().send_trailers(self.key, fields)
    }

    /// Ends a body that has no more bytes.
    ///
    /// # Errors
    /// If the stream has ended.
    pub fn finish(&mut self) -> Result<(), Error> {
        self.core.borrow_mut().finish(self.key)
    }

    /// Ready when the stream was ended by the peer, or with its connection.
    pub fn poll_reset(&mut self, context: &Context<'_>) -> Poll<Error> {
        let mut core = self.core.borrow_mut();
        let stream = core.streams.get_mut(self.key);
        if let Some(error) = stream.error {
            return Poll::Ready(error);
        }
        set(&mut stream.writer, context);
        Poll::Pending
    }

    /// Ends the stream before its end.
    pub fn reset(&mut self, reason: Reason) {
        let mut core = self.core.borrow_mut();
        core.reset(self.key, reason, Error::Closed);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut core = self.core.borrow_mut();
        core.streams.get_mut(self.key).writer = None;
        drop_handle(&mut core, self.key);
    }
}

fn drop_handle(core: &mut Core, key: Key) {
    let is_client = core.is_client;
    let stream = core.streams.get_mut(key);
    stream.handles -= 1;
    if stream.handles > 0 {
        return;
    }
    // A server that has answered whole does not want the rest (RFC 9113 section 8.1).
    let reason = if !is_client && !stream.sends {
        Reason::NO_ERROR
    } else {
        Reason::CANCEL
    };
    core.reset(key, reason, Error::Closed);
    core.settle_dropped(key);
}
