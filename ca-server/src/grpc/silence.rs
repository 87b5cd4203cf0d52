//! Whether there still is somebody at the other end of a connection. Agents PING (RFC 9113 §6.7)
//! every 30 s or more often, to know whether their CA lives, so whoever has said nothing for longer
//! is gone. Nothing is asked for that: ten thousand agents at rest cost their own PINGs alone.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// A PING that is due, and the time that one may take.
pub(super) const SILENCE: Duration = Duration::from_secs(50);

/// A connection that notes when something was read.
#[derive(Debug)]
pub(super) struct Listening<T> {
    inner: T,
    heard: Heard,
}

/// When something was read last.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    opened: Instant,
    after_nanos: Arc<AtomicU64>,
    patience: Duration,
}

impl<T> Listening<T> {
    pub(super) fn to(inner: T, patience: Duration) -> (Self, Heard) {
        let heard = Heard {
            opened: Instant::now(),
            after_nanos: Arc::default(),
            patience,
        };
        let listening = Self {
            inner,
            heard: heard.clone(),
        };
        (listening, heard)
    }
}

impl Heard {
    /// Resolves when nothing was heard for longer than the patience.
    pub(super) async fn silent(&self) {
        loop {
            let end = self.end();
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }

    fn end(&self) -> Instant {
        let after = Duration::from_nanos(self.after_nanos.load(Ordering::Relaxed));
        self.opened + after + self.patience
    }

    fn now(&self) {
        let after = self.opened.elapsed().as_nanos();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        self.after_nanos.store(after, Ordering::Relaxed);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Listening<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.heard.now();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Listening<T> {
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn who_says_nothing_is_gone() {
        let (_peer, ours) = duplex(1);
        let (_listening, heard) = Listening::to(ours, Duration::from_millis(1));
        heard.silent().await;
        assert!(heard.end() <= Instant::now());
    }

    #[tokio::test]
    async fn whoever_speaks_is_waited_for_anew() {
        let (mut peer, ours) = duplex(1);
        let (mut listening, heard) = Listening::to(ours, SILENCE);
        let before = heard.end();
        peer.write_all(b".").await.unwrap();
        listening.read_u8().await.unwrap();
        assert!(heard.end() > before);
    }
}
