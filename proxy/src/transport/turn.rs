//! End-of-turn flush: what one turn of the event loop made ready leaves in one write.
//!
//! `h2` flushes its writer after nearly each frame. Here a flush only notes that there is output;
//! the task that drives the connection is woken once more, which is after the tasks that are
//! ready now, and then sends all of it. Errors surface at the connection's next operation; a
//! shutdown writes for real. Output is bounded: beyond [`MOST`], a write waits for the stream.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::io::Io;

/// What may wait for the end of a turn.
const MOST: usize = 64 * 1024;

/// What a buffer has room for at first: what may wait, and the write that passes it.
const ROOM: usize = MOST + 16 * 1024;

thread_local! {
    /// Each thread has one buffer to gather output in: a burst grows none anew, and a connection
    /// that has nothing to send holds none.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The stream below `h2`, with what it has read already and what it is to write.
#[derive(Debug)]
pub(crate) struct Gathering {
    shared: Rc<RefCell<Shared>>,
}

/// The driver's handle on a [`Gathering`].
#[derive(Debug)]
pub(crate) struct Turn {
    shared: Rc<RefCell<Shared>>,
    waited: bool,
}

#[derive(Debug)]
struct Shared {
    io: Io,
    received: BytesMut,
    output: Vec<u8>,
    /// Of `output`, what `io` has taken.
    sent: usize,
    /// Whether bytes were written that `io` may still hold back.
    unsent: bool,
    failed: Option<io::ErrorKind>,
}

impl Gathering {
    /// `received` was read from `io` before.
    pub(crate) fn new(io: Io, received: BytesMut) -> (Self, Turn) {
        let shared = Rc::new(RefCell::new(Shared {
            io,
            received,
            output: Vec::new(),
            sent: 0,
            unsent: false,
            failed: None,
        }));
        let turn = Turn {
            shared: Rc::clone(&shared),
            waited: false,
        };
        (Self { shared }, turn)
    }
}

impl Turn {
    /// To be called at the end of each poll of the connection: sends its output, once everything
    /// that is ready now has had its turn.
    pub(crate) fn end(&mut self, context: &mut Context<'_>) {
        let mut shared = self.shared.borrow_mut();
        if !shared.unsent {
            self.waited = false;
            return;
        }
        if !self.waited {
            self.waited = true;
            context.waker().wake_by_ref();
            return;
        }
        if let Poll::Ready(sent) = shared.poll_send(context) {
            self.waited = false;
            if let Err(error) = sent {
                shared.failed = Some(error.kind());
                // The connection meets the error at its next operation, which is now.
                context.waker().wake_by_ref();
            }
        }
    }

    /// Sends at once.
    ///
    /// # Errors
    /// If the stream broke.
    pub(crate) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.borrow_mut().poll_send(context)
    }
}

impl Shared {
    fn check(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            let rest = &self.output[self.sent..];
            let count = ready!(Pin::new(&mut self.io).poll_write(context, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += count;
        }
        if self.sent > 0 {
            let mut spare = std::mem::take(&mut self.output);
            spare.clear();
            SPARE.set(spare);
            self.sent = 0;
        }
        ready!(Pin::new(&mut self.io).poll_flush(context))?;
        self.unsent = false;
        Poll::Ready(Ok(()))
    }

    /// Room for more output, which is about to come.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        if self.output.len() - self.sent >= MOST {
            ready!(self.poll_send(context))?;
        }
        if self.output.is_empty() {
            self.output = SPARE.take();
            self.output.reserve(ROOM);
        }
        self.unsent = true;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Gathering {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let shared = &mut *self.shared.borrow_mut();
        shared.check()?;
        if shared.received.is_empty() {
            return Pin::new(&mut shared.io).poll_read(context, buffer);
        }
        let count = buffer.remaining().min(shared.received.len());
        buffer.put_slice(&shared.received.split_to(count));
        if shared.received.is_empty() {
            shared.received = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gathering {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let shared = &mut *self.shared.borrow_mut();
        ready!(shared.poll_room(context))?;
        shared.output.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let shared = &mut *self.shared.borrow_mut();
        ready!(shared.poll_room(context))?;
        let mut count = 0;
        for slice in slices {
            shared.output.extend_from_slice(slice);
            count += slice.len();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shared.borrow().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shared = &mut *self.shared.borrow_mut();
        ready!(shared.poll_send(context))?;
        Pin::new(&mut shared.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Gathering, Turn, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (gathering, turn) = Gathering::new(Io::Tcp(ours.unwrap()), BytesMut::new());
        (gathering, turn, theirs.unwrap().0)
    }

    /// One poll of the driver.
    async fn end(turn: &mut Turn) {
        std::future::poll_fn(|context| {
            turn.end(context);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_flush_sends_nothing_before_the_turn_ends() {
        let (mut gathering, mut turn, mut theirs) = pair().await;
        gathering.write_all(b"first").await.unwrap();
        gathering.flush().await.unwrap();
        end(&mut turn).await;
        let early = theirs.try_read(&mut [0; 16]).unwrap_err().kind();
        gathering.write_all(b"second").await.unwrap();
        end(&mut turn).await;
        let mut read = [0; 11];
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!((early, &read), (io::ErrorKind::WouldBlock, b"firstsecond"));
    }

    #[tokio::test]
    async fn a_shutdown_sends_what_is_left() {
        let (mut gathering, _turn, mut theirs) = pair().await;
        gathering.write_all(b"last").await.unwrap();
        gathering.shutdown().await.unwrap();
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"last");
    }

    #[tokio::test]
    async fn a_stream_that_takes_nothing_bounds_the_output() {
        let (mut gathering, _turn, _theirs) = pair().await;
        let refused = std::future::poll_fn(|context| {
            loop {
                let polled = Pin::new(&mut gathering).poll_write(context, &[7; 16 * 1024]);
                if polled.is_pending() {
                    return Poll::Ready(true);
                }
            }
        });
        assert!(refused.await);
        assert!(gathering.shared.borrow().output.len() <= MOST + 16 * 1024);
    }
}
