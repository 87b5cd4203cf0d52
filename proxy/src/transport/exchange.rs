//! A response on its way to the caller, beside what is left of the request on its way up.
//!
//! Invariant: an exchange ends as soon as its stream is ended from outside, and both of its sides
//! are told.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::body::{Incoming, Upload};
use super::call::Call;
use super::http_server::Answer;
use super::own_limits::OwnLimits;
use super::pipe::{Broken, Pipe, Sink, Way, code_of};
use crate::failure::Reason;
use crate::live::Stream;

/// Both directions of an answered call. Dropping it before its end is the caller's going away.
#[derive(Debug)]
pub(crate) struct Exchange {
    upload: Option<Box<Pipe<Upload>>>,
    download: Pipe<Incoming>,
    stream: Option<Arc<Stream>>,
    limits: OwnLimits,
    call: Box<Call>,
}

impl Exchange {
    pub(crate) fn new(answer: Answer, sink: Sink) -> Self {
        // What was ended is told so: a refusal is not broken off.
        let stream = answer.call.stream().filter(|_| !answer.call.is_complete());
        Self {
            upload: answer.upload,
            download: Pipe::new(answer.body, sink, Way::Down),
            stream: stream.cloned(),
            limits: OwnLimits::default(),
            call: answer.call,
        }
    }

    /// Whether an outside hand can end it.
    pub(crate) fn is_limited(&self) -> bool {
        self.stream.is_some()
    }

    /// Ready when the response has been passed on whole, or cannot be: whether it was.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let stream = self.stream.as_deref();
        if let Some(Poll::Ready(reason)) = stream.map(|it| it.poll_ended(context)) {
            self.call.fail(reason, "ended by the proxy");
            return Poll::Ready(self.break_off(code_of(reason)));
        }
        poll_upload(&mut self.upload, context, stream);
        let Poll::Ready(downloaded) = self.download.poll(context, stream) else {
            let limits = &mut self.limits;
            if stream.is_some_and(|it| limits.poll(it, context).is_ready()) {
                self.call.fail(Reason::Deadline, "ended by the proxy");
                return Poll::Ready(self.break_off(code_of(Reason::Deadline)));
            }
            return Poll::Pending;
        };
        match downloaded {
            Ok(()) => {
                self.call.delivered(self.download.grpc_status());
                return Poll::Ready(true);
            }
            Err(Broken::Source(fault)) => {
                let detail = format!("the upstream broke the response off: {fault}");
                self.call.broken(fault.reason(), &detail);
                self.break_off(fault.code());
            }
            // The call's record says that the caller went away.
            Err(Broken::Sink(_)) => {
                self.break_off(http2::Reason::CANCEL);
            }
        }
        Poll::Ready(false)
    }

    fn break_off(&mut self, code: http2::Reason) -> bool {
        self.download.break_off(code);
        if let Some(upload) = &mut self.upload {
            upload.break_off(code);
        }
        false
    }
}

/// Goes on with an upload while its response is on its way. Whether the upstream still wants it
/// is for the response to say.
fn poll_upload(
    upload: &mut Option<Box<Pipe<Upload>>>,
    context: &mut Context<'_>,
    stream: Option<&Stream>,
) {
    let Some(pipe) = upload else {
        return;
    };
    match pipe.poll(context, stream) {
        Poll::Pending => {}
        Poll::Ready(Ok(()) | Err(Broken::Sink(_))) => *upload = None,
        Poll::Ready(Err(Broken::Source(_))) => {
            pipe.break_off(http2::Reason::CANCEL);
            *upload = None;
        }
    }
}

/// Waits for what an upstream says, unless the stream is ended first.
///
/// The future is pinned by the caller: moved in here, it would be held twice.
pub(crate) async fn unless_ended<T>(
    stream: &Stream,
    mut answered: Pin<&mut impl Future<Output = T>>,
) -> Result<T, Reason> {
    let mut limits = OwnLimits::default();
    std::future::poll_fn(|context| {
        if let Poll::Ready(reason) = stream.poll_ended(context) {
            return Poll::Ready(Err(reason));
        }
        if let Poll::Ready(answer) = answered.as_mut().poll(context) {
            return Poll::Ready(Ok(answer));
        }
        limits.poll(stream, context).map(|()| Err(Reason::Deadline))
    })
    .await
}
