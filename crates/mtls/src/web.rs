//! TLS with those outside the mesh, by host name and files: TLS 1.2 and 1.3, never a client
//! certificate. As a server it refuses a key that does not belong to its certificate, and a
//! certificate that does not cover its host; as a client it believes the roots that it was given
//! and no others, and connects to the host that it asked for or not at all.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use identity::Validity;
use identity::x509::{CertificateError, validity_of};
use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use thiserror::Error;
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::clock::WallClock;
use crate::config::{self, ServerTlsConfig};
use crate::error::HandshakeError;
use crate::read_ahead::ReadAhead;
use crate::stream::WebTls;

/// A configuration from PEM text: the chain, leaf first, and its unencrypted private key (PKCS#8;
/// PKCS#1 and SEC1 where the backend reads them).
pub fn server_config_from_pem(
    certificates: &[u8],
    key: &[u8],
    alpn: &[&[u8]],
) -> Result<ServerTlsConfig, WebCertificateError> {
    let certificate = WebCertificate::from_pem(certificates, key)?;
    let only = Arc::new(SingleCertAndKey::from(certificate.key));
    Ok(config::web_server(only, config::owned(alpn)))
}

/// A configuration that shows each host's own certificate. Who says no host, or another, is shown
/// none: there is no handshake.
#[must_use]
pub fn server_config_by_host(
    certificates: impl IntoIterator<Item = (String, WebCertificate)>,
    alpn: &[&[u8]],
) -> ServerTlsConfig {
    let hosts = certificates.into_iter();
    let by_host = ByHost(hosts.map(|(host, it)| (host, it.key)).collect());
    config::web_server(Arc::new(by_host), config::owned(alpn))
}

/// A certificate with its key, to be shown to those outside the mesh. Cheap to clone.
#[derive(Clone)]
pub struct WebCertificate {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

impl WebCertificate {
    /// From PEM text, as [`server_config_from_pem`] takes it.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, WebCertificateError> {
        let chain = certificates_of(certificates)?;
        let leaf = chain[0].clone();
        let key = PrivateKeyDer::from_pem_slice(key).map_err(WebCertificateError::PrivateKey)?;
        let key = CertifiedKey::from_der(chain, key, &crypto::provider())
            .map_err(|error| WebCertificateError::Refused(Box::new(error)))?;
        let validity = validity_of(&leaf).map_err(WebCertificateError::Leaf)?;
        Ok(Self {
            key: Arc::new(key),
            validity,
        })
    }

    /// From when to when the leaf is valid. It is shown all the same: who shows it looks.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether it is for this host (RFC 9525).
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(host) else {
            return false;
        };
        let leaf = self.key.end_entity_cert();
        let leaf = leaf.and_then(ParsedCertificate::try_from);
        leaf.and_then(|leaf| verify_server_name(&leaf, &name))
            .is_ok()
    }
}

/// Shows the certificate of the host that the client says (RFC 6066 §3).
struct ByHost(HashMap<String, Arc<CertifiedKey>>);

impl ResolvesServerCert for ByHost {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let host = hello.server_name()?.to_ascii_lowercase();
        self.0.get(&host).cloned()
    }
}

/// Where operating systems keep the authorities that they believe: Debian and Alpine, Fedora, SUSE,
/// BSD.
pub const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Authorities that are believed about host names. Cheap to clone.
#[derive(Clone)]
pub struct WebRoots(Arc<RootCertStore>);

impl WebRoots {
    /// From PEM text. Certificates that no verifier could use, as collections of an operating
    /// system may hold them, are left out.
    pub fn from_pem(certificates: &[u8]) -> Result<Self, WebCertificateError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates_of(certificates)?);
        if roots.is_empty() {
            return Err(WebCertificateError::NoCertificate);
        }
        Ok(Self(Arc::new(roots)))
    }

    /// How a client handshakes with servers that these authorities vouch for. `now` is the
    /// process's wall clock.
    #[must_use]
    pub fn client_config(
        &self,
        alpn: &[&[u8]],
        now: impl Fn() -> OffsetDateTime + Send + Sync + 'static,
    ) -> WebClientConfig {
        let clock = WallClock::new(now);
        let roots = Arc::clone(&self.0);
        WebClientConfig(config::web_client(roots, config::owned(alpn), clock))
    }
}

/// How a client handshakes with servers outside the mesh. Cheap to clone.
#[derive(Clone)]
pub struct WebClientConfig(Arc<rustls::ClientConfig>);

/// Handshakes as the client with the server that proves to be `host`. Cancel-safe in that
/// dropping it closes `stream`; a deadline is the caller's.
pub async fn connect<S>(
    stream: S,
    config: &WebClientConfig,
    host: &str,
) -> Result<WebTls<S>, WebHandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned())?;
    let connector = TlsConnector::from(Arc::clone(&config.0));
    let stream = connector.connect(name, ReadAhead::new(stream)).await;
    Ok(WebTls {
        stream: stream.map_err(HandshakeError::from)?,
    })
}

/// Why there is no connection to a server outside the mesh.
#[derive(Debug, Error)]
pub enum WebHandshakeError {
    /// The host cannot be proven, whoever it is.
    #[error("not a host name")]
    Name(#[from] InvalidDnsNameError),
    /// The server is another, nobody vouches for it, or the handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

/// Why certificate files cannot be used.
#[derive(Debug, Error)]
pub enum WebCertificateError {
    /// The certificate file is not PEM.
    #[error("the certificate file is not PEM")]
    Certificates(#[source] pem::Error),
    /// The certificate file holds no certificate.
    #[error("the certificate file holds no certificate")]
    NoCertificate,
    /// The first certificate of the file cannot be read.
    #[error("the first certificate of the file cannot be read")]
    Leaf(#[source] CertificateError),
    /// The key file holds no private key that can be read.
    #[error("the key file holds no unencrypted private key in PEM")]
    PrivateKey(#[source] pem::Error),
    /// Key and certificate do not belong together, or the key's kind is not supported.
    #[error("the private key cannot be used with the certificate")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn certificates_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, WebCertificateError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(WebCertificateError::Certificates)?;
    if certificates.is_empty() {
        return Err(WebCertificateError::NoCertificate);
    }
    Ok(certificates)
}

impl fmt::Debug for WebCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebCertificate").finish_non_exhaustive()
    }
}

impl fmt::Debug for ByHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByHost").field(&self.0.keys()).finish()
    }
}

impl fmt::Debug for WebRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebRoots").field(&self.0.len()).finish()
    }
}

impl fmt::Debug for WebClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebClientConfig").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair};
    use rustls::version::TLS12;
    use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
    use time::macros::datetime;

    use super::*;
    use crate::accept;

    fn certificate_and_key() -> (String, String) {
        of_host("ca.example")
    }

    fn of_host(host: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    /// What client and server make of each other: the server has a certificate for `shown`, the
    /// client believes in `trusted` and asks for `asked`.
    async fn handshake(
        shown: &str,
        asked: &str,
        trusts_shown: bool,
    ) -> (
        Result<crate::ServerTls<tokio::io::DuplexStream>, HandshakeError>,
        Result<WebTls<tokio::io::DuplexStream>, WebHandshakeError>,
    ) {
        let (certificate, key) = of_host(shown);
        let server = WebCertificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        let server = server_config_by_host([(shown.to_owned(), server)], &[b"h2"]);
        let (other, _) = of_host(shown);
        let roots = if trusts_shown { certificate } else { other };
        let roots = WebRoots::from_pem(roots.as_bytes()).unwrap();
        let client = roots.client_config(&[b"h2"], || datetime!(2030-01-01 00:00 UTC));
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::join!(accept(far, server), connect(near, &client, asked))
    }

    #[tokio::test]
    async fn a_host_without_a_certificate_is_shown_none() {
        let (accepted, connected) = handshake("shop.example", "other.example", true).await;
        assert!(matches!(accepted.unwrap_err(), HandshakeError::Tls(_)));
        assert!(matches!(
            connected.unwrap_err(),
            WebHandshakeError::Handshake(HandshakeError::RefusedByPeer(_))
        ));
    }

    #[tokio::test]
    async fn a_server_that_nobody_believed_vouches_for_is_refused() {
        let (_, connected) = handshake("shop.example", "shop.example", false).await;
        assert!(matches!(
            connected.unwrap_err(),
            WebHandshakeError::Handshake(HandshakeError::Refused(_))
        ));
    }

    #[tokio::test]
    async fn the_host_that_was_asked_for_is_on_both_sides() {
        let (accepted, connected) = handshake("shop.example", "shop.example", true).await;
        assert_eq!(accepted.unwrap().server_name(), Some("shop.example"));
        assert_eq!(connected.unwrap().alpn(), Some(&b"h2"[..]));
    }

    #[test]
    fn a_certificate_covers_its_own_hosts_only() {
        let (certificate, key) = of_host("*.shop.example");
        let certificate = WebCertificate::from_pem(certificate.as_bytes(), key.as_bytes());
        let covers = |host: &str| certificate.as_ref().unwrap().covers(host);
        assert!(!covers("shop.example") && !covers("a.b.shop.example") && !covers("not a host"));
        assert!(covers("a.shop.example"));
    }

    #[track_caller]
    fn refused(certificates: &str, key: &str) -> WebCertificateError {
        server_config_from_pem(certificates.as_bytes(), key.as_bytes(), &[]).unwrap_err()
    }

    #[test]
    fn a_file_without_certificate_is_refused() {
        let (_, key) = certificate_and_key();
        assert!(matches!(
            refused("", &key),
            WebCertificateError::NoCertificate
        ));
    }

    #[test]
    fn a_certificate_says_from_when_to_when_it_is_valid() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = datetime!(2030-01-01 00:00 UTC);
        params.not_after = datetime!(2030-01-02 00:00 UTC);
        let certificate = params.self_signed(&key).unwrap().pem();
        let key = key.serialize_pem();
        let read = WebCertificate::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
        let validity = read.validity();
        assert_eq!(
            (validity.not_before(), validity.not_after()),
            (params.not_before, params.not_after)
        );
    }

    #[test]
    fn a_file_without_key_is_refused() {
        let (certificate, _) = certificate_and_key();
        let refused = refused(&certificate, &certificate);
        assert!(matches!(refused, WebCertificateError::PrivateKey(_)));
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let ((certificate, _), (_, key)) = (certificate_and_key(), certificate_and_key());
        assert!(matches!(
            refused(&certificate, &key),
            WebCertificateError::Refused(_)
        ));
    }

    #[tokio::test]
    async fn a_browser_of_tls_1_2_is_served_and_asked_for_no_certificate() {
        let (certificate, key) = certificate_and_key();
        let config =
            server_config_from_pem(certificate.as_bytes(), key.as_bytes(), &[b"h2"]).unwrap();
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap())
            .unwrap();
        let client = ClientConfig::builder_with_provider(crypto::provider())
            .with_protocol_versions(&[&TLS12])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let name = ServerName::try_from("ca.example").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let (accepted, connected) =
            tokio::join!(accept(far, config), connector.connect(name, near));
        assert!(accepted.unwrap().peer().is_none());
        let version = connected.unwrap().get_ref().1.protocol_version();
        assert_eq!(version, Some(ProtocolVersion::TLSv1_2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn no_text_makes_the_reader_panic(certificates: Vec<u8>, key: Vec<u8>) {
            prop_assert!(server_config_from_pem(&certificates, &key, &[]).is_err());
        }
    }
}
