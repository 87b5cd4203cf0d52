//! TLS configurations. Everything that all of them share is said once, here: our provider, no
//! tickets, no stored sessions, no resumption, no early data; TLS 1.3 alone wherever a SPIFFE
//! identity is verified.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::clock::WallClock;
use crate::verifier::PeerVerifier;

/// ALPN protocol names, the preferred first.
pub(crate) type Alpn = Vec<Vec<u8>>;

/// How a listener handshakes. Made by [`Credentials`](crate::Credentials) or [`web`](crate::web);
/// cheap to clone.
#[derive(Clone)]
pub struct ServerTlsConfig {
    pub(crate) tls: Arc<ServerConfig>,
    /// None for listeners that never ask for a certificate.
    pub(crate) judge: Option<Judge>,
}

/// How a client handshakes, and whom it reaches. Made by [`Credentials`](crate::Credentials) or
/// [`PinnedRoots`](crate::pinned::PinnedRoots); cheap to clone.
#[derive(Clone)]
pub struct ClientTlsConfig {
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) judge: Judge,
}

/// The verifier that a configuration uses, and its clock.
#[derive(Clone)]
pub(crate) struct Judge {
    pub(crate) verifier: Arc<PeerVerifier>,
    pub(crate) clock: WallClock,
}

pub(crate) fn owned(alpn: &[&[u8]]) -> Alpn {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

/// A listener of the mesh, which asks for a certificate.
pub(crate) fn mesh_server(
    verifier: Arc<PeerVerifier>,
    key: Arc<CertifiedKey>,
    alpn: Alpn,
    clock: WallClock,
) -> ServerTlsConfig {
    let builder = ServerConfig::builder_with_details(crypto::provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites and groups for TLS 1.3")
        .with_client_cert_verifier(Arc::clone(&verifier) as _);
    let tls = harden(
        builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        alpn,
    );
    ServerTlsConfig {
        tls,
        judge: Some(Judge { verifier, clock }),
    }
}

/// A listener for those outside the mesh, which never asks for a certificate.
pub(crate) fn web_server(keys: Arc<dyn ResolvesServerCert>, alpn: Alpn) -> ServerTlsConfig {
    let builder = ServerConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites and groups for TLS 1.2 and 1.3")
        .with_no_client_auth();
    let tls = harden(builder.with_cert_resolver(keys), alpn);
    ServerTlsConfig { tls, judge: None }
}

/// A client of servers outside the mesh, which prove a host name to `roots`; it shows no
/// certificate.
pub(crate) fn web_client(
    roots: Arc<RootCertStore>,
    alpn: Alpn,
    clock: WallClock,
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_details(crypto::provider(), Arc::new(clock))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("the provider has suites and groups for TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    let mut tls = builder.with_no_client_auth();
    tls.alpn_protocols = alpn;
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    Arc::new(tls)
}

/// A client; without a key it shows no certificate.
pub(crate) fn client(
    verifier: Arc<PeerVerifier>,
    key: Option<Arc<CertifiedKey>>,
    alpn: Alpn,
    clock: WallClock,
) -> ClientTlsConfig {
    let builder = ClientConfig::builder_with_details(crypto::provider(), Arc::new(clock.clone()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites and groups for TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as _);
    let mut tls = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = alpn;
    tls.resumption = Resumption::disabled();
    tls.enable_early_data = false;
    tls.enable_sni = false;
    ClientTlsConfig {
        tls: Arc::new(tls),
        judge: Judge { verifier, clock },
    }
}

/// A resumed session would skip the check against the bundles of today.
fn harden(mut tls: ServerConfig, alpn: Alpn) -> Arc<ServerConfig> {
    tls.alpn_protocols = alpn;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    tls.max_early_data_size = 0;
    Arc::new(tls)
}

impl fmt::Debug for ServerTlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTlsConfig").finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientTlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTlsConfig").finish_non_exhaustive()
    }
}
