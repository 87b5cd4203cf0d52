//! Handshakes, and the streams they leave. A stream carries the evidence of its peer; there is no
//! stream without a finished handshake and a verified peer, where one is required.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::config::{ClientTlsConfig, ServerTlsConfig};
use crate::error::{HandshakeError, Refusal};
use crate::peer::PeerIdentity;
use crate::read_ahead::ReadAhead;

/// Names are not part of the mesh's TLS: this one is neither sent (no SNI) nor verified.
const UNUSED_NAME: &str = "peer.invalid";

/// Handshakes as the server. Cancel-safe in that dropping it closes `stream`; a deadline is the
/// caller's.
pub async fn accept<S>(stream: S, config: ServerTlsConfig) -> Result<ServerTls<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let stream = ReadAhead::new(stream);
    let stream = TlsAcceptor::from(config.tls).accept(stream).await?;
    let peer = match config.judge {
        Some(judge) => {
            let certificates = stream.get_ref().1.peer_certificates();
            judge.verifier.evidence(certificates, judge.clock.now())?
        }
        None => None,
    };
    Ok(ServerTls {
        stream,
        peer: peer.map(|evidence| evidence.peer),
    })
}

/// Handshakes as the client, with whom the configuration expects.
pub async fn connect<S>(stream: S, config: ClientTlsConfig) -> Result<ClientTls<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(UNUSED_NAME).expect("the constant is a DNS name");
    let stream = ReadAhead::new(stream);
    let stream = TlsConnector::from(config.tls).connect(name, stream).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let evidence = config
        .judge
        .verifier
        .evidence(certificates, config.judge.clock.now())?;
    let evidence = evidence.ok_or(Refusal::NoCertificate)?;
    Ok(ClientTls {
        stream,
        peer: evidence.peer,
        root: evidence.root,
    })
}

/// A connection that we accepted.
pub struct ServerTls<S> {
    stream: server::TlsStream<ReadAhead<S>>,
    peer: Option<PeerIdentity>,
}

impl<S> ServerTls<S> {
    /// The peer; none where the listener does without a client certificate and got none.
    #[must_use]
    pub fn peer(&self) -> Option<&PeerIdentity> {
        self.peer.as_ref()
    }

    /// The protocol that was agreed on (RFC 7301), if any.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }

    /// The host that the client said it wants (RFC 6066 §3), in small letters, if it said one.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.stream.get_ref().1.server_name()
    }

    /// 32 bytes bound to this connection, the same on both sides (RFC 8446 §7.5, no context).
    #[must_use]
    pub fn export_keying_material(&self, label: impl AsRef<[u8]>) -> [u8; 32] {
        let connection = self.stream.get_ref().1;
        connection
            .export_keying_material([0; 32], label.as_ref(), None)
            .expect("a finished TLS 1.3 handshake exports 32 bytes")
    }
}

impl<S: AsyncRead> ServerTls<S> {
    /// The stream below TLS.
    #[must_use]
    pub fn transport(&self) -> &S {
        self.stream.get_ref().0.get_ref()
    }
}

/// A connection that we opened.
pub struct ClientTls<S> {
    stream: client::TlsStream<ReadAhead<S>>,
    peer: PeerIdentity,
    root: Option<CertificateDer<'static>>,
}

impl<S> ClientTls<S> {
    /// The server.
    #[must_use]
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// The root that the server sent, on connections that know it by a pinned digest.
    #[must_use]
    pub fn pinned_root(&self) -> Option<&CertificateDer<'static>> {
        self.root.as_ref()
    }

    /// The protocol that was agreed on (RFC 7301), if any.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }

    /// 32 bytes bound to this connection, the same on both sides (RFC 8446 §7.5, no context).
    #[must_use]
    pub fn export_keying_material(&self, label: impl AsRef<[u8]>) -> [u8; 32] {
        let connection = self.stream.get_ref().1;
        connection
            .export_keying_material([0; 32], label.as_ref(), None)
            .expect("a finished TLS 1.3 handshake exports 32 bytes")
    }
}

impl<S: AsyncRead> ClientTls<S> {
    /// The stream below TLS.
    #[must_use]
    pub fn transport(&self) -> &S {
        self.stream.get_ref().0.get_ref()
    }
}

/// A connection to a server outside the mesh, which proved its host name and nothing else.
pub struct WebTls<S> {
    pub(crate) stream: client::TlsStream<ReadAhead<S>>,
}

impl<S> WebTls<S> {
    /// The protocol that was agreed on (RFC 7301), if any.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.get_ref().1.alpn_protocol()
    }
}

macro_rules! bytes_pass_through {
    ($stream:ident) => {
        impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for $stream<S> {
            fn poll_read(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_read(context, buffer)
            }
        }

        impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for $stream<S> {
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
                Pin::new(&mut self.stream).poll_write_vectored(context, parts)
            }

            fn is_write_vectored(&self) -> bool {
                self.stream.is_write_vectored()
            }

            fn poll_flush(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_flush(context)
            }

            fn poll_shutdown(
                mut self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_shutdown(context)
            }
        }
    };
}

bytes_pass_through!(ServerTls);
bytes_pass_through!(ClientTls);
bytes_pass_through!(WebTls);

impl<S> fmt::Debug for ServerTls<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for ClientTls<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for WebTls<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebTls").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
