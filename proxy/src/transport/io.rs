//! The streams that bytes come and go by: one type, so that what reads and writes HTTP exists
//! once.
//!
//! Reads are large. Each thread has one buffer that a read fills and whoever reads copies from,
//! so an idle connection holds none.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use mtls::{ClientTls, ServerTls, WebTls};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

const READ: usize = 64 * 1024;

thread_local! {
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A connection's bytes, whatever carries them.
#[derive(Debug)]
pub(crate) enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Mutual TLS that we accepted.
    Accepted(Box<ServerTls<TcpStream>>),
    /// Mutual TLS that we opened.
    Opened(Box<ClientTls<TcpStream>>),
    /// TLS that we opened to a host outside the mesh.
    Outside(Box<WebTls<TcpStream>>),
}

/// Reads what there is, once, and gives it to `take`. Zero bytes are the end of the stream.
///
/// # Errors
/// If the stream broke.
pub(crate) fn poll_chunk<T>(
    io: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    let mut spare = SPARE.take().unwrap_or_else(|| vec![0; READ].into());
    let mut buffer = ReadBuf::new(&mut spare);
    let polled = Pin::new(io).poll_read(context, &mut buffer);
    let taken = polled.map_ok(|()| take(buffer.filled()));
    SPARE.set(Some(spare));
    taken
}

/// The same, to the end of `received`.
///
/// # Errors
/// If the stream broke.
pub(crate) fn poll_receive(
    io: &mut (impl AsyncRead + Unpin),
    context: &mut Context<'_>,
    received: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    poll_chunk(io, context, |read| {
        received.extend_from_slice(read);
        read.len()
    })
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_read(context, buffer),
            Self::Unix(io) => Pin::new(io).poll_read(context, buffer),
            Self::Accepted(io) => Pin::new(io).poll_read(context, buffer),
            Self::Opened(io) => Pin::new(io).poll_read(context, buffer),
            Self::Outside(io) => Pin::new(io).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write(context, bytes),
            Self::Unix(io) => Pin::new(io).poll_write(context, bytes),
            Self::Accepted(io) => Pin::new(io).poll_write(context, bytes),
            Self::Opened(io) => Pin::new(io).poll_write(context, bytes),
            Self::Outside(io) => Pin::new(io).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write_vectored(context, slices),
            Self::Unix(io) => Pin::new(io).poll_write_vectored(context, slices),
            Self::Accepted(io) => Pin::new(io).poll_write_vectored(context, slices),
            Self::Opened(io) => Pin::new(io).poll_write_vectored(context, slices),
            Self::Outside(io) => Pin::new(io).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_flush(context),
            Self::Unix(io) => Pin::new(io).poll_flush(context),
            Self::Accepted(io) => Pin::new(io).poll_flush(context),
            Self::Opened(io) => Pin::new(io).poll_flush(context),
            Self::Outside(io) => Pin::new(io).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(context),
            Self::Unix(io) => Pin::new(io).poll_shutdown(context),
            Self::Accepted(io) => Pin::new(io).poll_shutdown(context),
            Self::Opened(io) => Pin::new(io).poll_shutdown(context),
            Self::Outside(io) => Pin::new(io).poll_shutdown(context),
        }
    }
}
