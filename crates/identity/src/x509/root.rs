//! Signing certificates: the rules for them (X509-SVID.md §3.2, §4), and the checked root of a
//! bundle.
//!
//! A certificate without a SPIFFE ID may sign too (requirement 28 is a SHOULD, and an upstream
//! authority seldom has one); then RFC 5280 §6.1.4 (n) alone says what its key usage allows.

use crypto::digest::Sha256;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::anchor_from_trusted_cert;

use super::certificate::{Certificate, CertificateError};
use crate::trust_domain::TrustDomain;
use crate::validity::Validity;

/// A root of a trust domain that obeys the rules for signing certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootCertificate {
    der: CertificateDer<'static>,
    digest: Sha256,
    key_id: Sha256,
    facts: SigningFacts,
    anchor: TrustAnchor<'static>,
}

impl RootCertificate {
    pub fn from_der(der: CertificateDer<'static>) -> Result<Self, CertificateError> {
        let facts = SigningFacts::check(&der)?;
        let anchor = anchor_from_trusted_cert(&der)
            .map_err(CertificateError::TrustAnchor)?
            .to_owned();
        Ok(Self {
            digest: Sha256::of(&der),
            key_id: Sha256::of(&facts.public_key),
            der,
            facts,
            anchor,
        })
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// SHA-256 of the DER.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// SHA-256 of its SubjectPublicKeyInfo.
    pub fn key_id(&self) -> Sha256 {
        self.key_id
    }

    pub fn validity(&self) -> &Validity {
        &self.facts.validity
    }

    /// None where the root carries no SPIFFE ID.
    pub fn trust_domain(&self) -> Option<&TrustDomain> {
        self.facts.trust_domain.as_ref()
    }

    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.facts.subject_key_id.as_deref()
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn public_key(&self) -> &[u8] {
        &self.facts.public_key
    }

    pub(super) fn anchor(&self) -> &TrustAnchor<'static> {
        &self.anchor
    }
}

/// What a signing certificate, root or intermediate, says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SigningFacts {
    pub(super) trust_domain: Option<TrustDomain>,
    pub(super) validity: Validity,
    pub(super) subject_key_id: Option<Vec<u8>>,
    pub(super) public_key: Vec<u8>,
}

impl SigningFacts {
    pub(super) fn check(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = Certificate::parse(der)?;
        let spiffe_id = certificate.spiffe_id()?;
        // Requirement 29.
        if spiffe_id.as_ref().is_some_and(|id| !id.path().is_empty()) {
            return Err(CertificateError::Path);
        }
        // Requirement 33.
        if !certificate.is_ca()? {
            return Err(CertificateError::NotCa);
        }
        // Requirements 37, 38: of every SVID; one without an ID is none. Requirement 39: of all.
        match certificate.key_usage()? {
            None if spiffe_id.is_some() => return Err(CertificateError::NoKeyUsage),
            None => {}
            Some((usage, _)) if !usage.key_cert_sign() => {
                return Err(CertificateError::NoCertificateSigning);
            }
            Some((_, false)) if spiffe_id.is_some() => {
                return Err(CertificateError::KeyUsageNotCritical);
            }
            Some(_) => {}
        }
        Ok(Self {
            trust_domain: spiffe_id.map(|id| id.trust_domain().clone()),
            validity: certificate.validity()?,
            subject_key_id: certificate.subject_key_id()?.map(<[u8]>::to_vec),
            public_key: certificate.public_key().to_vec(),
        })
    }
}
