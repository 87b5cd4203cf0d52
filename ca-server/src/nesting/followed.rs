//! The bundle of the instance above, checked, and what differs from it here. Pure.
//!
//! Invariant: a root that the instance above has given up is given up here as well; one that it
//! marks as compromised is so here, for no longer than there. A bundle says nothing of a root that was
//! taken up here after it was asked for.

use std::time::Duration;

use crypto::digest::Sha256;
use data_encoding::BASE64;
use identity::TrustDomain;
use identity::x509::{CertificateError, RootCertificate};
use time::OffsetDateTime;

use super::wire::{BundleAbove, CompromisedAbove, PhaseAbove, RootAbove};
use crate::authority::lifecycle::{Generation, Lifecycle};
use crate::authority::{PublishedRoots, ToldAbove};

const MOST_ROOTS: usize = 16;
/// Twice of what one instance has at once.
const MOST_REVOKED: usize = 64;

/// Evidence that the answer is a bundle of our trust domain with one root that signs.
#[derive(Clone, Debug)]
pub(super) struct RootsToFollow {
    pub(super) sequence: u64,
    active: RootCertificate,
    published: Vec<RootCertificate>,
    draining: Vec<RootCertificate>,
    compromised: Vec<(RootCertificate, CompromisedAbove)>,
    /// By the SHA-256 of its key, and until when.
    pub(super) revoked: Vec<(Sha256, OffsetDateTime)>,
}

/// Why nothing of an answer is followed.
#[derive(Debug, thiserror::Error)]
pub enum BundleAboveError {
    #[error("it is of trust domain {0}")]
    OtherTrustDomain(String),
    #[error("it has {0} roots; 16 are followed at most")]
    TooMany(usize),
    #[error("its root {0} is not base64")]
    Encoding(usize),
    #[error("its root {index} is none")]
    Root {
        index: usize,
        source: CertificateError,
    },
    #[error("{0} of its roots sign, and not one")]
    Active(usize),
    #[error("it names {0} revoked authorities; 64 are refused at most")]
    TooManyRevoked(usize),
    #[error("its revoked authority {0} is not the SHA-256 of a key, in hex")]
    Revoked(usize),
    #[error("its revoked authority {0} is one of its roots: everybody would refuse everybody")]
    RevokedRoot(usize),
}

/// What is not as above.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Roots whose end is to be the same here, and for how long they are trusted at most.
    pub(super) compromised: Vec<(Generation, Duration)>,
    /// Roots that the instance above does not trust, or not any more.
    pub(super) gone: Vec<Generation>,
    /// What is trusted here is trusted there, the other way round unless it is compromised, and
    /// nobody is still to be told to replace anything.
    pub(super) is_same: bool,
}

impl BundleAbove {
    pub(super) fn check(self, ours: &TrustDomain) -> Result<RootsToFollow, BundleAboveError> {
        if self.trust_domain != ours.as_str() {
            return Err(BundleAboveError::OtherTrustDomain(self.trust_domain));
        }
        if self.roots.len() > MOST_ROOTS {
            return Err(BundleAboveError::TooMany(self.roots.len()));
        }
        let revoked = self.revoked()?;
        let [mut active, mut published, mut draining] = [const { Vec::new() }; 3];
        let mut compromised = Vec::new();
        for (index, root) in self.roots.into_iter().enumerate() {
            let certificate = root.certificate(index)?;
            if let Some(taint) = root.compromised {
                compromised.push((certificate.clone(), taint));
            }
            match root.phase {
                PhaseAbove::Active => active.push(certificate),
                PhaseAbove::Published => published.push(certificate),
                PhaseAbove::Draining => draining.push(certificate),
            }
        }
        let all = active.iter().chain(&published).chain(&draining);
        for root in all {
            let found = revoked.iter().position(|(key, _)| *key == root.key_id());
            if let Some(index) = found {
                return Err(BundleAboveError::RevokedRoot(index));
            }
        }
        match <[_; 1]>::try_from(active) {
            Ok([active]) => Ok(RootsToFollow {
                sequence: self.sequence,
                active,
                published,
                draining,
                compromised,
                revoked,
            }),
            Err(active) => Err(BundleAboveError::Active(active.len())),
        }
    }

    fn revoked(&self) -> Result<Vec<(Sha256, OffsetDateTime)>, BundleAboveError> {
        let told = &self.revoked_authorities;
        if told.len() > MOST_REVOKED {
            return Err(BundleAboveError::TooManyRevoked(told.len()));
        }
        let mut revoked = Vec::with_capacity(told.len());
        for (index, authority) in told.iter().enumerate() {
            let key = authority.key_id.parse();
            let key = key.map_err(|_| BundleAboveError::Revoked(index))?;
            revoked.push((key, authority.until));
        }
        Ok(revoked)
    }
}

impl RootAbove {
    fn certificate(&self, index: usize) -> Result<RootCertificate, BundleAboveError> {
        let der = BASE64.decode(self.certificate.as_bytes());
        let der = der.map_err(|_| BundleAboveError::Encoding(index))?;
        RootCertificate::from_der(der.into())
            .map_err(|source| BundleAboveError::Root { index, source })
    }
}

impl RootsToFollow {
    /// The one that signs.
    pub(super) fn active(&self) -> &RootCertificate {
        &self.active
    }

    /// Those that may be taken up here: the one that signs first, and none that is compromised, or
    /// is about to end.
    pub(super) fn to_take_up(&self) -> Vec<RootCertificate> {
        let all = std::iter::once(&self.active).chain(&self.published);
        let sound = all.filter(|root| self.taint_of(root).is_none());
        sound.cloned().collect()
    }

    /// What the authority here is to know of them.
    pub(super) fn as_told(&self) -> ToldAbove {
        let draining = self.draining.iter();
        let draining = draining.filter(|root| self.taint_of(root).is_none());
        ToldAbove {
            to_take_up: self.to_take_up(),
            draining: draining.cloned().collect(),
            revoked: self
                .revoked
                .iter()
                .map(|(key, _)| key.to_string())
                .collect(),
        }
    }

    /// `before` is of a moment before the bundle was asked for, `lifecycle` of one after it.
    pub(super) fn compare(
        &self,
        (before, lifecycle): (&Lifecycle, &Lifecycle),
        roots: &PublishedRoots,
        now: OffsetDateTime,
    ) -> Difference {
        let mut difference = Difference {
            is_same: true,
            ..Difference::default()
        };
        let mut here = Vec::new();
        for member in lifecycle.bundled() {
            let Some(root) = roots.certificate(member.generation) else {
                continue;
            };
            here.push(root);
            let taint = self.taint_of(root);
            match (self.trusts(root), taint, member.taint) {
                (false, ..) => {
                    difference.is_same = false;
                    let mut known = before.bundled().map(|it| it.generation);
                    if member.taint.is_none() && known.any(|it| it == member.generation) {
                        difference.gone.push(member.generation);
                    }
                }
                (true, Some(taint), None) => {
                    let within = Duration::try_from(taint.until - now).unwrap_or_default();
                    difference.compromised.push((member.generation, within));
                    difference.is_same = false;
                }
                (true, Some(taint), Some(_)) if taint.replacing && !member.is_reissued() => {
                    difference.is_same = false;
                }
                (true, ..) => {}
            }
        }
        // One that is compromised may have been given up here already.
        let mut sound = self.to_take_up().into_iter();
        difference.is_same &= sound.all(|root| here.contains(&&root));
        difference
    }

    fn trusts(&self, root: &RootCertificate) -> bool {
        let mut others = self.published.iter().chain(&self.draining);
        self.active == *root || others.any(|it| it == root)
    }

    fn taint_of(&self, root: &RootCertificate) -> Option<CompromisedAbove> {
        let found = self.compromised.iter().find(|(it, _)| it == root);
        found.map(|(_, taint)| *taint)
    }
}

#[cfg(test)]
mod tests;
