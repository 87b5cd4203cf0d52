//! Carries a body from the side that it comes from to the side that it goes to, as fast as that
//! side takes it.
//!
//! Invariant: trailers hold nothing that only a proxy may say, and a pipe holds at most one piece
//! that its sink has not taken.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http2::Writer;

use super::body::{Frame, Source};
use super::failure::POLICY_DENIED;
use super::fault::Fault;
use super::http1_connection::Shared;
use crate::failure::Reason;
use crate::head::{self, fields};
use crate::live::Stream;

/// The side that a body goes to.
#[derive(Debug)]
pub(crate) enum Sink {
    /// The message has no body, and was sent whole.
    Done,
    Http1(Shared),
    Http2(Writer),
}

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Pipe<S> {
    source: S,
    sink: Sink,
    way: Way,
    held: Bytes,
    step: Step,
    /// What trailers said.
    grpc_status: Option<u8>,
}

/// As the caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// Who broke it.
#[derive(Debug)]
pub(crate) enum Broken {
    Source(Fault),
    Sink(Fault),
}

#[derive(Debug)]
enum Step {
    Flowing,
    Trailers(Box<HeaderMap>),
    /// All of it was given to the sink, which is to let go of it.
    Flushing,
    Done,
}

impl<S: Source> Pipe<S> {
    pub(crate) fn new(source: S, sink: Sink, way: Way) -> Self {
        let step = match sink {
            Sink::Done => Step::Done,
            _ => Step::Flowing,
        };
        Self {
            source,
            sink,
            way,
            held: Bytes::new(),
            step,
            grpc_status: None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.step, Step::Done)
    }

    /// What the trailers said, if there were any.
    pub(crate) fn grpc_status(&self) -> Option<u8> {
        self.grpc_status
    }

    /// What it carries.
    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    /// What it was to carry.
    pub(crate) fn into_source(self) -> S {
        self.source
    }

    /// Ready when all of it was taken.
    ///
    /// # Errors
    /// If one of the sides broke.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        stream: Option<&Stream>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            match &mut self.step {
                Step::Done => return Poll::Ready(Ok(())),
                Step::Flushing => {
                    ready!(self.sink.poll_flush(context)).map_err(Broken::Sink)?;
                    self.step = Step::Done;
                }
                Step::Trailers(trailers) => {
                    let trailers = std::mem::take(&mut **trailers);
                    self.sink.trailers(&trailers).map_err(Broken::Sink)?;
                    self.step = Step::Flushing;
                }
                Step::Flowing if self.held.is_empty() => ready!(self.poll_source(context))?,
                Step::Flowing => ready!(self.poll_sink(context, stream))?,
            }
        }
    }

    /// Tells the side that it goes to that it will not come to its end.
    pub(crate) fn break_off(&mut self, code: http2::Reason) {
        if !self.is_done() {
            self.sink.break_off(code);
            self.step = Step::Done;
        }
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let frame = match self.source.poll_frame(context) {
            Poll::Ready(frame) => frame.transpose().map_err(Broken::Source)?,
            Poll::Pending => {
                self.sink.poll_idle(context).map_err(Broken::Sink)?;
                return Poll::Pending;
            }
        };
        match frame {
            Some(Frame::Data(data)) => self.held = data,
            Some(Frame::Trailers(mut trailers)) => {
                fields::clean_trailers(&mut trailers);
                self.grpc_status = head::grpc_status(&trailers);
                self.step = Step::Trailers(Box::new(trailers));
            }
            None => {
                self.sink.finish().map_err(Broken::Sink)?;
                self.step = Step::Flushing;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_sink(
        &mut self,
        context: &mut Context<'_>,
        stream: Option<&Stream>,
    ) -> Poll<Result<(), Broken>> {
        let last = self.source.is_end();
        let taken = ready!(self.sink.poll_data(context, &mut self.held, last));
        let taken = taken.map_err(Broken::Sink)?;
        self.source.release(taken);
        match (stream, self.way) {
            (Some(stream), Way::Up) => stream.count_in(taken),
            (Some(stream), Way::Down) => stream.count_out(taken),
            (None, _) => {}
        }
        if last && self.held.is_empty() {
            self.step = Step::Flushing;
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink {
    /// Takes as much of `data` as it has room for, and how much that was; with all of it ends the
    /// message if this is its `last` piece.
    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
        data: &mut Bytes,
        last: bool,
    ) -> Poll<Result<usize, Fault>> {
        match self {
            Self::Done => Poll::Ready(Ok(std::mem::take(data).len())),
            Self::Http1(connection) => connection.borrow_mut().poll_data(context, data, last),
            Self::Http2(stream) => stream.poll_data(context, data, last).map_err(Fault::Http2),
        }
    }

    fn trailers(&mut self, trailers: &HeaderMap) -> Result<(), Fault> {
        match self {
            Self::Done => Ok(()),
            Self::Http1(connection) => connection.borrow_mut().trailers(trailers),
            Self::Http2(stream) => Ok(stream.trailers(trailers)?),
        }
    }

    fn finish(&mut self) -> Result<(), Fault> {
        match self {
            Self::Done => Ok(()),
            Self::Http1(connection) => connection.borrow_mut().finish(),
            Self::Http2(stream) => Ok(stream.finish()?),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match self {
            Self::Http1(connection) => connection
                .borrow_mut()
                .poll_flush(context)
                .map_err(Fault::Io),
            // The connection's task sends it.
            Self::Done | Self::Http2(_) => Poll::Ready(Ok(())),
        }
    }

    /// There is nothing to take at present: sends what there is, and looks whether the other side
    /// is still there.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Result<(), Fault> {
        match self {
            Self::Done => Ok(()),
            Self::Http1(connection) => match connection.borrow_mut().poll_flush(context) {
                Poll::Ready(Err(error)) => Err(error.into()),
                _ => Ok(()),
            },
            Self::Http2(stream) => match stream.poll_reset(context) {
                Poll::Ready(error) => Err(error.into()),
                Poll::Pending => Ok(()),
            },
        }
    }

    fn break_off(&mut self, code: http2::Reason) {
        match self {
            Self::Done => {}
            Self::Http1(connection) => connection.borrow_mut().abandon(),
            Self::Http2(stream) => stream.reset(code),
        }
    }
}

/// The code that a stream ended by us is broken off with.
pub(crate) fn code_of(reason: Reason) -> http2::Reason {
    match reason {
        Reason::PolicyDenied => http2::Reason::from(POLICY_DENIED),
        _ => http2::Reason::CANCEL,
    }
}
