//! A server's TLS stream that tells each request who is at its other end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use mtls::ServerTls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::Connected;

#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) spiffe_id: Option<String>,
    pub(crate) exporter: [u8; 32],
}

#[derive(Debug)]
pub(crate) struct TlsStream {
    tls: ServerTls<TcpStream>,
    peer: Peer,
}

impl TlsStream {
    pub(crate) fn new(tls: ServerTls<TcpStream>) -> Self {
        let peer = Peer {
            spiffe_id: tls.peer().map(|peer| peer.spiffe_id().to_string()),
            exporter: tls.export_keying_material("EXPORTER-countersign-attest"),
        };
        Self { tls, peer }
    }
}

impl Connected for TlsStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}
