//! Trust in a CA before there is a bundle: an agent that joins, one that attests again, and the
//! command line know only the SHA-256 digests of the roots. The CA sends its root at the end of
//! its chain.
//!
//! Accepted is a chain that leads to a root with a pinned digest **and** whose leaf is a CA
//! replica of the trust domain: any workload's leaf leads to the same root. The one exception has
//! its danger in its name, and proves nothing of the server.

use std::sync::Arc;

use crypto::digest::Sha256;
use identity::x509::{Bundle, BundleSet, UnverifiedChain, VerifiedSvid};
use identity::{TrustDomain, is_ca_id};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::clock::WallClock;
use crate::config::{self, ClientTlsConfig};
use crate::error::Refusal;
use crate::expected::Expected;
use crate::verifier::PeerVerifier;

/// The roots of a trust domain, known by digest. Without any digest nothing is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedRoots {
    pins: Pins,
    trust_domain: TrustDomain,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pins {
    Digests(Vec<Sha256>),
    /// Whatever root the server sends last.
    Unproven,
}

impl PinnedRoots {
    /// The roots of `trust_domain` whose DER has one of these digests.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, digests: Vec<Sha256>) -> Self {
        Self {
            pins: Pins::Digests(digests),
            trust_domain,
        }
    }

    /// Whoever answers, with a root of its own making: for fetching what proves itself, such as a
    /// bundle update under a recovery key, and for nothing else. No secret may be sent over it, and
    /// nothing that is read from it may be believed for where it came from.
    #[must_use]
    pub fn danger_unproven(trust_domain: TrustDomain) -> Self {
        Self {
            pins: Pins::Unproven,
            trust_domain,
        }
    }

    /// The roots of a bundle that is held already, for a caller whose own SVID has expired.
    #[must_use]
    pub fn of_bundle(bundle: &Bundle) -> Self {
        let digests = bundle
            .authorities()
            .iter()
            .map(|root| root.digest())
            .collect();
        Self::new(bundle.trust_domain().clone(), digests)
    }

    /// A configuration that shows no certificate of ours and reaches a CA replica only. `now` is
    /// the process's wall clock.
    #[must_use]
    pub fn client_config(
        &self,
        alpn: &[&[u8]],
        now: impl Fn() -> OffsetDateTime + Send + Sync + 'static,
    ) -> ClientTlsConfig {
        let verifier = Arc::new(PeerVerifier::of_pinned(self.clone()));
        config::client(verifier, None, config::owned(alpn), WallClock::new(now))
    }

    pub(crate) fn verify(
        &self,
        mut chain: Vec<CertificateDer<'static>>,
        now: OffsetDateTime,
    ) -> Result<(VerifiedSvid, CertificateDer<'static>), Refusal> {
        let place = match &self.pins {
            Pins::Digests(digests) => chain
                .iter()
                .position(|sent| digests.contains(&Sha256::of(sent))),
            Pins::Unproven => chain.len().checked_sub(1).filter(|last| *last > 0),
        };
        let place = place.ok_or(Refusal::NotPinned)?;
        let root = chain.remove(place);
        let bundle = Bundle::new(self.trust_domain.clone(), 0, vec![root.to_vec()])
            .map_err(Refusal::PinnedRoot)?;
        let svid = UnverifiedChain::from_der(chain)?
            .verify(&BundleSet::from(bundle), now)
            .map_err(|error| Refusal::of_svid(error, now))?;
        if !is_ca_id(svid.spiffe_id(), &self.trust_domain) {
            let got = svid.spiffe_id().clone();
            return Err(Refusal::IdentityMismatch {
                expected: Expected::CaReplica,
                got,
            });
        }
        Ok((svid, root))
    }
}

#[cfg(test)]
mod tests;
