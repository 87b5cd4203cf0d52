//! Bodies on their way through: in pieces, never collected.
//!
//! Invariant: an HTTP/2 stream's window opens again only for bytes that the other side has taken,
//! so a slow reader slows its own sender and nobody else.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http2::Reader;

use super::fault::Fault;
use super::http1_connection::Http1Body;
use super::tunnel::Onward;

/// What comes next of a body.
#[derive(Debug)]
pub(crate) enum Frame {
    Data(Bytes),
    /// The last frame, if there is one.
    Trailers(HeaderMap),
}

/// A body from the side that it comes from.
#[derive(Debug)]
pub(crate) enum Incoming {
    Empty,
    /// A few words of our own.
    Words(Bytes),
    Http1(Http1Body),
    Http2(Reader),
    /// HTTP ends here, for the connection goes on otherwise.
    Onward(Box<Onward>),
}

/// Where a pipe takes a body from.
pub(crate) trait Source {
    /// The next frame; none is the end.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, Fault>>>;

    /// Whether it is known that nothing follows.
    fn is_end(&self) -> bool;

    /// The other side has taken so many bytes.
    fn release(&mut self, bytes: usize);
}

/// A request's body towards an upstream, which says whether another attempt may begin it again.
/// None where there is no body, which is most often so: a call then has no room for one.
#[derive(Debug)]
pub(crate) struct Upload(Option<Box<Content>>);

#[derive(Debug)]
struct Content {
    body: Incoming,
    /// All that was given, while all of it is kept.
    kept: Option<Kept>,
    touched: bool,
    length: Option<u64>,
}

/// What was given of an upload, from its start.
#[derive(Debug)]
struct Kept {
    pieces: Vec<Bytes>,
    /// How many bytes more may be kept.
    room: usize,
    /// The first of the pieces that the present attempt has not been given.
    next: usize,
    /// Until the answer is known, and not only while it is sent.
    outlasts: bool,
}

impl Incoming {
    pub(crate) fn http2(stream: Reader) -> Self {
        if stream.is_end() {
            Self::Empty
        } else {
            Self::Http2(stream)
        }
    }

    pub(crate) fn words(text: impl Into<Bytes>) -> Self {
        Self::Words(text.into())
    }
}

impl Source for Incoming {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, Fault>>> {
        match self {
            Self::Empty | Self::Onward(_) => Poll::Ready(None),
            Self::Words(words) if words.is_empty() => Poll::Ready(None),
            Self::Words(words) => Poll::Ready(Some(Ok(Frame::Data(std::mem::take(words))))),
            Self::Http1(body) => body.poll_frame(context),
            Self::Http2(stream) => poll_http2(stream, context),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Empty | Self::Onward(_) => true,
            Self::Words(words) => words.is_empty(),
            Self::Http1(body) => body.is_end(),
            Self::Http2(stream) => stream.is_end(),
        }
    }

    fn release(&mut self, bytes: usize) {
        if let Self::Http2(stream) = self {
            stream.release(bytes);
        }
    }
}

impl Upload {
    pub(crate) fn new(body: Incoming, length: Option<u64>) -> Self {
        if matches!(body, Incoming::Empty) {
            return Self::nothing();
        }
        Self(Some(Box::new(Content {
            body,
            kept: None,
            touched: false,
            length,
        })))
    }

    /// That of a request without a body.
    pub(crate) fn nothing() -> Self {
        Self(None)
    }

    /// Its declared length, if it has one.
    pub(crate) fn length(&self) -> Option<u64> {
        self.0.as_ref().map_or(Some(0), |content| content.length)
    }

    /// From here on keeps what is given, up to `most` bytes, so that it can be given again.
    pub(crate) fn keep(&mut self, most: usize) {
        if let Some(content) = self.0.as_mut().filter(|content| !content.touched) {
            content.kept = Some(Kept {
                pieces: Vec::new(),
                room: most,
                next: 0,
                outlasts: false,
            });
        }
    }

    /// What is kept is there until the answer is known, so that an answer can be a reason to send
    /// it again.
    pub(crate) fn keep_until_answered(&mut self) {
        let kept = self.0.as_mut().and_then(|content| content.kept.as_mut());
        if let Some(kept) = kept {
            kept.outlasts = true;
        }
    }

    /// Whether it is to be kept although it was sent.
    pub(crate) fn outlasts(&self) -> bool {
        let kept = self.0.as_ref().and_then(|content| content.kept.as_ref());
        kept.is_some_and(|kept| kept.outlasts)
    }

    /// Whether an attempt can begin it from its start.
    pub(crate) fn can_begin(&self) -> bool {
        let content = self.0.as_ref();
        content.is_none_or(|content| !content.touched || content.kept.is_some())
    }

    /// Whether the request has no body at all.
    pub(crate) fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// Back to its start, for another attempt; of one that cannot begin again ([`Self::can_begin`])
    /// only what is left is given.
    pub(crate) fn rewind(mut self) -> Self {
        if let Some(kept) = self.0.as_mut().and_then(|content| content.kept.as_mut()) {
            kept.next = 0;
        }
        self
    }
}

impl Source for Upload {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, Fault>>> {
        let Some(content) = &mut self.0 else {
            return Poll::Ready(None);
        };
        content.poll_frame(context)
    }

    fn is_end(&self) -> bool {
        self.0.as_ref().is_none_or(|content| content.is_end())
    }

    fn release(&mut self, bytes: usize) {
        if let Some(content) = &mut self.0 {
            content.body.release(bytes);
        }
    }
}

impl Content {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, Fault>>> {
        if let Some(piece) = self.kept.as_mut().and_then(Kept::again) {
            return Poll::Ready(Some(Ok(Frame::Data(piece))));
        }
        let frame = ready!(self.body.poll_frame(context));
        let Some(given) = &frame else {
            return Poll::Ready(None);
        };
        self.touched = true;
        let keeps = |kept: &mut Kept| kept.takes(given);
        if !self.kept.as_mut().is_some_and(keeps) {
            self.kept = None;
        }
        Poll::Ready(frame)
    }

    fn is_end(&self) -> bool {
        self.kept.as_ref().is_none_or(Kept::is_given) && self.body.is_end()
    }
}

impl Kept {
    /// The next piece that was given before, and not to this attempt.
    fn again(&mut self) -> Option<Bytes> {
        let piece = self.pieces.get(self.next)?.clone();
        self.next += 1;
        Some(piece)
    }

    fn is_given(&self) -> bool {
        self.next == self.pieces.len()
    }

    /// Keeps what is given for the first time, if it can be.
    fn takes(&mut self, given: &Result<Frame, Fault>) -> bool {
        match given {
            Ok(Frame::Data(data)) if data.len() <= self.room => {
                self.room -= data.len();
                self.pieces.push(data.clone());
                self.next += 1;
                true
            }
            _ => false,
        }
    }
}

fn poll_http2(
    stream: &mut Reader,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Frame, Fault>>> {
    let data = ready!(stream.poll_data(context));
    Poll::Ready(match data {
        Some(data) => Some(data.map(Frame::Data).map_err(Fault::Http2)),
        None => stream.trailers().map(|it| Ok(Frame::Trailers(it))),
    })
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn next(upload: &mut Upload) -> Option<Bytes> {
        match poll_fn(|context| upload.poll_frame(context)).await {
            Some(Ok(Frame::Data(data))) => Some(data),
            _ => None,
        }
    }

    #[tokio::test]
    async fn an_upload_that_was_not_kept_cannot_begin_again() {
        let mut upload = Upload::new(Incoming::words("abc"), Some(3));
        assert!(upload.can_begin());
        next(&mut upload).await;
        assert!(!upload.can_begin());
    }

    #[tokio::test]
    async fn an_upload_larger_than_what_is_kept_cannot_begin_again() {
        let mut upload = Upload::new(Incoming::words("abc"), Some(3));
        upload.keep(2);
        next(&mut upload).await;
        assert!(!upload.can_begin());
    }

    #[tokio::test]
    async fn a_kept_upload_is_given_again_and_again() {
        let mut upload = Upload::new(Incoming::words("abc"), Some(3));
        upload.keep(3);
        for _ in 0..3 {
            assert_eq!(next(&mut upload).await.as_deref(), Some(&b"abc"[..]));
            assert_eq!(next(&mut upload).await, None);
            assert!(upload.can_begin());
            upload = upload.rewind();
        }
    }
}
