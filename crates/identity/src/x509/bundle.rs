//! The roots of one trust domain (a bundle), and one bundle for each trust domain known (a set).
//!
//! Invariant: each root of a bundle obeys the rules for signing certificates and names no other
//! trust domain. Bundles are never merged (SPIFFE_Federation §4.2). A bundle without roots is
//! legal and means that nothing of that trust domain is trusted (requirement 89).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crypto::digest::Sha256;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;
use time::OffsetDateTime;

use super::certificate::{CertificateError, split_der};
use super::root::RootCertificate;
use crate::trust_domain::TrustDomain;

/// Keeps path building cheap: an attacker cannot make a validator try more roots than this.
const MAX_ROOTS: usize = 64;

/// The X.509 roots of a trust domain. Cloning is cheap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    trust_domain: TrustDomain,
    sequence: u64,
    roots: Vec<RootCertificate>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Bundle {
    /// `roots` are DER certificates; one that stands twice counts once. `sequence` grows with each
    /// change of the content (requirement 83).
    pub fn new(
        trust_domain: TrustDomain,
        sequence: u64,
        roots: Vec<Vec<u8>>,
    ) -> Result<Self, BundleError> {
        let roots = roots
            .into_iter()
            .enumerate()
            .map(|(index, der)| {
                RootCertificate::from_der(CertificateDer::from(der))
                    .map_err(|reason| BundleError::Root { index, reason })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Self::from_roots(trust_domain, sequence, roots)
    }

    /// `der` are certificates one after the other, as the Workload API sends them.
    pub fn from_concatenated_der(
        trust_domain: TrustDomain,
        sequence: u64,
        der: &[u8],
    ) -> Result<Self, BundleError> {
        let roots = split_der(der).map_err(|offset| BundleError::Malformed { offset })?;
        let roots = roots.iter().map(|root| root.to_vec()).collect();
        Self::new(trust_domain, sequence, roots)
    }

    pub fn from_roots(
        trust_domain: TrustDomain,
        sequence: u64,
        mut roots: Vec<RootCertificate>,
    ) -> Result<Self, BundleError> {
        let mut seen = BTreeSet::new();
        roots.retain(|root| seen.insert(root.digest()));
        if roots.len() > MAX_ROOTS {
            return Err(BundleError::TooManyRoots { count: roots.len() });
        }
        for (index, root) in roots.iter().enumerate() {
            // Requirement 30, as a rule: a root that names another trust domain is a mistake in
            // what was configured, and the one place to notice it is here.
            if let Some(found) = root.trust_domain().filter(|name| **name != trust_domain) {
                let found = found.clone();
                return Err(BundleError::OtherTrustDomain { index, found });
            }
        }
        let anchors = roots.iter().map(|root| root.anchor().clone()).collect();
        Ok(Self(Arc::new(Inner {
            trust_domain,
            sequence,
            roots,
            anchors,
        })))
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    pub fn sequence(&self) -> u64 {
        self.0.sequence
    }

    pub fn authorities(&self) -> &[RootCertificate] {
        &self.0.roots
    }

    /// Of the content: trust domain and roots in any order, whatever the sequence.
    pub fn digest(&self) -> Sha256 {
        let mut digests: Vec<_> = self.0.roots.iter().map(RootCertificate::digest).collect();
        digests.sort_unstable();
        let mut parts = vec![self.0.trust_domain.as_str().as_bytes(), &[0]];
        parts.extend(digests.iter().map(|digest| digest.as_bytes().as_slice()));
        Sha256::of_parts(&parts)
    }

    /// The roots that are valid at `now`, in the order of [`Self::anchors_at`].
    pub(super) fn roots_at(&self, now: OffsetDateTime) -> impl Iterator<Item = &RootCertificate> {
        let roots = self.0.roots.iter();
        roots.filter(move |root| root.validity().contains(now))
    }

    /// The roots that are valid at `now`, as what path building ends at. RFC 5280 leaves the
    /// period of a trust anchor to the application; an expired root ends its trust here.
    pub(super) fn anchors_at(&self, now: OffsetDateTime) -> Cow<'_, [TrustAnchor<'static>]> {
        let is_valid = |root: &RootCertificate| root.validity().contains(now);
        if self.0.roots.iter().all(is_valid) {
            return Cow::Borrowed(&self.0.anchors);
        }
        let valid = self.0.roots.iter().filter(|root| is_valid(root));
        Cow::Owned(valid.map(|root| root.anchor().clone()).collect())
    }
}

/// At most one bundle for each trust domain. Cloning is cheap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleSet(Arc<BTreeMap<TrustDomain, Bundle>>);

impl BundleSet {
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&Bundle> {
        self.0.get(trust_domain)
    }

    /// In the order of the trust domains' names.
    pub fn iter(&self) -> impl Iterator<Item = &Bundle> {
        self.0.values()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This set with `bundle` in the place of what it held for that trust domain.
    #[must_use]
    pub fn with(&self, bundle: Bundle) -> Self {
        self.iter().cloned().chain([bundle]).collect()
    }
}

impl From<Bundle> for BundleSet {
    fn from(bundle: Bundle) -> Self {
        [bundle].into_iter().collect()
    }
}

/// Of two bundles for one trust domain, the later stands.
impl FromIterator<Bundle> for BundleSet {
    fn from_iter<I: IntoIterator<Item = Bundle>>(bundles: I) -> Self {
        let entries = bundles
            .into_iter()
            .map(|bundle| (bundle.trust_domain().clone(), bundle));
        Self(Arc::new(entries.collect()))
    }
}

/// Why roots do not make a bundle. Indexes count from 0.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleError {
    #[error("root {index} of the bundle is refused: {reason}")]
    Root {
        index: usize,
        reason: CertificateError,
    },
    #[error("no DER certificate begins at byte {offset} of the bundle")]
    Malformed { offset: usize },
    #[error("root {index} of the bundle belongs to trust domain {found}")]
    OtherTrustDomain { index: usize, found: TrustDomain },
    #[error("a bundle has at most 64 roots, this one has {count}")]
    TooManyRoots { count: usize },
}

#[cfg(test)]
mod tests;
