//! Whether a peer that was vouched for in its handshake still is: by the bundles in force, and by the
//! deny-list.
//!
//! Invariant: while no root has been removed and the deny-list names nobody new, nothing is judged
//! again and nothing is paid. After a removal each peer's chain is judged once, after an addition
//! its names are looked up once, and one that is refused stays refused.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use identity::TrustDomain;
use identity::x509::{Bundle, BundleSet, Denied, DenyList, UnverifiedChain};
use mtls::PeerIdentity;
use time::OffsetDateTime;

use crate::failure::Reason;

/// No count of changes reaches it.
const REFUSED: u64 = u64::MAX;

/// The bundles and the deny-list in force, and how often each has taken trust away. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    removals: u64,
    bundles: BundleSet,
    additions: u64,
    denied: DenyList,
}

/// A peer, and whether it was judged since. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Vouched(Arc<Shown>);

struct Shown {
    peer: Option<PeerIdentity>,
    /// The count of removals that it was judged after.
    judged: AtomicU64,
    /// The count of additions that it was looked up after.
    looked_up: AtomicU64,
}

/// Why a peer is vouched for no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The root above its certificate was removed.
    Root,
    /// The deny-list names it.
    Revoked(Option<Denied>),
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

    /// What follows when this deny-list comes into force.
    pub(crate) fn deny(&mut self, denied: DenyList) {
        self.additions += u64::from(denied.adds_to(&self.denied));
        self.denied = denied;
    }

    pub(crate) fn denied(&self) -> &DenyList {
        &self.denied
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
            looked_up: AtomicU64::new(0),
        }))
    }

    /// # Errors
    /// Why it is vouched for no more.
    pub(crate) fn holds(&self, trust: &Trust, now: OffsetDateTime) -> Result<(), Lost> {
        self.not_denied(trust)?;
        let judged = self.0.judged.load(Ordering::Relaxed);
        if judged == trust.removals {
            return Ok(());
        }
        if judged == REFUSED {
            return Err(Lost::Root);
        }
        let vouched = self.0.peer.as_ref().is_some_and(|peer| {
            let chain = UnverifiedChain::from_der(peer.chain().to_vec());
            chain.is_ok_and(|chain| chain.verify(&trust.bundles, now).is_ok())
        });
        let outcome = if vouched { trust.removals } else { REFUSED };
        self.0.judged.store(outcome, Ordering::Relaxed);
        vouched.then_some(()).ok_or(Lost::Root)
    }

    fn not_denied(&self, trust: &Trust) -> Result<(), Lost> {
        let looked_up = self.0.looked_up.load(Ordering::Relaxed);
        if looked_up == trust.additions {
            return Ok(());
        }
        let by = || self.0.peer.as_ref()?.denied_by(&trust.denied);
        if looked_up == REFUSED {
            return Err(Lost::Revoked(by()));
        }
        let by = by();
        let outcome = if by.is_none() {
            trust.additions
        } else {
            REFUSED
        };
        self.0.looked_up.store(outcome, Ordering::Relaxed);
        by.map_or(Ok(()), |by| Err(Lost::Revoked(Some(by))))
    }
}

impl Lost {
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Root => Reason::PeerExpired,
            Self::Revoked(_) => Reason::Revoked,
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the root above its certificate was removed"),
            Self::Revoked(Some(by)) => write!(f, "it is revoked, by {by}"),
            Self::Revoked(None) => f.write_str("it was revoked when this connection was open"),
        }
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
        assert_eq!(peer.holds(&trust, NOW), Ok(()));
        assert!(trust.follow(bundles(&[&new])));
        assert_eq!(peer.holds(&trust, NOW), Err(Lost::Root));
        assert_eq!(peer.holds(&trust, NOW), Err(Lost::Root));
    }

    #[test]
    fn a_shorter_list_has_nobody_looked_up_again() {
        let id = |name: &str| Denied::Identity(format!("spiffe://td/{name}").parse().unwrap());
        let mut trust = Trust::default();
        trust.deny(DenyList::new([id("a"), id("b")]).unwrap());
        let after = trust.additions;
        trust.deny(DenyList::new([id("b")]).unwrap());
        assert_eq!(trust.additions, after);
        trust.deny(DenyList::new([id("a")]).unwrap());
        assert_eq!(trust.additions, after + 1);
    }
}
