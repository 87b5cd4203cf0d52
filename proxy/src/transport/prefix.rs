//! Tells HTTP/1 from the HTTP/2 preface by the first bytes of a client, which speaks first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::http_server::Wire;

/// RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first bytes were read already; they are read again.
#[derive(Debug)]
pub(crate) struct Prefixed<S> {
    first: [u8; PREFACE.len()],
    read: usize,
    given: usize,
    inner: S,
}

/// Reads as few bytes as decide it.
///
/// # Errors
/// If the stream ends or fails before that.
pub(crate) async fn detect<S>(mut inner: S) -> io::Result<(Wire, Prefixed<S>)>
where
    S: AsyncRead + Unpin,
{
    let mut first = [0; PREFACE.len()];
    let mut read = 0;
    let wire = loop {
        let count = inner.read(&mut first[read..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read += count;
        if first[..read] != PREFACE[..read] {
            break Wire::Http1;
        }
        if read == PREFACE.len() {
            break Wire::Http2;
        }
    };
    let prefixed = Prefixed {
        first,
        read,
        given: 0,
        inner,
    };
    Ok((wire, prefixed))
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.given == self.read {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        let count = buffer.remaining().min(self.read - self.given);
        let end = self.given + count;
        buffer.put_slice(&self.first[self.given..end]);
        self.given = end;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
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
    use super::*;

    async fn check(pieces: &[&[u8]], expected: Wire) {
        let (client, server) = tokio::io::duplex(64);
        let write = async {
            let mut client = client;
            for piece in pieces {
                tokio::io::AsyncWriteExt::write_all(&mut client, piece)
                    .await
                    .unwrap();
                tokio::task::yield_now().await;
            }
        };
        let read = async {
            let (wire, mut stream) = detect(server).await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            (wire, all)
        };
        let ((), (wire, all)) = tokio::join!(write, read);
        assert_eq!((wire, all), (expected, pieces.concat()));
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_the_preface_is_refused() {
        let mut stream: &[u8] = b"PRI * HT";
        assert_eq!(
            detect(&mut stream).await.unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[tokio::test]
    async fn the_preface_is_told_from_a_request_that_begins_like_it() {
        check(&[b"PRI * HTTP/1.1\r\n\r\n"], Wire::Http1).await;
        check(&[b"P", b"OST / HTTP/1.1\r\n\r\n"], Wire::Http1).await;
        check(&[b"PRI * HTTP/2.0\r\n\r\nSM", b"\r\n\r\nrest"], Wire::Http2).await;
    }
}
