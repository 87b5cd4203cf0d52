//! Bytes both ways between two streams, counted, until both ended or the stream is ended.
//!
//! Each side's end is passed on by itself. A relay that waits holds no buffer. The proxies of the
//! mesh say when they end (close_notify, RFC 8446 section 6.1): one that does not has cut the
//! connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use mtls::ClientTls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::call::Call;
use super::own_limits::OwnLimits;
use super::pipe::Way;
use crate::failure::Reason;
use crate::live::Stream;

/// The larger, the fewer system calls.
const READ: usize = 128 * 1024;

thread_local! {
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// For people: the record of this side can say no more.
const CUT: &str = "cut by the other proxy: policy no longer permits it, it took too long, or the \
                   application broke off; the other proxy's record says which";

/// Where a relay leads.
pub(crate) trait Upstream: AsyncRead + AsyncWrite + Unpin {
    /// Whether a proxy of the mesh is at the other end.
    fn is_of_the_mesh(&self) -> bool;
}

impl Upstream for TcpStream {
    fn is_of_the_mesh(&self) -> bool {
        false
    }
}

impl Upstream for ClientTls<TcpStream> {
    fn is_of_the_mesh(&self) -> bool {
        true
    }
}

/// Carries bytes until both sides have finished, one broke off, or the stream was ended. The
/// call's record is complete afterwards.
pub(crate) async fn relay<A, B>(mut caller: A, mut upstream: B, stream: &Stream, call: &mut Call)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: Upstream,
{
    let is_of_the_mesh = upstream.is_of_the_mesh();
    let (mut up, mut down) = (OneWay::new(Way::Up), OneWay::new(Way::Down));
    let mut limits = OwnLimits::default();
    let carried = poll_fn(|context| {
        if let Poll::Ready(reason) = stream.poll_ended(context) {
            return Poll::Ready(Err(Broken::Ended(reason)));
        }
        let sent = up.poll(&mut caller, &mut upstream, stream, context)?;
        let received = down.poll(&mut upstream, &mut caller, stream, context);
        let received = received.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof if is_of_the_mesh => Broken::Cut,
            _ => Broken::Stream(error),
        })?;
        match (sent, received) {
            (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
            _ => limits
                .poll(stream, context)
                .map(|()| Err(Broken::Ended(Reason::Deadline))),
        }
    })
    .await;
    match carried {
        Ok(()) => call.complete(),
        Err(Broken::Stream(error)) if is_ordinary_end(&error) => call.complete(),
        Err(Broken::Stream(error)) => call.fail(Reason::UpstreamReset, &error.to_string()),
        Err(Broken::Cut) => call.fail(Reason::UpstreamReset, CUT),
        Err(Broken::Ended(reason)) => call.fail(reason, "ended by the proxy"),
    }
}

enum Broken {
    Ended(Reason),
    /// By the proxy that was called.
    Cut,
    Stream(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Stream(error)
    }
}

/// TCP programs often end by closing with bytes unread.
fn is_ordinary_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotConnected | io::ErrorKind::UnexpectedEof
    )
}

/// One direction.
struct OneWay {
    way: Way,
    /// What the other side has not taken.
    held: BytesMut,
    unflushed: bool,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Open,
    /// The end was read, and is to be passed on.
    Ending,
    Done,
}

impl OneWay {
    fn new(way: Way) -> Self {
        Self {
            way,
            held: BytesMut::new(),
            unflushed: false,
            step: Step::Open,
        }
    }

    fn poll<R, W>(
        &mut self,
        from: &mut R,
        to: &mut W,
        stream: &Stream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while !self.held.is_empty() {
                let count = ready!(Pin::new(&mut *to).poll_write(context, &self.held))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.held.advance(count);
                self.count(stream, count);
            }
            match self.step {
                Step::Done => return Poll::Ready(Ok(())),
                Step::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(context))?;
                    self.step = Step::Done;
                }
                Step::Open => {
                    let read = self.poll_read(from, to, stream, context);
                    if read.is_pending() && self.unflushed {
                        ready!(Pin::new(&mut *to).poll_flush(context))?;
                        self.unflushed = false;
                    }
                    ready!(read)?;
                }
            }
        }
    }

    /// Reads once, and gives the other side what it takes of it at once.
    fn poll_read<R, W>(
        &mut self,
        from: &mut R,
        to: &mut W,
        stream: &Stream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        self.held = BytesMut::new();
        let mut spare = SPARE.take().unwrap_or_else(|| vec![0; READ].into());
        let mut buffer = ReadBuf::new(&mut spare);
        let polled = Pin::new(from).poll_read(context, &mut buffer);
        let read = buffer.filled();
        let given = match read.is_empty() {
            true => Poll::Pending,
            false => Pin::new(to).poll_write(context, read),
        };
        let taken = match &given {
            Poll::Ready(Ok(count)) => *count,
            _ => 0,
        };
        let end = read.is_empty();
        self.held.extend_from_slice(&read[taken..]);
        SPARE.set(Some(spare));
        ready!(polled)?;
        if let Poll::Ready(Err(error)) = given {
            return Poll::Ready(Err(error));
        }
        self.count(stream, taken);
        if end {
            self.step = Step::Ending;
        }
        Poll::Ready(Ok(()))
    }

    fn count(&mut self, stream: &Stream, count: usize) {
        self.unflushed |= count > 0;
        match self.way {
            Way::Up => stream.count_in(count),
            Way::Down => stream.count_out(count),
        }
    }
}
