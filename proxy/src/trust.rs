//! Whether the bundles in force still vouch for a peer that they vouched for in its handshake.
//!
//! Invariant: while no root has been removed, nothing is judged again and nothing is paid. After a
//! removal each peer's chain is judged once, and one that does not verify stays refused.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use identity::TrustDomain;
use identity::x509::{Bundle, BundleSet, UnverifiedChain};
use mtls::PeerIdentity;
use time::OffsetDateTime;

/// No count of removals reaches it.
const REFUSED: u64 = u64::MAX;

/// The bundles in force, and how often one has lost a root. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    removals: u64,
    bundles: BundleSet,
}

/// A peer, and whether its chain was judged since. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Vouched(Arc<Shown>);

struct Shown {
    peer: Option<PeerIdentity>,
    /// The count of removals that it was judged after.
    judged: AtomicU64,
}

impl Trust {
    /// What follows when these bundles come into force. Answers whether a root has gone.
    pub(crate) fn follow(&mut self, bundles: BundleSet) -> bool {
        let lost = self.bundles.iter().any(|before| {
            let after = bundles.get(before.trust_domain());
            let kept = after.map_or(&[][..], Bundle::authorities);
            !before.authorities().iter().all(|root| kept.contains(root))
        });
        self.removals += u64::from(lost);
        self.bundles = bundles;
        lost
    }

    /// The sequence of the bundle of `trust_domain`; 0 without one.
    pub(crate) fn sequence(&self, trust_domain: &TrustDomain) -> u64 {
        self.bundles.get(trust_domain).map_or(0, Bundle::sequence)
    }
}

impl Vouched {
    /// Whom a handshake has just verified.
    pub(crate) fn of(peer: &PeerIdentity) -> Self {
        Self::shown(Some(peer.clone()))
    }

    /// Whom no bundle vouches for once a root was removed.
    #[cfg(test)]
    pub(crate) fn without_chain() -> Self {
        Self::shown(None)
    }

    fn shown(peer: Option<PeerIdentity>) -> Self {
        Self(Arc::new(Shown {
            peer,
            judged: AtomicU64::new(0),
        }))
    }

    pub(crate) fn holds(&self, trust: &Trust, now: OffsetDateTime) -> bool {
        let judged = self.0.judged.load(Ordering::Relaxed);
        if judged == trust.removals {
            return true;
        }
        if judged == REFUSED {
            return false;
        }
        let vouched = self.0.peer.as_ref().is_some_and(|peer| {
            let chain = UnverifiedChain::from_der(peer.chain().to_vec());
            chain.is_ok_and(|chain| chain.verify(&trust.bundles, now).is_ok())
        });
        let outcome = if vouched { trust.removals } else { REFUSED };
        self.0.judged.store(outcome, Ordering::Relaxed);
        vouched
    }
}

impl fmt::Debug for Vouched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vouched({:?})", self.0.peer)
    }
}

#[cfg(test)]
mod tests {
    use identity::x509::RootCertificate;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2030-01-01 00:00 UTC);

    fn bundles(roots: &[&RootCertificate]) -> BundleSet {
        let roots = roots.iter().map(|root| (*root).clone()).collect();
        let domain: TrustDomain = "td.test".parse().unwrap();
        Bundle::from_roots(domain, 1, roots).unwrap().into()
    }

    fn root() -> RootCertificate {
        let (domain, key) = (
            "td.test".parse().unwrap(),
            crypto::signing::SigningKey::generate(),
        );
        let validity = identity::Validity::try_new(NOW, NOW + time::Duration::HOUR).unwrap();
        let serial = identity::SerialNumber::random(&mut crypto::random::SystemRandom);
        let root = identity::x509::Authority::new_root(&domain, &key, validity, serial).unwrap();
        RootCertificate::from_der(root.certificate().clone()).unwrap()
    }

    #[test]
    fn who_was_vouched_for_by_a_removed_root_is_refused_and_stays_so() {
        let (old, new) = (root(), root());
        let mut trust = Trust::default();
        let peer = Vouched::without_chain();
        assert!(!trust.follow(bundles(&[&old])));
        assert!(!trust.follow(bundles(&[&old, &new])));
        assert!(peer.holds(&trust, NOW));
        assert!(trust.follow(bundles(&[&new])));
        assert!(!peer.holds(&trust, NOW));
        assert!(!peer.holds(&trust, NOW));
    }
}
