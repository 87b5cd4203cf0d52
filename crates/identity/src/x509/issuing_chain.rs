//! What stands above the authorities of a mesh when somebody else's root does: the certificate that
//! signs them, what leads from it upwards, and the root.
//!
//! Invariant: an [`IssuingChain`] can be lived under. With its very key an authority and a leaf were
//! signed below it, and verified as every peer will verify them, before it was accepted; so names
//! and usages that it forbids, limits on its length and signatures that do not fit are found when it
//! is configured and not when calls fail.

use crypto::random::SystemRandom;
use crypto::signing::{CertificateKey, SigningKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use time::OffsetDateTime;

use super::authority::{Authority, AuthorityError, IssueError, LeafSpec};
use super::bundle::{Bundle, BundleError, BundleSet};
use super::certificate::{Certificate, CertificateError, split_der};
use super::chain::{ChainError, SvidError, UnverifiedChain};
use super::root::{RootCertificate, SigningFacts};
use crate::serial::SerialNumber;
use crate::spiffe_id::SpiffeId;
use crate::trust_domain::TrustDomain;
use crate::validity::{Validity, ValidityError};

/// A chain sent by a leaf's holder has ten certificates at most: two are the mesh's own.
const MAX_CERTIFICATES: usize = 8;
const MAX_BYTES: usize = 64 * 1024;
/// Signed once to see that it would be believed; its key is forgotten at once.
const PROBE: &str = "/countersign/probe";

/// Certificates of an upstream authority as they were configured: the one that signs first, the
/// root last.
#[derive(Debug, Clone)]
pub struct UnverifiedIssuingChain(Vec<CertificateDer<'static>>);

/// An upstream authority under which a mesh can live. Cloning copies certificates.
#[derive(Debug, Clone)]
pub struct IssuingChain {
    above: Vec<CertificateDer<'static>>,
    root: RootCertificate,
    validity: Validity,
    trust_domain: TrustDomain,
}

impl UnverifiedIssuingChain {
    /// PEM text; what is no certificate in it is left out.
    ///
    /// # Errors
    /// There is none, too many, or something that is none.
    pub fn from_pem(text: &[u8]) -> Result<Self, IssuingChainError> {
        if text.len() > MAX_BYTES {
            return Err(IssuingChainError::TooLarge { bytes: text.len() });
        }
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(|_| IssuingChainError::NotPem)?;
        Self::from_certificates(certificates)
    }

    /// DER certificates one after the other.
    ///
    /// # Errors
    /// As [`from_pem`](Self::from_pem).
    pub fn from_concatenated_der(der: &[u8]) -> Result<Self, IssuingChainError> {
        let certificates = split_der(der);
        Self::from_certificates(certificates.map_err(|_| IssuingChainError::NotDer)?)
    }

    fn from_certificates(
        certificates: Vec<CertificateDer<'static>>,
    ) -> Result<Self, IssuingChainError> {
        match certificates.len() {
            0 => Err(IssuingChainError::Empty),
            1..=MAX_CERTIFICATES => Ok(Self(certificates)),
            count => Err(IssuingChainError::TooMany { count }),
        }
    }

    /// Of an authority that was signed for another instance: the one that signs first, the root
    /// last. It was not seen to sign anything.
    ///
    /// # Errors
    /// It has too many certificates, or one of them allows no replica's authority that far below.
    pub fn for_another(
        certificates: Vec<CertificateDer<'static>>,
    ) -> Result<Self, IssuingChainError> {
        for (below, der) in certificates.iter().enumerate() {
            check_length(below, der)?;
        }
        Self::from_certificates(certificates)
    }

    /// What [`from_concatenated_der`](Self::from_concatenated_der) reads.
    pub fn to_concatenated_der(&self) -> Vec<u8> {
        self.0.iter().flat_map(|der| der.to_vec()).collect()
    }

    /// The one that signs first, the root last.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// Whether the certificate that signs names this trust domain, as one that was asked for does.
    pub fn names(&self, trust_domain: &TrustDomain) -> bool {
        let facts = SigningFacts::check(&self.0[0]);
        facts.is_ok_and(|facts| facts.trust_domain.as_ref() == Some(trust_domain))
    }

    /// The SubjectPublicKeyInfo of the certificate that signs, unverified: to find its key by.
    ///
    /// # Errors
    /// It is no certificate.
    pub fn public_key(&self) -> Result<Vec<u8>, IssuingChainError> {
        let certificate = Certificate::parse(&self.0[0]);
        let certificate = certificate.map_err(|reason| refused(0, reason))?;
        Ok(certificate.public_key().to_vec())
    }

    /// The DER of what is said to be the root, unverified: to see whether it is another.
    pub fn root(&self) -> &[u8] {
        self.0.last().map_or(&[], |root| root)
    }

    /// Whether a mesh can live under it at `now`, with `key` as the key that signs. Signs twice.
    ///
    /// # Errors
    /// See [`IssuingChainError`].
    pub fn check(
        self,
        key: CertificateKey,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<IssuingChain, IssuingChainError> {
        let mut validity: Option<Validity> = None;
        for (index, der) in self.0.iter().enumerate() {
            let own = check_one(index, der, trust_domain, now)?;
            validity = Some(match validity {
                None => own,
                Some(whole) => Validity::try_new(
                    whole.not_before().max(own.not_before()),
                    whole.not_after().min(own.not_after()),
                )?,
            });
        }
        let (Some((root, above)), Some(validity)) = (self.0.split_last(), validity) else {
            return Err(IssuingChainError::Empty);
        };
        let last = above.len();
        let root = RootCertificate::from_der(root.clone());
        let chain = IssuingChain {
            above: above.to_vec(),
            root: root.map_err(|reason| refused(last, reason))?,
            validity,
            trust_domain: trust_domain.clone(),
        };
        chain.probe(key, now)?;
        Ok(chain)
    }
}

impl IssuingChain {
    /// What signs the mesh's authorities with this key, which must be its own.
    ///
    /// # Errors
    /// It is another's.
    pub fn authority(&self, key: CertificateKey) -> Result<Authority, AuthorityError> {
        let certificate = self.above.first().unwrap_or_else(|| self.root.der());
        Authority::load_upstream(certificate.clone(), key, &self.trust_domain)
    }

    /// What stands between the mesh's authorities and the root, as chains carry it.
    pub fn above(&self) -> &[CertificateDer<'static>] {
        &self.above
    }

    pub fn root(&self) -> &RootCertificate {
        &self.root
    }

    /// In which all of its certificates are valid.
    pub fn validity(&self) -> &Validity {
        &self.validity
    }

    /// Signs an authority and a leaf, and verifies them as a peer does.
    fn probe(&self, key: CertificateKey, now: OffsetDateTime) -> Result<(), IssuingChainError> {
        let upstream = self.authority(key)?;
        let (authority_key, leaf_key) = (SigningKey::generate(), SigningKey::generate());
        let serial = || SerialNumber::random(&mut SystemRandom);
        let (public, whole) = (authority_key.public_key(), self.validity);
        let certificate = upstream.sign_intermediate("probe", public, whole, serial())?;
        let authority = Authority::load(certificate.clone(), authority_key)?;
        let spiffe_id = SpiffeId::new(&self.trust_domain, PROBE);
        let leaf = authority.issue(&LeafSpec {
            spiffe_id: spiffe_id.expect("a literal path is one of a SPIFFE ID"),
            public_key: *leaf_key.public_key(),
            validity: whole,
            serial: serial(),
            dns_names: vec![],
        })?;
        let below = [leaf.certificate, certificate];
        let chain = below
            .into_iter()
            .chain(self.above.iter().cloned())
            .collect();
        let bundle = Bundle::from_roots(self.trust_domain.clone(), 1, vec![self.root.clone()])?;
        UnverifiedChain::from_der(chain)?.verify(&BundleSet::from(bundle), now)?;
        Ok(())
    }
}

/// A certificate with `below` others of the chain beneath it.
fn check_one(
    below: usize,
    der: &[u8],
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Validity, IssuingChainError> {
    let facts = SigningFacts::check(der).map_err(|reason| refused(below, reason))?;
    if let Some(found) = facts.trust_domain.filter(|found| found != trust_domain) {
        return Err(IssuingChainError::OtherTrustDomain {
            index: below,
            found,
        });
    }
    if !facts.validity.contains(now) {
        let validity = facts.validity;
        return Err(IssuingChainError::NotNow {
            index: below,
            not_before: validity.not_before(),
            not_after: validity.not_after(),
        });
    }
    check_length(below, der)?;
    Ok(facts.validity)
}

/// webpki does not look at the root's; others do. Below each is the replica's own authority too.
fn check_length(below: usize, der: &[u8]) -> Result<(), IssuingChainError> {
    let length = Certificate::parse(der).and_then(|certificate| certificate.path_length());
    match length.map_err(|reason| refused(below, reason))? {
        Some(length) if u64::from(length) < below as u64 + 1 => {
            Err(IssuingChainError::PathLength {
                index: below,
                length,
                needed: below + 1,
            })
        }
        _ => Ok(()),
    }
}

fn refused(index: usize, reason: CertificateError) -> IssuingChainError {
    IssuingChainError::Certificate { index, reason }
}

/// Why a mesh cannot live under an upstream authority. Certificates count from 0, the one that signs.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IssuingChainError {
    #[error("there is no certificate")]
    Empty,
    #[error("the text is not PEM")]
    NotPem,
    #[error("it is not DER, certificate after certificate")]
    NotDer,
    #[error("it has {bytes} bytes; 65536 are read at most")]
    TooLarge { bytes: usize },
    #[error("it has {count} certificates; with its root, 8 at most stand above a mesh")]
    TooMany { count: usize },
    #[error("certificate {index} is refused: {reason}")]
    Certificate {
        index: usize,
        reason: CertificateError,
    },
    #[error("certificate {index} is for trust domain {found}")]
    OtherTrustDomain { index: usize, found: TrustDomain },
    #[error("certificate {index} is valid from {not_before} to {not_after}, not now")]
    NotNow {
        index: usize,
        not_before: OffsetDateTime,
        not_after: OffsetDateTime,
    },
    #[error("its certificates are never valid at the same time")]
    Validity(#[from] ValidityError),
    #[error(
        "certificate {index} allows a path of {length} authorities below it (pathLenConstraint), and \
         {needed} are needed"
    )]
    PathLength {
        index: usize,
        length: u32,
        needed: usize,
    },
    #[error("what signs is refused")]
    Authority(#[from] AuthorityError),
    #[error("nothing could be signed with its key")]
    Issue(#[from] IssueError),
    #[error("its root makes no bundle")]
    Bundle(#[from] BundleError),
    #[error("what it signs makes no chain")]
    Chain(#[from] ChainError),
    #[error("what it signs would not be believed")]
    Unbelievable(#[from] SvidError),
}

#[cfg(test)]
mod tests;
