//! Bytes that no library of ours would send, and TLS that believes and shows whatever it is told.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crypto::signing::SigningKey;
use identity::x509::X509Svid;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::waiting::DEADLINE;

/// What a TLS listener made of us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It spoke HTTP/2 with us.
    Admitted,
    Refused(AlertDescription),
    /// Without a word.
    Cut,
}

/// What a TLS client shows and offers.
#[derive(Debug)]
pub struct Client<'a> {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: Option<&'a SigningKey>,
    pub version: &'static SupportedProtocolVersion,
}

/// Says it, and returns all that is said back until the end of the connection.
///
/// # Panics
/// When it does not end in time.
pub async fn say(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let socket = TcpStream::connect(address).await.expect("somebody listens");
    exchange(socket, bytes).await
}

/// [`say`] to a Unix socket.
pub async fn say_locally(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let socket = UnixStream::connect(path).await.expect("somebody listens");
    exchange(socket, bytes).await
}

async fn exchange(socket: impl AsyncRead + AsyncWrite, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(socket);
    let mut answer = Vec::new();
    let reading = async {
        // A reset is an end too; what came before it counts.
        drop(reader.read_to_end(&mut answer).await);
    };
    // Who refuses early may not read all of it.
    let writing = async { drop(writer.write_all(bytes).await) };
    timeout(DEADLINE, async { tokio::join!(reading, writing) })
        .await
        .expect("the connection ends in time");
    answer
}

impl Client<'_> {
    /// Shows another's certificate and signs with the own key.
    #[must_use]
    pub fn posing_as(mut self, other: &X509Svid) -> Self {
        self.chain = other.svid().chain().to_vec();
        self
    }

    /// Connects, and listens to what the other side says first.
    pub async fn try_on(self, address: SocketAddr) -> Verdict {
        let mut tls = match self.connect(address).await {
            Ok(tls) => tls,
            Err(error) => return verdict(&error),
        };
        // Under TLS 1.3 a client learns of its refusal when it reads.
        match timeout(DEADLINE, tls.read(&mut [0; 64])).await {
            Ok(Ok(0)) => Verdict::Cut,
            Ok(Ok(_)) => Verdict::Admitted,
            Ok(Err(error)) => verdict(&error),
            Err(_) => panic!("neither admitted nor refused"),
        }
    }

    pub async fn connect(self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_speaking(address, b"h2").await
    }

    /// Offers one protocol of the caller's choice.
    pub async fn connect_speaking(
        self,
        address: SocketAddr,
        alpn: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(address).await.expect("somebody listens");
        let name = ServerName::IpAddress(address.ip().into());
        let connector = TlsConnector::from(Arc::new(self.config(alpn)));
        connector.connect(name, socket).await
    }

    fn config(self, alpn: &[u8]) -> ClientConfig {
        let provider = crypto::provider::provider();
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[self.version])
            .expect("the provider has suites for it")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous(provider)));
        let mut config = match self.key {
            None => builder.with_no_client_auth(),
            Some(key) => {
                // Not compared: the two may not belong together.
                let shown = CertifiedKey::new(self.chain, key.rustls_key());
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
            }
        };
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }
}

fn verdict(error: &std::io::Error) -> Verdict {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(Error::AlertReceived(alert)) => Verdict::Refused(*alert),
        _ => Verdict::Cut,
    }
}

/// Takes every server for what it says it is.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
