//! What a connection becomes when HTTP ends on it: after a 101, or a 2xx to CONNECT (RFC 9110
//! sections 7.8 and 9.3.6).
//!
//! Invariant: a [`Tunnel`] is made of a connection on which the last message has ended in both
//! directions. What came behind that message is read first and once, and never as HTTP.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use futures_util::future::LocalBoxFuture;
use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::call::Call;
use super::io::Io;
use super::relay::{Upstream, relay};
use crate::failure::Reason;

/// Bytes both ways.
#[derive(Debug)]
pub(crate) struct Tunnel {
    io: Io,
    /// Read before anything that is still to come from `io`.
    received: BytesMut,
}

/// How the caller's connection goes on once it has been told that HTTP ends on it.
pub(crate) struct Onward {
    /// What it goes on with, where that has a name (`Upgrade`).
    protocol: Option<HeaderValue>,
    run: Run,
}

type Run = Box<dyn FnOnce(Tunnel, Call) -> LocalBoxFuture<'static, ()>>;

impl Tunnel {
    /// `received` was read from `io` before.
    pub(super) fn new(io: Io, received: BytesMut) -> Self {
        Self { io, received }
    }

    /// The stream, and what was read from it before.
    pub(super) fn into_parts(self) -> (Io, BytesMut) {
        (self.io, self.received)
    }
}

impl Onward {
    pub(super) fn new(
        run: impl FnOnce(Tunnel, Call) -> LocalBoxFuture<'static, ()> + 'static,
    ) -> Self {
        Self {
            protocol: None,
            run: Box::new(run),
        }
    }

    /// Bytes both ways between the caller and `upstream`, until both have ended or the call's
    /// stream is ended.
    pub(super) fn to(upstream: Tunnel, protocol: Option<HeaderValue>) -> Self {
        let run = |caller, mut call: Call| -> LocalBoxFuture<'static, ()> {
            Box::pin(async move {
                let Some(stream) = call.stream().cloned() else {
                    return call.fail(Reason::UpstreamReset, "the call has ended already");
                };
                relay(caller, upstream, &stream, &mut call).await;
            })
        };
        Self {
            protocol,
            run: Box::new(run),
        }
    }

    pub(super) fn protocol(&self) -> Option<&HeaderValue> {
        self.protocol.as_ref()
    }

    /// Goes on with the caller's side, to the end.
    pub(super) async fn run(self, caller: Tunnel, call: Call) {
        (self.run)(caller, call).await;
    }
}

impl fmt::Debug for Onward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Onward")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

impl Upstream for Tunnel {
    fn is_of_the_mesh(&self) -> bool {
        matches!(self.io, Io::Opened(_))
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.received.is_empty() {
            return Pin::new(&mut this.io).poll_read(context, buffer);
        }
        let count = buffer.remaining().min(this.received.len());
        buffer.put_slice(&this.received.split_to(count));
        if this.received.is_empty() {
            this.received = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;

    async fn read_in_pieces(early: &[u8], late: &[u8], most: usize) -> Vec<u8> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut tunnel = Tunnel::new(Io::Unix(ours), BytesMut::from(early));
        theirs.write_all(late).await.unwrap();
        theirs.shutdown().await.unwrap();
        let (mut all, mut piece) = (Vec::new(), vec![0; most]);
        while let count @ 1.. = tunnel.read(&mut piece).await.unwrap() {
            all.extend_from_slice(&piece[..count]);
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_came_early_is_read_first_and_once(
            early in prop::collection::vec(any::<u8>(), 0..600),
            late in prop::collection::vec(any::<u8>(), 0..600),
            most in 1usize..700,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let read = runtime.unwrap().block_on(read_in_pieces(&early, &late, most));
            prop_assert_eq!(read, [early, late].concat());
        }
    }
}
