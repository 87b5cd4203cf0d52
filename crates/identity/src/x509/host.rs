//! Certificates that hosts have from elsewhere (a machine's own PKI, a TPM's, a cloud's), by which
//! an agent may prove on what host it runs.
//!
//! Invariant: a [`VerifiedHost`] exists only for a chain that leads to a configured root now, and
//! whose leaf is no CA and may be used for the purpose asked for. It says nothing of who holds the
//! key: that is proven by a signature, which [`VerifiedHost::verify`] judges.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crypto::digest::Sha256;
use crypto::signing::{BadSignature, verification_of};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem};
use thiserror::Error;
use time::OffsetDateTime;
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter,
    RequiredEkuNotFoundContext, anchor_from_trusted_cert,
};
use x509_parser::oid_registry::Oid;

use super::certificate::{Certificate, CertificateError, OID_KP_CLIENT_AUTH};
use super::chain::UnverifiedChain;

/// Authorities that are believed about hosts.
#[derive(Clone)]
pub struct HostRoots {
    anchors: Vec<TrustAnchor<'static>>,
}

/// What a host's certificate must allow: an object identifier of extended key usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPurpose(Oid<'static>);

/// Evidence: a certificate that a believed authority vouched for when it was verified.
#[derive(Debug, Clone)]
pub struct VerifiedHost {
    leaf: CertificateDer<'static>,
    common_names: Vec<String>,
    dns_names: Vec<String>,
    uris: Vec<String>,
}

/// Why a file holds no authorities.
#[derive(Debug, Error)]
pub enum HostRootsError {
    #[error("the file is not PEM")]
    Pem(#[source] pem::Error),
    #[error("the file holds no certificate")]
    Empty,
    #[error("certificate {index} of the file is no certificate of an authority")]
    Certificate {
        index: usize,
        #[source]
        source: webpki::Error,
    },
}

/// Why a host's certificate proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    #[error("the host's certificate is refused: {0}")]
    Leaf(#[from] CertificateError),
    #[error("no path of trust leads to a configured root: {0}")]
    Path(webpki::Error),
    #[error("the host's certificate does not list the extended key usage {0}")]
    Purpose(KeyPurpose),
    #[error("the clock stands before 1970")]
    Clock,
}

/// A word that is no object identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an extended key usage is `client-auth` or an object identifier such as 1.3.6.1.5.5.7.3.2")]
pub struct KeyPurposeError;

impl HostRoots {
    /// From PEM text; every certificate of it is believed.
    ///
    /// # Errors
    /// It is not PEM, holds no certificate, or one that cannot be an authority.
    pub fn from_pem(text: &[u8]) -> Result<Self, HostRootsError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(HostRootsError::Pem)?;
        if certificates.is_empty() {
            return Err(HostRootsError::Empty);
        }
        let anchors = certificates.iter().enumerate().map(|(index, certificate)| {
            anchor_from_trusted_cert(certificate)
                .map(|anchor| anchor.to_owned())
                .map_err(|source| HostRootsError::Certificate { index, source })
        });
        Ok(Self {
            anchors: anchors.collect::<Result<_, _>>()?,
        })
    }

    /// Judges a chain, leaf first. With a `purpose` the leaf must list it; without one, a chain
    /// that limits its purposes must leave client authentication.
    ///
    /// # Errors
    /// See [`HostError`].
    pub fn verify(
        &self,
        chain: &UnverifiedChain,
        purpose: Option<&KeyPurpose>,
        now: OffsetDateTime,
    ) -> Result<VerifiedHost, HostError> {
        let certificates = chain.certificates();
        let leaf = &certificates[0];
        let certificate = Certificate::parse(leaf)?;
        if certificate.is_ca()? {
            return Err(CertificateError::Ca.into());
        }
        if let Some(purpose) = purpose
            && !certificate.lists_purpose(&purpose.0)?
        {
            return Err(HostError::Purpose(purpose.clone()));
        }
        self.verify_path(certificates, purpose, now)?;
        let names = certificate.alternative_names()?;
        Ok(VerifiedHost {
            common_names: owned(&certificate.common_names()?),
            dns_names: owned(&names.dns),
            uris: owned(&names.uris),
            leaf: leaf.clone(),
        })
    }

    fn verify_path(
        &self,
        certificates: &[CertificateDer<'static>],
        purpose: Option<&KeyPurpose>,
        now: OffsetDateTime,
    ) -> Result<(), HostError> {
        let seconds = u64::try_from(now.unix_timestamp()).map_err(|_| HostError::Clock)?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let wanted = purpose.map_or(OID_KP_CLIENT_AUTH, |purpose| purpose.0.clone());
        let (leaf, intermediates) = (&certificates[0], &certificates[1..]);
        EndEntityCert::try_from(leaf)
            .and_then(|leaf| {
                leaf.verify_for_usage(
                    crypto::provider().signature_verification_algorithms.all,
                    &self.anchors,
                    intermediates,
                    time,
                    LeavesPurpose(&wanted),
                    None,
                    None,
                )
                .map(drop)
            })
            .map_err(HostError::Path)
    }
}

impl VerifiedHost {
    /// SHA-256 of the certificate's DER.
    #[must_use]
    pub fn fingerprint(&self) -> Sha256 {
        Sha256::of(&self.leaf)
    }

    /// The common names of its subject, as they are written.
    #[must_use]
    pub fn common_names(&self) -> &[String] {
        &self.common_names
    }

    /// Its DNS names, as they are written.
    #[must_use]
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// Its URI names, as they are written.
    #[must_use]
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// Whether its key made this signature of `message`; `scheme` is a TLS SignatureScheme.
    ///
    /// # Errors
    /// It did not, or the scheme is not one of TLS 1.3.
    pub fn verify(
        &self,
        scheme: u16,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), BadSignature> {
        let algorithm = verification_of(scheme).ok_or(BadSignature)?;
        let leaf = EndEntityCert::try_from(&self.leaf).map_err(|_| BadSignature)?;
        leaf.verify_signature(algorithm, message, signature)
            .map_err(|_| BadSignature)
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A certificate of the path that limits its purposes must leave this one (RFC 5280 §4.2.1.12).
struct LeavesPurpose<'a>(&'a Oid<'static>);

impl ExtendedKeyUsageValidator for LeavesPurpose<'_> {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut present = Vec::new();
        for purpose in purposes {
            let purpose = purpose?;
            if purpose == KeyPurposeId::new(self.0.as_bytes()) {
                return Ok(());
            }
            present.push(purpose.to_decoded_oid());
        }
        if present.is_empty() {
            return Ok(());
        }
        Err(webpki::Error::RequiredEkuNotFoundContext(
            RequiredEkuNotFoundContext {
                required: webpki::KeyUsage::client_auth(),
                present,
            },
        ))
    }
}

impl FromStr for KeyPurpose {
    type Err = KeyPurposeError;

    fn from_str(text: &str) -> Result<Self, KeyPurposeError> {
        if text == "client-auth" {
            return Ok(Self(OID_KP_CLIENT_AUTH));
        }
        let digits = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let oid = Oid::from_str(text).map_err(|_| KeyPurposeError)?;
        if digits {
            Ok(Self(oid))
        } else {
            Err(KeyPurposeError)
        }
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

crate::serde_text::serde_as_text!(KeyPurpose);

impl fmt::Debug for HostRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostRoots")
            .field("anchors", &self.anchors.len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
