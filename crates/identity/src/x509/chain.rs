//! From the certificates that somebody sent to evidence of who it is.
//!
//! [`UnverifiedChain`] says nothing; [`UnverifiedChain::verify`] gives a [`VerifiedSvid`], whose
//! only other source is nothing at all. The roots are those of the trust domain that the leaf's
//! own ID names (requirements 22, 46, 51, 136), never a merged pool.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crypto::digest::Sha256;
use crypto::signing::PublicKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error;
use time::OffsetDateTime;

use super::bundle::BundleSet;
use super::certificate::{CertificateError, split_der};
use super::leaf::LeafFacts;
use super::path::{self, PathError};
use super::root::RootCertificate;
use crate::serial::SerialNumber;
use crate::spiffe_id::SpiffeId;
use crate::trust_domain::TrustDomain;
use crate::validity::Validity;

const MAX_CERTIFICATES: usize = 10;
const MAX_BYTES: usize = 64 * 1024;

/// Certificates as they were received, leaf first; bounded in number and size, else unread.
#[derive(Debug, Clone)]
pub struct UnverifiedChain(Vec<CertificateDer<'static>>);

impl UnverifiedChain {
    pub fn from_der(certificates: Vec<CertificateDer<'static>>) -> Result<Self, ChainError> {
        if certificates.is_empty() {
            return Err(ChainError::Empty);
        }
        if certificates.len() > MAX_CERTIFICATES {
            let count = certificates.len();
            return Err(ChainError::TooManyCertificates { count });
        }
        check_size(
            certificates
                .iter()
                .map(|certificate| certificate.len())
                .sum(),
        )?;
        Ok(Self(certificates))
    }

    /// PEM text, leaf first; what is no certificate in it is left out.
    pub fn from_pem(text: &[u8]) -> Result<Self, ChainError> {
        check_size(text.len())?;
        let certificates = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(|_| ChainError::NotPem)?;
        Self::from_der(certificates)
    }

    /// DER certificates one after the other, as the Workload API sends them (requirement 139).
    pub fn from_concatenated_der(der: &[u8]) -> Result<Self, ChainError> {
        check_size(der.len())?;
        let certificates = split_der(der).map_err(|offset| ChainError::Malformed { offset })?;
        Self::from_der(certificates)
    }

    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    pub fn verify(
        self,
        bundles: &BundleSet,
        now: OffsetDateTime,
    ) -> Result<VerifiedSvid, SvidError> {
        let leaf = LeafFacts::check(&self.0[0]).map_err(SvidError::Leaf)?;
        check_started(&leaf.validity, now)?;
        if now > leaf.validity.not_after() {
            return Err(SvidError::Expired {
                not_after: leaf.validity.not_after(),
            });
        }
        let path = self.verify_path(&leaf, bundles, now)?;
        Ok(VerifiedSvid(Arc::new(Evidence::new(leaf, path, self.0))))
    }

    /// For `Reattest` alone: valid in all but time. The leaf may have ended, at most `within` ago;
    /// the path is judged at the leaf's last moment, when the chain that issued it was valid too.
    /// A leaf that has not ended is accepted, since the sender's clock may be ahead of ours.
    pub fn verify_expired(
        self,
        bundles: &BundleSet,
        now: OffsetDateTime,
        within: Duration,
    ) -> Result<ExpiredSvid, SvidError> {
        let leaf = LeafFacts::check(&self.0[0]).map_err(SvidError::Leaf)?;
        check_started(&leaf.validity, now)?;
        let not_after = leaf.validity.not_after();
        if now - not_after > within {
            return Err(SvidError::ExpiredTooLongAgo { not_after });
        }
        let path = self.verify_path(&leaf, bundles, now.min(not_after))?;
        Ok(ExpiredSvid(Arc::new(Evidence::new(leaf, path, self.0))))
    }

    /// For `Reattest` alone, where no root vouches any more for what it signed: the leaf, which may
    /// have ended at most `within` ago, as one that only a record can vouch for.
    pub fn unvouched(
        self,
        now: OffsetDateTime,
        within: Duration,
    ) -> Result<UnvouchedSvid, SvidError> {
        let leaf = LeafFacts::check(&self.0[0]).map_err(SvidError::Leaf)?;
        check_started(&leaf.validity, now)?;
        let not_after = leaf.validity.not_after();
        if now - not_after > within {
            return Err(SvidError::ExpiredTooLongAgo { not_after });
        }
        let path = TrustedPath {
            holds: leaf.validity.not_before()..=not_after,
            authorities: Vec::new(),
        };
        Ok(UnvouchedSvid(Evidence::new(leaf, path, self.0)))
    }

    fn verify_path(
        &self,
        leaf: &LeafFacts,
        bundles: &BundleSet,
        at: OffsetDateTime,
    ) -> Result<TrustedPath, SvidError> {
        let trust_domain = leaf.spiffe_id.trust_domain();
        let Some(bundle) = bundles.get(trust_domain) else {
            let trust_domain = trust_domain.clone();
            return Err(SvidError::NoBundle { trust_domain });
        };
        let anchors = bundle.anchors_at(at);
        if anchors.is_empty() {
            let trust_domain = trust_domain.clone();
            return Err(SvidError::NoValidRoot { trust_domain });
        }
        let seconds = u64::try_from(at.unix_timestamp()).map_err(|_| SvidError::Clock)?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let found = path::verify(&self.0, &anchors, time).map_err(|error| match error {
            PathError::Intermediate(reason) => SvidError::Intermediate(reason),
            PathError::Path(reason) => SvidError::Path {
                trust_domain: trust_domain.clone(),
                reason,
            },
        })?;
        let roots = bundle.authorities().iter().map(RootCertificate::validity);
        let periods = roots.filter(|root| root.contains(at)).chain(&found.periods);
        let whole = leaf.validity.not_before()..=leaf.validity.not_after();
        let holds = periods.fold(whole, |whole, period| {
            *whole.start().max(&period.not_before())..=*whole.end().min(&period.not_after())
        });
        let root = bundle.roots_at(at).nth(found.anchor);
        let mut authorities = found.keys;
        authorities.extend(root.map(RootCertificate::key_id));
        Ok(TrustedPath { holds, authorities })
    }
}

#[derive(Debug)]
struct TrustedPath {
    /// The time in which no certificate of the path begins or ends, nor a root that may have ended
    /// it.
    holds: RangeInclusive<OffsetDateTime>,
    authorities: Vec<Sha256>,
}

/// Evidence: an X.509-SVID that was valid when it was verified. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct VerifiedSvid(Arc<Evidence>);

/// Evidence that somebody once held this SVID: proves no present identity and authorizes nothing
/// but a re-attestation. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct ExpiredSvid(Arc<Evidence>);

/// A leaf that no path was found for: anybody may have made it.
#[derive(Debug)]
pub struct UnvouchedSvid(Evidence);

impl UnvouchedSvid {
    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.0.leaf.spiffe_id
    }

    pub fn serial(&self) -> SerialNumber {
        self.0.leaf.serial
    }

    /// SHA-256 of the leaf's DER.
    pub fn leaf_digest(&self) -> Sha256 {
        self.0.digest
    }

    /// For who has found this very leaf (identity, number, digest) among those that it issued. Of
    /// what stood above it nothing is known.
    #[must_use]
    pub fn recorded(self) -> ExpiredSvid {
        ExpiredSvid(Arc::new(self.0))
    }
}

#[derive(Debug)]
struct Evidence {
    leaf: LeafFacts,
    path: TrustedPath,
    digest: Sha256,
    chain: Vec<CertificateDer<'static>>,
}

impl Evidence {
    fn new(leaf: LeafFacts, path: TrustedPath, chain: Vec<CertificateDer<'static>>) -> Self {
        let digest = Sha256::of(&chain[0]);
        Self {
            leaf,
            path,
            digest,
            chain,
        }
    }
}

impl VerifiedSvid {
    /// Whether the same chain, judged against the same bundles, is good at `now` too: leaf,
    /// intermediates and roots are in their periods as they were when it was verified.
    pub fn holds_at(&self, now: OffsetDateTime) -> bool {
        self.0.path.holds.contains(&now)
    }
}

macro_rules! evidence_accessors {
    ($type:ty) => {
        impl $type {
            pub fn spiffe_id(&self) -> &SpiffeId {
                &self.0.leaf.spiffe_id
            }

            pub fn serial(&self) -> SerialNumber {
                self.0.leaf.serial
            }

            pub fn validity(&self) -> &Validity {
                &self.0.leaf.validity
            }

            /// SHA-256 of the leaf's DER.
            pub fn leaf_digest(&self) -> Sha256 {
                self.0.digest
            }

            pub fn public_key(&self) -> &PublicKey {
                &self.0.leaf.public_key
            }

            /// SHA-256 of the SubjectPublicKeyInfo of each authority above it, up to the root.
            pub fn authorities(&self) -> &[Sha256] {
                &self.0.path.authorities
            }

            /// As it was received, leaf first.
            pub fn chain(&self) -> &[CertificateDer<'static>] {
                &self.0.chain
            }
        }
    };
}

evidence_accessors!(VerifiedSvid);
evidence_accessors!(ExpiredSvid);

/// Why certificates are not even read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ChainError {
    #[error("the chain holds no certificate")]
    Empty,
    #[error("the text is not PEM")]
    NotPem,
    #[error("a chain has at most 10 certificates, this one has {count}")]
    TooManyCertificates { count: usize },
    #[error("a chain has at most 65536 bytes, this one has {bytes}")]
    TooLarge { bytes: usize },
    #[error("no DER certificate begins at byte {offset} of the chain")]
    Malformed { offset: usize },
}

/// Why a chain is no evidence of an identity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SvidError {
    #[error("the leaf certificate is refused: {0}")]
    Leaf(CertificateError),
    #[error("the certificate expired at {not_after}")]
    Expired { not_after: OffsetDateTime },
    #[error("the certificate expired at {not_after}, too long ago to attest again with it")]
    ExpiredTooLongAgo { not_after: OffsetDateTime },
    #[error("the certificate is not valid before {not_before}")]
    NotYetValid { not_before: OffsetDateTime },
    #[error("there is no bundle for trust domain {trust_domain}")]
    NoBundle { trust_domain: TrustDomain },
    #[error("the bundle of trust domain {trust_domain} holds no root that is valid now")]
    NoValidRoot { trust_domain: TrustDomain },
    #[error("an intermediate certificate is refused: {0}")]
    Intermediate(CertificateError),
    #[error("no path of trust leads to a root of trust domain {trust_domain}: {reason}")]
    Path {
        trust_domain: TrustDomain,
        reason: webpki::Error,
    },
    #[error("the clock stands before 1970")]
    Clock,
}

fn check_size(bytes: usize) -> Result<(), ChainError> {
    if bytes > MAX_BYTES {
        return Err(ChainError::TooLarge { bytes });
    }
    Ok(())
}

fn check_started(validity: &Validity, now: OffsetDateTime) -> Result<(), SvidError> {
    let not_before = validity.not_before();
    if now < not_before {
        return Err(SvidError::NotYetValid { not_before });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
