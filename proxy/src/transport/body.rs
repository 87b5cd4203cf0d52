//! Bodies on their way through: counted, bounded in time, never collected.
//!
//! Invariant: a body ends as soon as its stream is ended from outside, and its trailers hold
//! nothing that only a proxy may say.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::call::Call;
use super::failure::{POLICY_DENIED, stream_reason};
use crate::failure::Reason;
use crate::head::fields;
use crate::live::Stream;

/// A request's body towards the upstream.
#[derive(Debug)]
pub(crate) struct Upload {
    inner: Option<Incoming>,
    stream: Arc<Stream>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// A response's body towards the caller.
#[derive(Debug)]
pub(crate) enum Download {
    /// A few words of our own.
    Words {
        text: Option<Bytes>,
        _call: Box<Call>,
    },
    Relayed(Box<Relayed>),
}

/// A response's body from the upstream. The call's record is written when this is dropped.
#[derive(Debug)]
pub(crate) struct Relayed {
    inner: Incoming,
    stream: Arc<Stream>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    call: Call,
}

/// A body that did not reach its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// By us.
    Ended { reason: Reason, code: h2::Error },
    /// By the side that it came from.
    Received(hyper::Error),
}

impl Upload {
    pub(crate) fn new(inner: Incoming, stream: Arc<Stream>) -> Self {
        let ended = Box::pin(stream.ended());
        Self {
            inner: Some(inner),
            stream,
            ended,
        }
    }

    /// Nothing: the second attempt of a request that has no body.
    pub(crate) fn empty(stream: Arc<Stream>) -> Self {
        let ended = Box::pin(stream.ended());
        Self {
            inner: None,
            stream,
            ended,
        }
    }
}

impl Download {
    pub(crate) fn words(text: impl Into<Bytes>, call: Call) -> Self {
        let text: Bytes = text.into();
        Self::Words {
            text: (!text.is_empty()).then_some(text),
            _call: Box::new(call),
        }
    }

    pub(crate) fn relayed(inner: Incoming, stream: Arc<Stream>, mut call: Call) -> Self {
        if inner.is_end_stream() {
            call.complete();
        }
        let ended = Box::pin(stream.ended());
        Self::Relayed(Box::new(Relayed {
            inner,
            stream,
            ended,
            call,
        }))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.ended.as_mut().poll(context).is_ready() {
            let reason = self.stream.reason().unwrap_or(Reason::Deadline);
            return Poll::Ready(Some(Err(Broken::ended(reason))));
        }
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(inner).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            self.stream.count_in(data_length(frame));
        }
        Poll::Ready(frame.map(|it| it.map(cleaned).map_err(Broken::Received)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let nothing = || SizeHint::with_exact(0);
        self.inner.as_ref().map_or_else(nothing, Body::size_hint)
    }
}

impl Relayed {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.ended.as_mut().poll(context).is_ready() {
            let reason = self.stream.reason().unwrap_or(Reason::Deadline);
            self.call.fail(reason, "ended by the proxy");
            return Poll::Ready(Some(Err(Broken::ended(reason))));
        }
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            None => {
                self.call.complete();
                Poll::Ready(None)
            }
            Some(Ok(frame)) => {
                self.stream.count_out(data_length(&frame));
                let frame = cleaned(frame);
                if self.inner.is_end_stream() {
                    self.call.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.call
                    .fail(stream_reason(&error), "the upstream broke the response off");
                Poll::Ready(Some(Err(Broken::Received(error))))
            }
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Words { text, .. } => Poll::Ready(text.take().map(|it| Ok(Frame::data(it)))),
            Self::Relayed(relayed) => relayed.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Words { text, .. } => text.is_none(),
            Self::Relayed(relayed) => relayed.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Words { text, .. } => {
                SizeHint::with_exact(text.as_ref().map_or(0, |it| it.len() as u64))
            }
            Self::Relayed(relayed) => relayed.inner.size_hint(),
        }
    }
}

impl Broken {
    fn ended(reason: Reason) -> Self {
        let code = match reason {
            Reason::PolicyDenied => h2::Reason::from(POLICY_DENIED),
            _ => h2::Reason::CANCEL,
        };
        Self::Ended {
            reason,
            code: code.into(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended { reason, .. } => write!(f, "ended by the proxy: {reason}"),
            Self::Received(_) => f.write_str("the other side broke the body off"),
        }
    }
}

/// hyper takes the code for RST_STREAM from the chain of sources.
impl Error for Broken {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Ended { code, .. } => Some(code),
            Self::Received(error) => Some(error),
        }
    }
}

fn data_length(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len)
}

fn cleaned(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        fields::clean_trailers(trailers);
    }
    frame
}
