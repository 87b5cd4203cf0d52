//! Reads below TLS: rustls 0.23 asks for 4 KiB at a time, this asks the socket for four full records.
//!
//! Invariant: a stream that has nothing buffered holds no buffer. Each thread keeps one to lend, so
//! thousands of idle connections cost none. It only ever holds ciphertext. Writes pass through.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const READ_AHEAD: usize = 64 * 1024;

thread_local! {
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A stream whose reads take as much as there is.
pub(crate) struct ReadAhead<S> {
    stream: S,
    ahead: Option<Ahead>,
}

/// Read, and not yet asked for.
struct Ahead {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<S> ReadAhead<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            ahead: None,
        }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl Ahead {
    /// Moves what fits; what is left of it, if anything.
    fn give(mut self, out: &mut ReadBuf<'_>) -> Option<Self> {
        let taken = out.remaining().min(self.end - self.start);
        out.put_slice(&self.buffer[self.start..self.start + taken]);
        self.start += taken;
        if self.start < self.end {
            return Some(self);
        }
        SPARE.set(Some(self.buffer));
        None
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(ahead) = self.ahead.take() {
            self.ahead = ahead.give(out);
            return Poll::Ready(Ok(()));
        }
        if out.remaining() >= READ_AHEAD {
            return Pin::new(&mut self.stream).poll_read(context, out);
        }
        let mut buffer = SPARE.take().unwrap_or_else(|| vec![0; READ_AHEAD].into());
        let mut read = ReadBuf::new(&mut buffer);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut read);
        let end = read.filled().len();
        let ahead = Ahead {
            buffer,
            start: 0,
            end,
        };
        self.ahead = ahead.give(out);
        ready!(polled)?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // What is sent in one record is in one part, and cheaper to send so.
        if let [part] = parts {
            return Pin::new(&mut self.stream).poll_write(context, part);
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn stream_that_waits_holds_no_buffer() {
        let (ours, mut theirs) = duplex(1024);
        let mut stream = ReadAhead::new(ours);
        theirs.write_all(b"four").await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        assert!(stream.ahead.is_none());
        let waiting = std::future::poll_fn(|context| {
            let mut out = ReadBuf::new(&mut word);
            Poll::Ready(
                Pin::new(&mut stream)
                    .poll_read(context, &mut out)
                    .is_pending(),
            )
        });
        assert!(waiting.await);
        assert!(stream.ahead.is_none());
    }

    #[tokio::test]
    async fn two_streams_of_one_thread_never_mix() {
        let (first, mut to_first) = duplex(1024);
        let (second, mut to_second) = duplex(1024);
        let (mut first, mut second) = (ReadAhead::new(first), ReadAhead::new(second));
        to_first.write_all(b"firstFIRST").await.unwrap();
        to_second.write_all(b"other").await.unwrap();
        let (mut a, mut b, mut c) = ([0; 5], [0; 5], [0; 5]);
        first.read_exact(&mut a).await.unwrap();
        second.read_exact(&mut b).await.unwrap();
        first.read_exact(&mut c).await.unwrap();
        assert_eq!([a, b, c], [*b"first", *b"other", *b"FIRST"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn bytes_arrive_whole_and_in_order(
            sent in prop::collection::vec(any::<u8>(), 1..150_000), size in 500..100_000usize
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let received = runtime.block_on(async {
                let (ours, mut theirs) = duplex(300_000);
                theirs.write_all(&sent).await.unwrap();
                drop(theirs);
                let mut stream = ReadAhead::new(ours);
                let (mut received, mut piece) = (Vec::new(), vec![0; size]);
                loop {
                    let read = stream.read(&mut piece).await.unwrap();
                    if read == 0 {
                        return received;
                    }
                    received.extend_from_slice(&piece[..read]);
                }
            });
            prop_assert!(received == sent);
        }
    }
}
