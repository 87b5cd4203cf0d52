//! Carries the bytes of a connection that is ours.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http2::{Accepted, Connection};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Until the connection is over; says how many streams were left in it.
pub(crate) async fn drive(
    connection: Connection,
    mut io: DuplexStream,
    mut accept: impl FnMut(&Connection, Accepted),
) -> usize {
    poll_fn(|context| {
        connection.begin_turn(context);
        let over = poll(&connection, &mut io, context, &mut accept);
        connection.end_turn(connection.has_output() && over.is_pending());
        over.map(drop)
    })
    .await;
    connection.leave();
    poll_fn(|context| poll_write(&connection, &mut io, context)).await;
    let left = connection.streams();
    connection.close();
    left
}

fn poll(
    connection: &Connection,
    io: &mut DuplexStream,
    context: &mut Context<'_>,
    accept: &mut impl FnMut(&Connection, Accepted),
) -> Poll<io::Result<()>> {
    loop {
        let wrote = poll_write(connection, io, context);
        if connection.is_over() {
            return Poll::Ready(Ok(()));
        }
        if connection.is_full() && wrote.is_pending() {
            return Poll::Pending;
        }
        let mut bytes = [0; 4096];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut *io).poll_read(context, &mut buffer))?;
        if buffer.filled().is_empty() || connection.receive(buffer.filled()).is_err() {
            return Poll::Ready(Ok(()));
        }
        while let Some(accepted) = connection.accept() {
            accept(connection, accepted);
        }
    }
}

fn poll_write(
    connection: &Connection,
    io: &mut DuplexStream,
    context: &mut Context<'_>,
) -> Poll<()> {
    while connection.has_output() {
        let wrote = connection.write(|bytes| {
            let wrote = Pin::new(&mut *io).poll_write(context, bytes);
            let count = match &wrote {
                Poll::Ready(Ok(count)) => *count,
                _ => 0,
            };
            (count, wrote)
        });
        // A peer that is gone may have said more before.
        if ready!(wrote).is_err() {
            connection.write(|bytes| (bytes.len(), ()));
        }
    }
    Poll::Ready(())
}
