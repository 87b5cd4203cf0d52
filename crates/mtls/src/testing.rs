//! What the tests build: meshes with a root and an intermediate, good and bad leaves, a clock
//! that is moved by hand, and handshakes over memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crypto::random::{Random, SystemRandom};
use crypto::signing::SigningKey;
use identity::TrustDomain;
use identity::x509::{Bundle, BundleSet, UnverifiedChain, X509Svid};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use time::macros::datetime;
use tokio::io::{AsyncReadExt, DuplexStream};

use crate::config;
use crate::denial::Denials;
use crate::verifier::PeerVerifier;
use crate::{
    ClientTls, ClientTlsConfig, Credentials, Expected, HandshakeError, Publisher, ServerTls,
    ServerTlsConfig, accept, channel, connect,
};

pub(crate) const NOW: OffsetDateTime = datetime!(2030-06-01 12:00 UTC);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// A wall clock that starts at [`NOW`] and moves when told.
#[derive(Clone, Default)]
pub(crate) struct Clock(Arc<AtomicI64>);

impl Clock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs() as i64, Ordering::SeqCst);
    }

    pub(crate) fn reader(&self) -> impl Fn() -> OffsetDateTime + Send + Sync + 'static {
        let seconds = Arc::clone(&self.0);
        move || NOW + time::Duration::seconds(seconds.load(Ordering::SeqCst))
    }
}

type Issuer = CertifiedIssuer<'static, SigningKey>;

/// A trust domain with its authorities.
pub(crate) struct Mesh {
    pub(crate) trust_domain: TrustDomain,
    root: Issuer,
    intermediate: Issuer,
}

impl Mesh {
    pub(crate) fn new(name: &str) -> Self {
        let key = SigningKey::generate();
        let root = Issuer::self_signed(authority(name, "root"), key).unwrap();
        let key = SigningKey::generate();
        let intermediate = Issuer::signed_by(authority(name, "ca-1"), key, &root).unwrap();
        Self {
            trust_domain: name.parse().unwrap(),
            root,
            intermediate,
        }
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.root.der().clone()
    }

    pub(crate) fn bundle(&self) -> Bundle {
        Bundle::new(self.trust_domain.clone(), 1, vec![self.root().to_vec()]).unwrap()
    }

    pub(crate) fn bundles(&self) -> BundleSet {
        BundleSet::from_iter([self.bundle()])
    }

    pub(crate) fn leaf(&self, path: &str) -> Leaf<'_> {
        self.leaf_named(&format!("spiffe://{}{path}", self.trust_domain))
    }

    pub(crate) fn leaf_named(&self, id: &str) -> Leaf<'_> {
        let mut params = blank();
        params.subject_alt_names = vec![uri(id)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Leaf {
            mesh: self,
            params,
            key: SigningKey::generate(),
        }
    }

    /// Credentials of an identity of this mesh, published at the clock's time.
    pub(crate) fn credentials(&self, path: &str, clock: &Clock) -> (Publisher, Credentials) {
        let (publisher, credentials) = channel(clock.reader());
        publisher
            .publish(self.leaf(path).svid(), self.bundles())
            .unwrap();
        (publisher, credentials)
    }

    /// A listener of `/server`, with a clock of its own.
    pub(crate) fn server(&self) -> ServerTlsConfig {
        self.credentials("/server", &Clock::default())
            .1
            .server_config(&[])
            .unwrap()
    }

    /// A client `/client`, with a clock of its own.
    pub(crate) fn client(&self, expected: Expected) -> ClientTlsConfig {
        let (_, credentials) = self.credentials("/client", &Clock::default());
        credentials.client_config(expected, &[]).unwrap()
    }

    pub(crate) fn id(&self, path: &str) -> identity::SpiffeId {
        format!("spiffe://{}{path}", self.trust_domain)
            .parse()
            .unwrap()
    }

    pub(crate) fn only(&self, path: &str) -> Expected {
        Expected::exactly(self.id(path))
    }

    /// A client that shows whatever it is given, and reaches `/server`.
    pub(crate) fn client_with(&self, key: Option<Arc<CertifiedKey>>) -> ClientTlsConfig {
        let verifier = PeerVerifier::of_expected(
            self.bundles(),
            self.only("/server"),
            self.trust_domain.clone(),
            Denials::none(),
        );
        config::client(
            Arc::new(verifier),
            key,
            Vec::new(),
            crate::clock::WallClock::new(Clock::default().reader()),
        )
    }

    /// A listener that shows whatever it is given.
    pub(crate) fn server_with(&self, key: Arc<CertifiedKey>) -> ServerTlsConfig {
        config::mesh_server(
            Arc::new(PeerVerifier::of_anyone_or_nobody(
                self.bundles(),
                Denials::none(),
            )),
            key,
            Vec::new(),
            crate::clock::WallClock::new(Clock::default().reader()),
        )
    }
}

/// A leaf to be issued, good unless it is made bad.
pub(crate) struct Leaf<'a> {
    mesh: &'a Mesh,
    params: CertificateParams,
    key: SigningKey,
}

impl Leaf<'_> {
    pub(crate) fn lasting(mut self, from: OffsetDateTime, to: OffsetDateTime) -> Self {
        (self.params.not_before, self.params.not_after) = (from, to);
        self
    }

    pub(crate) fn also_named(mut self, id: &str) -> Self {
        self.params.subject_alt_names.push(uri(id));
        self
    }

    pub(crate) fn that_is_an_authority(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        self
    }

    /// The chain and its key, as a TLS stack shows them; nothing is checked.
    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::new(CertifiedKey::new(self.chain(), self.key.rustls_key()))
    }

    /// The same with the root at the end.
    pub(crate) fn certified_with(&self, root: CertificateDer<'static>) -> Arc<CertifiedKey> {
        let chain = [self.chain(), vec![root]].concat();
        Arc::new(CertifiedKey::new(chain, self.key.rustls_key()))
    }

    /// With a signature in which one bit is wrong.
    pub(crate) fn tampered(&self) -> Arc<CertifiedKey> {
        let mut chain = self.chain();
        let mut leaf = chain[0].to_vec();
        *leaf.last_mut().unwrap() ^= 1;
        chain[0] = leaf.into();
        Arc::new(CertifiedKey::new(chain, self.key.rustls_key()))
    }

    /// Shown by somebody who has another key.
    pub(crate) fn stolen(&self) -> Arc<CertifiedKey> {
        Arc::new(CertifiedKey::new(
            self.chain(),
            SigningKey::generate().rustls_key(),
        ))
    }

    pub(crate) fn svid(&self) -> X509Svid {
        let chain = UnverifiedChain::from_der(self.chain()).unwrap();
        let judged_at = self.params.not_before + time::Duration::seconds(1);
        let verified = chain.verify(&self.mesh.bundles(), judged_at).unwrap();
        X509Svid::try_new(verified, self.key.clone()).unwrap()
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        let leaf = self
            .params
            .signed_by(&self.key, &self.mesh.intermediate)
            .unwrap();
        vec![leaf.der().clone(), self.mesh.intermediate.der().clone()]
    }
}

pub(crate) type Handshake = (
    Result<ServerTls<DuplexStream>, HandshakeError>,
    Result<ClientTls<DuplexStream>, HandshakeError>,
);

pub(crate) async fn handshake(server: ServerTlsConfig, client: ClientTlsConfig) -> Handshake {
    let (near, far) = tokio::io::duplex(256 * 1024);
    tokio::join!(accept(far, server), connect(near, client))
}

/// What a client whose own part is done learns from its first read.
pub(crate) async fn first_read(client: ClientTls<DuplexStream>) -> HandshakeError {
    let mut client = client;
    client.read_u8().await.unwrap_err().into()
}

fn authority(trust_domain: &str, name: &str) -> CertificateParams {
    let mut params = blank();
    params.distinguished_name.push(DnType::CommonName, name);
    params
        .distinguished_name
        .push(DnType::OrganizationName, trust_domain);
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (NOW - 24 * HOUR, NOW + 1000 * HOUR);
    params
}

fn blank() -> CertificateParams {
    let mut serial: [u8; 16] = SystemRandom.bytes();
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (NOW - HOUR / 2, NOW + HOUR);
    params
}

fn uri(id: &str) -> SanType {
    SanType::URI(id.try_into().unwrap())
}
