//! Live credentials: one publisher, any number of readers, whole values.
//!
//! Invariant: what readers see was verified against its own bundles at the moment of publishing,
//! our own certificate included. Each publication is a generation; TLS configurations are made
//! once for each and kept with it, so a renewal changes all new connections at once and no old
//! ones.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use crypto::digest::Sha256;
use identity::x509::{
    Bundle, BundleSet, ChainError, DenyList, RootCertificate, SvidError, UnverifiedChain, X509Svid,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::CertificateDer;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::cache::Cache;
use crate::clock::WallClock;
use crate::config::{self, Alpn, ClientTlsConfig, ServerTlsConfig};
use crate::denial::Denials;
use crate::expected::Expected;
use crate::verifier::PeerVerifier;

/// Client configurations kept for one generation: one for each service that is called.
const CLIENT_CONFIGS: usize = 1024;
const SERVER_CONFIGS: usize = 32;

/// A publisher and its readers; nothing is published yet. `now` is the process's wall clock: by it
/// our own certificate and every peer's are judged.
pub fn channel(
    now: impl Fn() -> OffsetDateTime + Send + Sync + 'static,
) -> (Publisher, Credentials) {
    let (sender, receiver) = watch::channel(None);
    let denied = watch::Sender::default();
    let shared = Arc::new(Shared {
        clock: WallClock::new(now),
        current: ArcSwapOption::empty(),
        denials: Denials::of(denied.subscribe()),
    });
    let publisher = Publisher {
        shared: Arc::clone(&shared),
        generation: sender,
        denied,
    };
    (
        publisher,
        Credentials {
            shared,
            generation: receiver,
        },
    )
}

struct Shared {
    clock: WallClock,
    current: ArcSwapOption<Current>,
    denials: Denials,
}

/// Counts publications, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The writing half.
pub struct Publisher {
    shared: Arc<Shared>,
    generation: watch::Sender<Option<Generation>>,
    denied: watch::Sender<DenyList>,
}

impl Publisher {
    /// Verifies `svid` against the bundle of its own trust domain in `bundles`, then publishes
    /// both. Readers keep what they have if it is refused.
    pub fn publish(&self, svid: X509Svid, bundles: BundleSet) -> Result<Generation, PublishError> {
        let now = self.shared.clock.now();
        UnverifiedChain::from_der(svid.svid().chain().to_vec())?.verify(&bundles, now)?;
        let root = root_of(&svid, &bundles, now)?;
        let mut published = Generation(1);
        self.generation.send_modify(|generation| {
            if let Some(Generation(last)) = generation {
                published = Generation(*last + 1);
            }
            let shared = &self.shared;
            let current = Current::new(svid, bundles, root, published, shared, now);
            self.shared.current.store(Some(Arc::new(current)));
            *generation = Some(published);
        });
        Ok(published)
    }

    /// From now on handshakes refuse whom this list names, and nobody whom only an earlier one
    /// named. It needs no publication before it.
    pub fn deny(&self, list: DenyList) {
        self.denied.send_if_modified(|known| {
            let changed = *known != list;
            *known = list;
            changed
        });
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Publisher(generation {:?})", *self.generation.borrow())
    }
}

/// Which of several roots the chain leads to; servers of the CA append it to their chain.
fn root_of(
    svid: &X509Svid,
    bundles: &BundleSet,
    now: OffsetDateTime,
) -> Result<CertificateDer<'static>, PublishError> {
    let trust_domain = svid.spiffe_id().trust_domain();
    let roots = bundles
        .get(trust_domain)
        .map_or(&[][..], Bundle::authorities);
    let leads_to = |root: &&RootCertificate| {
        let alone = Bundle::from_roots(trust_domain.clone(), 0, vec![RootCertificate::clone(root)]);
        let chain = UnverifiedChain::from_der(svid.svid().chain().to_vec());
        alone.is_ok_and(|bundle| chain.is_ok_and(|chain| chain.verify(&bundle.into(), now).is_ok()))
    };
    roots
        .iter()
        .find(leads_to)
        .map(|root| root.der().clone())
        .ok_or(PublishError::NoRoot)
}

/// The reading half. Cheap to clone; each clone has its own place in the sequence of changes.
#[derive(Clone)]
pub struct Credentials {
    shared: Arc<Shared>,
    generation: watch::Receiver<Option<Generation>>,
}

impl Credentials {
    /// What is published now.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Current>> {
        self.shared.current.load_full()
    }

    /// Waits for a publication that this clone has not seen.
    pub async fn changed(&mut self) -> Result<Arc<Current>, PublisherGone> {
        self.generation.changed().await.map_err(|_| PublisherGone)?;
        self.current().ok_or(PublisherGone)
    }

    /// Waits for the first publication; returns at once after it.
    pub async fn wait_ready(&self) -> Result<Arc<Current>, PublisherGone> {
        let mut generation = self.generation.clone();
        generation
            .wait_for(Option::is_some)
            .await
            .map_err(|_| PublisherGone)?;
        self.current().ok_or(PublisherGone)
    }

    /// Whom handshakes refuse now although their certificates verify.
    #[must_use]
    pub fn denied(&self) -> DenyList {
        self.shared.denials.current()
    }

    /// Every list from now on (some may be skipped).
    #[must_use]
    pub fn denials(&self) -> watch::Receiver<DenyList> {
        self.shared.denials.changes()
    }

    /// For a listener of the mesh: a client certificate is required.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<ServerTlsConfig, NotReady> {
        self.server(Audience::Mesh, alpn)
    }

    /// For the CA's agents' listener: a client certificate is asked for, and judged if it comes;
    /// our root is appended to the chain for those who know only its digest.
    pub fn optional_client_server_config(
        &self,
        alpn: &[&[u8]],
    ) -> Result<ServerTlsConfig, NotReady> {
        self.server(Audience::Joining, alpn)
    }

    /// For the CA's web listener when it has no certificate files: our own chain and root, TLS 1.2
    /// and 1.3, no client certificate.
    pub fn web_server_config(&self, alpn: &[&[u8]]) -> Result<ServerTlsConfig, NotReady> {
        self.server(Audience::Web, alpn)
    }

    fn server(&self, audience: Audience, alpn: &[&[u8]]) -> Result<ServerTlsConfig, NotReady> {
        let current = self.current().ok_or(NotReady)?;
        let key = (audience, config::owned(alpn));
        Ok(current
            .servers
            .find_or_make(key, |(audience, alpn)| current.server(*audience, alpn)))
    }

    /// For a client that shows our certificate and reaches `expected`, nobody else.
    pub fn client_config(
        &self,
        expected: Expected,
        alpn: &[&[u8]],
    ) -> Result<ClientTlsConfig, NotReady> {
        let current = self.current().ok_or(NotReady)?;
        let key = (expected, config::owned(alpn));
        Ok(current
            .clients
            .find_or_make(key, |(expected, alpn)| current.client(expected, alpn)))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials(generation {:?})", *self.generation.borrow())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Audience {
    Mesh,
    Joining,
    Web,
}

/// One generation of credentials.
pub struct Current {
    svid: X509Svid,
    bundles: BundleSet,
    generation: Generation,
    life: Duration,
    clock: WallClock,
    denials: Denials,
    chain: Arc<CertifiedKey>,
    chain_and_root: Arc<CertifiedKey>,
    servers: Cache<(Audience, Alpn), ServerTlsConfig>,
    clients: Cache<(Expected, Alpn), ClientTlsConfig>,
}

impl Current {
    fn new(
        svid: X509Svid,
        bundles: BundleSet,
        root: CertificateDer<'static>,
        generation: Generation,
        shared: &Shared,
        now: OffsetDateTime,
    ) -> Self {
        let key = svid.key().rustls_key();
        let chain = svid.svid().chain().to_vec();
        let chain_and_root = [chain.clone(), vec![root]].concat();
        Self {
            chain: Arc::new(CertifiedKey::new(chain, Arc::clone(&key))),
            chain_and_root: Arc::new(CertifiedKey::new(chain_and_root, key)),
            life: svid.svid().validity().remaining(now),
            svid,
            bundles,
            generation,
            clock: shared.clock.clone(),
            denials: shared.denials.clone(),
            servers: Cache::new(SERVER_CONFIGS),
            clients: Cache::new(CLIENT_CONFIGS),
        }
    }

    /// Our own SVID.
    #[must_use]
    pub fn svid(&self) -> &X509Svid {
        &self.svid
    }

    /// The root that our own SVID leads to: SHA-256 of its SubjectPublicKeyInfo.
    #[must_use]
    pub fn root(&self) -> Option<Sha256> {
        self.svid.svid().authorities().last().copied()
    }

    /// The authorities of every trust domain that we know.
    #[must_use]
    pub fn bundles(&self) -> &BundleSet {
        &self.bundles
    }

    /// Which publication this is.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What was left of our leaf when it was published: its life from the time of issue, and less
    /// for one that waited in a cache. The certificate alone does not say how far it is back-dated.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.life
    }

    fn server(&self, audience: Audience, alpn: &Alpn) -> ServerTlsConfig {
        let (bundles, clock, alpn) = (self.bundles.clone(), self.clock.clone(), alpn.clone());
        let denials = self.denials.clone();
        match audience {
            Audience::Mesh => {
                let verifier = Arc::new(PeerVerifier::of_anyone(bundles, denials));
                config::mesh_server(verifier, Arc::clone(&self.chain), alpn, clock)
            }
            Audience::Joining => {
                let verifier = Arc::new(PeerVerifier::of_anyone_or_nobody(bundles, denials));
                config::mesh_server(verifier, Arc::clone(&self.chain_and_root), alpn, clock)
            }
            Audience::Web => {
                let key = SingleCertAndKey::from(Arc::clone(&self.chain_and_root));
                config::web_server(Arc::new(key), alpn)
            }
        }
    }

    fn client(&self, expected: &Expected, alpn: &Alpn) -> ClientTlsConfig {
        let own = self.svid.spiffe_id().trust_domain();
        let verifier = PeerVerifier::of_expected(
            self.bundles.clone(),
            expected.clone(),
            own.clone(),
            self.denials.clone(),
        );
        let key = Some(Arc::clone(&self.chain));
        config::client(Arc::new(verifier), key, alpn.clone(), self.clock.clone())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.svid.spiffe_id();
        write!(f, "Current({id}, generation {})", self.generation)
    }
}

/// Why credentials were not published.
#[derive(Debug, PartialEq, Error)]
pub enum PublishError {
    /// Our own chain cannot be read.
    #[error("our own certificate chain cannot be read")]
    Chain(#[from] ChainError),
    /// Our own certificate does not verify against the bundles beside it.
    #[error("our own certificate does not verify against the bundle of its trust domain")]
    Refused(#[from] SvidError),
    /// The chain verifies against the bundle, but against none of its roots alone.
    #[error("our own certificate leads to no single root of its bundle")]
    NoRoot,
}

/// Nothing has been published yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this process holds no credentials yet")]
pub struct NotReady;

/// The publisher is gone, and nothing more will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the publisher of credentials has ended")]
pub struct PublisherGone;

#[cfg(test)]
mod tests;
