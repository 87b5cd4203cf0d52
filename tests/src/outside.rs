//! The world outside the mesh: an authority of its own, certificates in files, and callers who
//! know host names and nothing of identities.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use runtime::files::write_private;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::caller::Caller;

/// Vouches for host names.
#[derive(Debug)]
pub struct Authority {
    root: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Debug)]
pub struct Certificate {
    pub chain: String,
    pub key: String,
}

/// Who calls from outside, and believes one authority.
#[derive(Debug, Clone)]
pub struct Outsider {
    roots: Arc<RootCertStore>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("valid parameters").pem();
        Self {
            root,
            issuer: Issuer::new(params, key),
        }
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    pub fn certificate(&self, host: &str) -> Certificate {
        let params = CertificateParams::new(vec![host.to_owned()]);
        self.sign(&params.expect("a host name"))
    }

    fn sign(&self, params: &CertificateParams) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let leaf = params.signed_by(&key, &self.issuer);
        Certificate {
            chain: leaf.expect("valid parameters").pem(),
            key: key.serialize_pem(),
        }
    }

    /// Writes `NAME.pem` and `NAME.key` for `host`; whoever reads sees the old pair or the new
    /// one, or for a moment one file of each.
    pub fn write(&self, folder: &Path, name: &str, host: &str) {
        self.certificate(host).write(folder, name);
    }

    /// As [`Authority::write`], valid from `not_before` to `not_after`.
    pub fn write_valid(
        &self,
        folder: &Path,
        name: &str,
        host: &str,
        [not_before, not_after]: [OffsetDateTime; 2],
    ) {
        let params = CertificateParams::new(vec![host.to_owned()]);
        let mut params = params.expect("a host name");
        (params.not_before, params.not_after) = (not_before, not_after);
        self.sign(&params).write(folder, name);
    }

    pub fn outsider(&self) -> Outsider {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.root.as_bytes()).expect("PEM");
        roots.add(root).expect("a root");
        Outsider {
            roots: Arc::new(roots),
        }
    }

    /// What a server shows that proves to be `host`.
    pub fn acceptor(&self, host: &str, alpn: &[&[u8]]) -> TlsAcceptor {
        let Certificate { chain, key } = self.certificate(host);
        let chain = CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
        let builder = ServerConfig::builder_with_provider(crypto::provider::provider());
        let builder = builder.with_safe_default_protocol_versions();
        let mut config = builder
            .expect("the provider has suites")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("they belong together");
        config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Certificate {
    fn write(&self, folder: &Path, name: &str) {
        let place = |ending: &str| folder.join(format!("{name}.{ending}"));
        write_private(place("key"), self.key.as_bytes()).expect("writable");
        write_private(place("pem"), self.chain.as_bytes()).expect("writable");
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Outsider {
    /// Handshakes with whoever is there, who must prove to be `host`.
    ///
    /// # Errors
    /// If there is no handshake.
    pub async fn handshake(
        &self,
        address: SocketAddr,
        host: &str,
        alpn: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let builder = ClientConfig::builder_with_provider(crypto::provider::provider());
        let builder = builder.with_safe_default_protocol_versions();
        let mut config = builder
            .expect("the provider has suites")
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let socket = TcpStream::connect(address).await?;
        let name = ServerName::try_from(host.to_owned()).expect("a host name");
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, socket).await
    }

    /// A connection for `host` over HTTP/1.1.
    ///
    /// # Panics
    /// When there is no handshake.
    pub async fn caller(&self, address: SocketAddr, host: &str) -> Caller {
        let tls = self.handshake(address, host, b"http/1.1").await;
        Caller::over_http1(tls.expect("a handshake")).await
    }

    /// As [`Outsider::caller`], over HTTP/2.
    ///
    /// # Panics
    /// When there is no handshake.
    pub async fn h2_caller(&self, address: SocketAddr, host: &str) -> Caller {
        let tls = self.handshake(address, host, b"h2").await;
        Caller::over_http2(tls.expect("a handshake")).await
    }
}

/// A request as clients of HTTP/1.1 send it over TLS.
pub fn request(method: Method, host: &str, path: &str) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(path);
    let builder = builder.header("host", host);
    builder.body(Full::default()).expect("a valid request")
}

/// A request as clients of HTTP/2 send it over TLS.
pub fn h2_request(method: Method, host: &str, path: &str) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method);
    let builder = builder.uri(format!("https://{host}{path}"));
    builder.body(Full::default()).expect("a valid request")
}

/// Makes a file readable by others.
pub fn expose(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("ours");
}
