//! A stream that tells when bytes have arrived on it: the evidence that somebody is there. What they
//! say, it leaves to its reader.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Calls `heard` for each read that gave bytes.
#[derive(Debug)]
pub struct Listening<T, F> {
    inner: T,
    heard: F,
}

impl<T, F: Fn() + Unpin> Listening<T, F> {
    /// Listens on `inner` from now on.
    pub fn new(inner: T, heard: F) -> Self {
        Self { inner, heard }
    }
}

impl<T: AsyncRead + Unpin, F: Fn() + Unpin> AsyncRead for Listening<T, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            (self.heard)();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin, F: Fn() + Unpin> AsyncWrite for Listening<T, F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_are_heard_and_their_end_is_not() {
        let heard = AtomicUsize::new(0);
        let (mut peer, ours) = duplex(1);
        let mut listening = Listening::new(ours, || {
            heard.fetch_add(1, Ordering::Relaxed);
        });
        let speaking = async {
            peer.write_all(b"..").await.unwrap();
            drop(peer);
        };
        let mut said = Vec::new();
        let (_, read) = tokio::join!(speaking, listening.read_to_end(&mut said));
        assert_eq!(read.unwrap(), heard.into_inner());
    }
}
