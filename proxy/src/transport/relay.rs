//! Bytes both ways between two streams, counted, until both ended or the stream is ended.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};

use super::call::Call;
use crate::failure::Reason;
use crate::live::Stream;

/// For each direction; larger reads go around it.
const BUFFER: usize = 16 * 1024;

/// Carries bytes until both sides have finished, one broke off, or the stream was ended. The
/// call's record is complete afterwards.
pub(crate) async fn relay<A, B>(caller: A, upstream: B, stream: &Arc<Stream>, call: &mut Call)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut caller = Counted {
        inner: caller,
        stream: Arc::clone(stream),
    };
    let mut upstream = upstream;
    let copied = tokio::select! {
        () = stream.ended() => None,
        copied = copy_bidirectional_with_sizes(&mut caller, &mut upstream, BUFFER, BUFFER) => {
            Some(copied)
        }
    };
    match copied {
        Some(Ok(_)) => call.complete(),
        Some(Err(error)) if is_ordinary_end(&error) => call.complete(),
        Some(Err(error)) => call.fail(Reason::UpstreamReset, &error.to_string()),
        None => call.fail(
            stream.reason().unwrap_or(Reason::Deadline),
            "ended by the proxy",
        ),
    }
}

/// TCP programs often end by closing with bytes unread.
fn is_ordinary_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotConnected | io::ErrorKind::UnexpectedEof
    )
}

/// The caller's side: what is read from it is upload, what is written is download.
struct Counted<S> {
    inner: S,
    stream: Arc<Stream>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        self.stream.count_in(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.stream.count_out(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
