//! The rules for a leaf (X509-SVID.md §5.2 and what §2 to §4 say of leaves). It says nothing of
//! who signed it: only `chain` makes an SVID of these facts.

use crypto::signing::PublicKey;

use super::certificate::{Certificate, CertificateError};
use crate::serial::SerialNumber;
use crate::spiffe_id::SpiffeId;
use crate::validity::Validity;

#[derive(Debug, Clone)]
pub(super) struct LeafFacts {
    pub(super) spiffe_id: SpiffeId,
    pub(super) serial: SerialNumber,
    pub(super) validity: Validity,
    pub(super) public_key: PublicKey,
}

impl LeafFacts {
    pub(super) fn check(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = Certificate::parse(der)?;
        let spiffe_id = certificate
            .spiffe_id()?
            .ok_or(CertificateError::UriSanCount { count: 0 })?;
        // Requirements 26, 50 and 31: an ID without a path is that of a signing certificate,
        // which MUST NOT authenticate a peer.
        if spiffe_id.path().is_empty() {
            return Err(CertificateError::NoPath);
        }
        check_usages(&certificate)?;
        Ok(Self {
            spiffe_id,
            serial: certificate.serial()?,
            validity: certificate.validity()?,
            public_key: PublicKey::from_spki(certificate.public_key())?,
        })
    }
}

fn check_usages(certificate: &Certificate<'_>) -> Result<(), CertificateError> {
    // Requirements 34, 47.
    if certificate.is_ca()? {
        return Err(CertificateError::Ca);
    }
    // Requirements 37, 38: present and critical.
    let (usage, critical) = certificate
        .key_usage()?
        .ok_or(CertificateError::NoKeyUsage)?;
    // Requirements 42, 48.
    if usage.key_cert_sign() {
        return Err(CertificateError::SigningUsage("keyCertSign"));
    }
    if usage.crl_sign() {
        return Err(CertificateError::SigningUsage("cRLSign"));
    }
    if !critical {
        return Err(CertificateError::KeyUsageNotCritical);
    }
    // Requirement 40.
    if !usage.digital_signature() {
        return Err(CertificateError::NoDigitalSignature);
    }
    // Requirement 44: both, where the extension is present.
    if certificate.allows_both_roles()? == Some(false) {
        return Err(CertificateError::ExtendedKeyUsage);
    }
    Ok(())
}
