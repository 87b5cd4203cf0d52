//! Full mutual TLS handshakes, one after the other on each of some threads, that carry nothing:
//! X25519 only, or what our provider offers.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, NamedGroup, SignatureScheme};
use tokio::task::JoinSet;

use identity::x509::X509Svid;

const THREADS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(10);

/// Which key exchange is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyExchange {
    X25519,
    X25519MlKem768,
}

/// A client that shows an identity. It believes every server: what is measured, and tested, is
/// what the server makes of us.
#[derive(Debug, Clone)]
pub(crate) struct Client(Arc<ClientConfig>);

impl Client {
    /// # Errors
    /// When this build has no such key exchange.
    pub(crate) fn new(svid: &X509Svid, exchange: KeyExchange, alpn: &[&[u8]]) -> Result<Self> {
        let group = match exchange {
            KeyExchange::X25519 => NamedGroup::X25519,
            KeyExchange::X25519MlKem768 => NamedGroup::X25519MLKEM768,
        };
        let mut provider = CryptoProvider::clone(&crypto::provider());
        provider.kx_groups.retain(|offered| offered.name() == group);
        ensure!(
            !provider.kx_groups.is_empty(),
            "this build offers no {group:?}"
        );
        let chain = svid.svid().chain().to_vec();
        let key = CertifiedKey::new(chain, svid.key().rustls_key());
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Self(Arc::new(config)))
    }

    /// So many handshakes, on all threads together.
    ///
    /// # Errors
    /// When one is refused.
    pub(crate) async fn repeat(&self, target: SocketAddr, times: usize) -> Result<()> {
        let mut threads = JoinSet::new();
        for _ in 0..THREADS {
            let client = self.clone();
            threads.spawn_blocking(move || {
                (0..times / THREADS).try_for_each(|_| client.exchange(target, b"").map(drop))
            });
        }
        while let Some(ended) = threads.join_next().await {
            ended??;
        }
        Ok(())
    }

    /// Says `request`, closes, and returns what was said back until the end.
    ///
    /// # Errors
    /// When the server refuses us, or cuts the connection.
    pub(crate) fn exchange(&self, target: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
        let name = ServerName::try_from("peer.invalid").expect("the constant is a DNS name");
        let mut tls = ClientConnection::new(Arc::clone(&self.0), name)?;
        let mut socket = TcpStream::connect(target)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).context("handshake")?;
        }
        tls.writer().write_all(request)?;
        if request.is_empty() {
            tls.send_close_notify();
        }
        while tls.wants_write() {
            tls.write_tls(&mut socket)?;
        }
        if request.is_empty() {
            socket.shutdown(Shutdown::Write)?;
        }
        read_to_end(&mut tls, &mut socket, request)
    }
}

/// Until the peer closes, or an HTTP/1.1 head is complete.
fn read_to_end(
    tls: &mut ClientConnection,
    socket: &mut TcpStream,
    request: &[u8],
) -> Result<Vec<u8>> {
    let mut said = Vec::new();
    loop {
        let read = tls.read_tls(socket).context("reading")?;
        let state = tls.process_new_packets().context("refused")?;
        let mut plain = vec![0; state.plaintext_bytes_to_read()];
        tls.reader().read_exact(&mut plain)?;
        said.extend_from_slice(&plain);
        let answered = !request.is_empty() && said.windows(4).any(|four| four == b"\r\n\r\n");
        if read == 0 || answered {
            return Ok(said);
        }
    }
}

#[derive(Debug)]
struct Anyone(CryptoProvider);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _stapled: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
