//! Carries an HTTP/2 connection's bytes between its state and its stream.
//!
//! Output leaves at the end of a turn of the event loop: a task that writes to a stream wakes the
//! connection's task, which runs after those that are ready by then, and sends for all of them in
//! one write. Nothing is read while the peer takes nothing, so what it makes us say is bounded.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http2::{Accepted, Connection};
use tokio::io::AsyncWrite;
use tokio::time::timeout;

use super::io::{Io, poll_chunk};
use super::keep_alive::KeepAlive;

/// One connection may read so often before others have their turn.
const MOST_READS: usize = 4;

#[derive(Debug)]
pub(super) struct Driver {
    io: Io,
    connection: Connection,
    keep_alive: KeepAlive,
    /// Whether `io` may hold back bytes that were written to it.
    unflushed: bool,
}

impl Driver {
    pub(super) fn new(io: Io, connection: Connection) -> Self {
        Self {
            io,
            connection,
            keep_alive: KeepAlive::default(),
            unflushed: false,
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Ready when the connection has ended, but for its last words. Requests that came go to
    /// `accept`.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        accept: impl FnMut(Accepted),
    ) -> Poll<()> {
        self.connection.begin_turn(context);
        let over = self.poll_turn(context, accept);
        self.connection.end_turn(self.unflushed);
        over
    }

    /// Sends what was said last, such as why it ends.
    pub(super) async fn finish(mut self) {
        self.connection.leave();
        let last = std::future::poll_fn(|context| self.poll_send(context));
        drop(timeout(super::LAST_WORDS, last).await);
    }

    fn poll_turn(
        &mut self,
        context: &mut Context<'_>,
        mut accept: impl FnMut(Accepted),
    ) -> Poll<()> {
        if let Poll::Ready(Err(error)) = self.poll_send(context) {
            tracing::debug!(%error, "connection ended");
            self.connection.close();
            return Poll::Ready(());
        }
        for turn in 0.. {
            if self.connection.is_over() {
                return Poll::Ready(());
            }
            if self.connection.is_full() {
                break;
            }
            if turn == MOST_READS {
                context.waker().wake_by_ref();
                break;
            }
            let ended = match self.poll_read(context) {
                Poll::Ready(ended) => ended,
                Poll::Pending => break,
            };
            while let Some(accepted) = self.connection.accept() {
                accept(accepted);
            }
            if ended {
                return Poll::Ready(());
            }
        }
        self.keep_alive.poll_vanished(context, &self.connection)
    }

    /// Reads once: whether the connection ended.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let connection = &self.connection;
        let read = poll_chunk(&mut self.io, context, |bytes| {
            if bytes.is_empty() {
                connection.close();
                return true;
            }
            let received = connection.receive(bytes);
            received
                .inspect_err(|error| tracing::debug!(%error, "connection ended"))
                .is_err()
        });
        read.map(|read| {
            read.unwrap_or_else(|error| {
                tracing::debug!(%error, "connection ended");
                connection.close();
                true
            })
        })
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.has_output() {
            self.unflushed = true;
            let io = &mut self.io;
            let wrote = self.connection.write(|bytes| {
                let wrote = Pin::new(io).poll_write(context, bytes);
                let count = match &wrote {
                    Poll::Ready(Ok(count)) => *count,
                    _ => 0,
                };
                (count, wrote)
            });
            if ready!(wrote)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Driver {
    /// Nobody waits for what will not come.
    fn drop(&mut self) {
        self.connection.close();
    }
}
