//! One HTTP/1 connection, either side of it: the codec over a stream.
//!
//! Invariant: the next message is read only after the last one's body has ended, and a connection
//! on which anything went wrong carries no further message. It buffers at most one read in each
//! direction beyond what its reader or its socket takes.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use tokio::io::AsyncWrite;

use super::application::Home;
use super::body::Frame;
use super::fault::Fault;
use super::io::{Io, poll_receive};
use super::tunnel::Tunnel;
use crate::http1::{
    BodyReader, BodyWriter, Connection as Persistence, Framing, HeadReader, Limits, Piece, Request,
    RequestLine, Response, WriteQueue, write_informational, write_request_head,
    write_response_head,
};

/// A connection that its reader and its writer hold together; both are on one task.
pub(crate) type Shared = Rc<RefCell<Connection>>;

/// Output waits for the socket above this.
const MOST_OUTPUT: usize = 64 * 1024;

/// What is read ahead of a message that is not over.
const MOST_AHEAD: usize = 16 * 1024;
const SLICES: usize = 16;

#[derive(Debug)]
pub(crate) struct Connection {
    io: Io,
    limits: Limits,
    received: BytesMut,
    heads: HeadReader,
    reading: BodyReader,
    output: WriteQueue,
    writing: Option<BodyWriter>,
    /// The client waits for 100 (Continue) before it sends its body.
    expected: bool,
    unflushed: bool,
    /// Nothing more may be sent or received.
    broken: bool,
}

/// The body of the message that is being received.
#[derive(Debug)]
pub(crate) struct Http1Body {
    connection: Shared,
    /// Where the connection goes once the body has ended.
    home: Option<Home>,
}

impl Connection {
    /// `received` was read from `io` before.
    pub(crate) fn new(io: Io, received: BytesMut, limits: Limits) -> Shared {
        Rc::new(RefCell::new(Self {
            io,
            limits,
            received,
            heads: HeadReader::new(limits),
            reading: BodyReader::new(Framing::Empty, &limits),
            output: WriteQueue::new(),
            writing: None,
            expected: false,
            unflushed: false,
            broken: false,
        }))
    }

    /// The head of the next request; none if the client has ended the connection.
    ///
    /// # Errors
    /// If the head breaks a rule, or the stream broke.
    pub(crate) fn poll_request(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Request>, Fault>> {
        loop {
            if let Some(request) = self.heads.request(&mut self.received)? {
                self.reading = BodyReader::new(request.framing, &self.limits);
                self.expected = request.expects_continue;
                return Poll::Ready(Ok(Some(request)));
            }
            if ready!(self.poll_more(context))? == 0 {
                self.heads.end_of_stream(&self.received)?;
                return Poll::Ready(Ok(None));
            }
        }
    }

    /// The head of the next response to a request with this method.
    ///
    /// # Errors
    /// If the head breaks a rule, or the stream broke or ended.
    pub(crate) fn poll_response(
        &mut self,
        context: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<Response, Fault>> {
        loop {
            if let Some(response) = self.heads.response(&mut self.received, method)? {
                let framing = match response.framing {
                    // What follows is no body of this message.
                    Framing::Tunnel => Framing::Empty,
                    framing => framing,
                };
                self.reading = BodyReader::new(framing, &self.limits);
                return Poll::Ready(Ok(response));
            }
            if ready!(self.poll_more(context))? == 0 {
                return Poll::Ready(Err(Fault::Closed));
            }
        }
    }

    /// Whether nothing has come since the last message.
    pub(crate) fn is_untouched(&self) -> bool {
        self.received.is_empty()
    }

    /// Whether the body of the message that was received last has been read to its end.
    pub(crate) fn has_received_all(&self) -> bool {
        self.reading.is_ended()
    }

    /// Whether the message that was sent last was sent to its end.
    pub(crate) fn has_sent_all(&self) -> bool {
        self.writing.is_none() && !self.output.has_remaining() && !self.unflushed
    }

    /// Whether nothing went wrong on it.
    pub(crate) fn is_whole(&self) -> bool {
        !self.broken
    }

    /// What goes on over it once HTTP has ended on it; none if it was in the middle of a message,
    /// or if somebody else still holds it.
    pub(crate) fn into_tunnel(connection: Shared) -> Option<Tunnel> {
        let connection = Rc::into_inner(connection)?.into_inner();
        let rests = connection.is_whole() && connection.has_received_all();
        let rests = rests && connection.has_sent_all();
        rests.then(|| Tunnel::new(connection.io, connection.received))
    }

    /// Nothing more goes over it: what it was in the middle of cannot be ended well.
    pub(crate) fn abandon(&mut self) {
        self.broken = true;
    }

    /// # Errors
    /// If the head cannot be said in HTTP/1.
    pub(crate) fn request_head(
        &mut self,
        line: RequestLine<'_>,
        fields: &HeaderMap,
        framing: Framing,
        persistence: &Persistence,
    ) -> Result<(), Fault> {
        write_request_head(&mut self.output, line, fields, framing, persistence)?;
        self.begin_body(framing);
        Ok(())
    }

    /// # Errors
    /// If the head cannot be said in HTTP/1.
    pub(crate) fn response_head(
        &mut self,
        method: &Method,
        status: StatusCode,
        fields: &HeaderMap,
        framing: Framing,
        persistence: &Persistence,
    ) -> Result<(), Fault> {
        // The final response answers the expectation.
        self.expected = false;
        write_response_head(
            &mut self.output,
            method,
            status,
            fields,
            framing,
            persistence,
        )?;
        self.begin_body(framing);
        Ok(())
    }

    /// # Errors
    /// If it is no informational response.
    pub(crate) fn informational(
        &mut self,
        status: StatusCode,
        fields: &HeaderMap,
    ) -> Result<(), Fault> {
        if status == StatusCode::CONTINUE {
            self.expected = false;
        }
        write_informational(&mut self.output, status, fields)?;
        self.unflushed = true;
        Ok(())
    }

    /// Whether more output has to wait for the socket.
    pub(crate) fn is_full(&self) -> bool {
        self.output.remaining() >= MOST_OUTPUT
    }

    /// Takes all of `data` once there is room for it.
    pub(crate) fn poll_data(
        &mut self,
        context: &mut Context<'_>,
        data: &mut Bytes,
        last: bool,
    ) -> Poll<Result<usize, Fault>> {
        if self.is_full() {
            ready!(self.poll_flush(context))?;
        }
        let taken = data.len();
        let body = self.writing.as_mut().ok_or(Fault::Closed)?;
        body.data(std::mem::take(data), &mut self.output)?;
        self.unflushed = true;
        if last {
            self.finish()?;
        }
        Poll::Ready(Ok(taken))
    }

    /// All of a short body.
    pub(crate) fn words(&mut self, words: Bytes) {
        if let Some(mut body) = self.writing.take() {
            let written = body.data(words, &mut self.output);
            let ended = written.and_then(|()| body.end(None, &mut self.output));
            self.broken |= ended.is_err();
        }
    }

    /// # Errors
    /// If content is missing.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), Fault> {
        let Some(body) = self.writing.take() else {
            return Ok(());
        };
        // A message without chunks has no place for them; RFC 9110 section 6.5.1 lets them go.
        let trailers = body.takes_trailers().then_some(trailers);
        body.end(trailers, &mut self.output)?;
        self.unflushed = true;
        Ok(())
    }

    /// # Errors
    /// If content is missing.
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        if let Some(body) = self.writing.take() {
            body.end(None, &mut self.output)?;
            self.unflushed = true;
        }
        Ok(())
    }

    /// Sends what there is.
    ///
    /// # Errors
    /// If the stream broke.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.poll_send(context));
        self.broken |= flushed.is_err();
        Poll::Ready(flushed)
    }

    /// Looks whether the peer is still there, while it is not its turn to speak: what it says
    /// early is kept for later. Ready if it has gone.
    pub(crate) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.received.len() < MOST_AHEAD {
            match ready!(self.poll_more(context)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Passes over what has arrived of a body that nobody reads.
    pub(crate) fn skip_received(&mut self) {
        while let Ok(Piece::Data(_) | Piece::Trailers(_)) = self.reading.pull(&mut self.received) {}
    }

    /// Sends what is left, and that nothing follows.
    pub(crate) fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(context))?;
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    /// Reads and throws away. Ready at the end of the stream.
    pub(crate) fn poll_discard(
        &mut self,
        context: &mut Context<'_>,
        most: &mut usize,
    ) -> Poll<io::Result<()>> {
        loop {
            self.received.clear();
            let count = ready!(self.poll_more(context))?;
            if count == 0 || count > *most {
                return Poll::Ready(Ok(()));
            }
            *most -= count;
        }
    }

    fn begin_body(&mut self, framing: Framing) {
        self.unflushed = true;
        self.writing = match framing {
            Framing::Empty | Framing::Length(0) | Framing::Tunnel => None,
            _ => Some(BodyWriter::new(framing)),
        };
    }

    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.received.is_empty() && self.received.capacity() > 0 {
            // An idle connection holds no buffer.
            self.received = BytesMut::new();
        }
        let received = ready!(poll_receive(&mut self.io, context, &mut self.received));
        self.broken |= !matches!(received, Ok(1..));
        Poll::Ready(received)
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.output.has_remaining() {
            let io = Pin::new(&mut self.io);
            let written = if self.output.is_one_chunk() {
                // Cheaper than a vectored write of one slice.
                ready!(io.poll_write(context, self.output.chunk()))?
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let count = self.output.chunks_vectored(&mut slices);
                ready!(io.poll_write_vectored(context, &slices[..count]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, Fault>>> {
        loop {
            match self.reading.pull(&mut self.received) {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::Data(data)))),
                Ok(Piece::Trailers(fields)) => {
                    return Poll::Ready(Some(Ok(Frame::Trailers(fields))));
                }
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::NeedMore) => {}
                Err(rule) => {
                    self.broken = true;
                    return Poll::Ready(Some(Err(rule.into())));
                }
            }
            if let Err(fault) = self.answer_expectation(context) {
                return Poll::Ready(Some(Err(fault)));
            }
            match ready!(self.poll_more(context)) {
                Ok(1..) => {}
                Ok(0) => {
                    let ended = self.reading.end_of_stream();
                    return Poll::Ready(ended.err().map(|rule| Err(rule.into())));
                }
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// The body is wanted, so the client that waits is told (RFC 9110 section 10.1.1).
    fn answer_expectation(&mut self, context: &mut Context<'_>) -> Result<(), Fault> {
        if self.expected {
            self.informational(StatusCode::CONTINUE, &HeaderMap::new())?;
        }
        match self.unflushed.then(|| self.poll_flush(context)) {
            Some(Poll::Ready(Err(error))) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Http1Body {
    pub(crate) fn new(connection: Shared, home: Option<Home>) -> Self {
        Self { connection, home }
    }

    pub(super) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, Fault>>> {
        self.connection.borrow_mut().poll_frame(context)
    }

    pub(super) fn is_end(&self) -> bool {
        self.connection.borrow().has_received_all()
    }
}

impl Drop for Http1Body {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.take_back(&self.connection);
        }
    }
}
