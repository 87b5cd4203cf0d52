//! Private keys that others made, of every kind that TLS 1.3 signs with: a host's own key, with
//! which it proves a certificate that no mesh gave it.
//!
//! A signature is named by its TLS SignatureScheme (RFC 8446 §4.2.3), and only by one that TLS 1.3
//! allows: no PKCS#1 v1.5, no SHA-1.

use std::fmt;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, SignatureVerificationAlgorithm, pem};
use thiserror::Error;

use crate::provider;

const SCHEMES: [SignatureScheme; 6] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
];

/// A private key of any supported kind. Cheap to clone.
#[derive(Clone)]
pub struct ForeignKey(Arc<dyn rustls::sign::SigningKey>);

/// A signature, and how it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignSignature {
    /// A TLS SignatureScheme.
    pub scheme: u16,
    /// As that scheme encodes it.
    pub signature: Vec<u8>,
}

/// Why there is no such key or signature.
#[derive(Debug, Error)]
pub enum ForeignKeyError {
    /// No unencrypted private key in PEM.
    #[error("the key file holds no unencrypted private key in PEM")]
    Pem(#[source] pem::Error),
    /// RSA below 2048 bits, another curve, or a damaged key.
    #[error("the private key is of a kind that this build cannot use")]
    Kind(#[source] rustls::Error),
    /// It signs, but by no scheme of TLS 1.3.
    #[error("the private key signs by no scheme of TLS 1.3")]
    NoScheme,
    /// The backend refused.
    #[error("the private key did not sign")]
    Sign(#[source] rustls::Error),
}

impl ForeignKey {
    /// The first private key of PEM text (PKCS#8; PKCS#1 and SEC1 where the backend reads them).
    pub fn from_pem(text: &[u8]) -> Result<Self, ForeignKeyError> {
        let der = PrivateKeyDer::from_pem_slice(text).map_err(ForeignKeyError::Pem)?;
        let key = provider().key_provider.load_private_key(der);
        let key = Self(key.map_err(ForeignKeyError::Kind)?);
        match key.0.choose_scheme(&SCHEMES) {
            Some(_) => Ok(key),
            None => Err(ForeignKeyError::NoScheme),
        }
    }

    /// Signs by the first scheme that fits the key.
    pub fn sign(&self, message: &[u8]) -> Result<ForeignSignature, ForeignKeyError> {
        let signer = self.0.choose_scheme(&SCHEMES);
        let signer = signer.ok_or(ForeignKeyError::NoScheme)?;
        Ok(ForeignSignature {
            scheme: signer.scheme().into(),
            signature: signer.sign(message).map_err(ForeignKeyError::Sign)?,
        })
    }
}

impl fmt::Debug for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ForeignKey({:?})", self.0.algorithm())
    }
}

/// By what a signature of this scheme is verified; `None` for a scheme that TLS 1.3 does not
/// allow, or this build does not have.
#[must_use]
pub fn verification_of(scheme: u16) -> Option<&'static dyn SignatureVerificationAlgorithm> {
    let scheme = SignatureScheme::from(scheme);
    let known = provider().signature_verification_algorithms.mapping;
    let (_, algorithms) = known
        .iter()
        .find(|(known, _)| *known == scheme && SCHEMES.contains(known))?;
    // With the first one the curve is the scheme's own, as TLS 1.3 demands.
    algorithms.first().copied()
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;
    use crate::signing::SigningKey;

    fn pem(label: &str, der: &[u8]) -> String {
        let body = BASE64.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    #[test]
    fn text_without_a_key_is_refused() {
        let certificate = pem("CERTIFICATE", b"no key");
        assert!(matches!(
            ForeignKey::from_pem(certificate.as_bytes()),
            Err(ForeignKeyError::Pem(_))
        ));
    }

    #[test]
    fn a_damaged_key_is_refused() {
        let damaged = pem("PRIVATE KEY", b"no PKCS#8");
        assert!(matches!(
            ForeignKey::from_pem(damaged.as_bytes()),
            Err(ForeignKeyError::Kind(_))
        ));
    }

    #[test]
    fn schemes_that_tls_1_3_does_not_allow_are_not_known() {
        for scheme in [
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA1,
            SignatureScheme::Unknown(7),
        ] {
            assert!(verification_of(scheme.into()).is_none(), "{scheme:?}");
        }
    }

    #[test]
    fn a_signature_verifies_by_the_scheme_that_it_names() {
        let key = SigningKey::generate();
        let text = pem("PRIVATE KEY", &key.to_pkcs8());
        let signed = ForeignKey::from_pem(text.as_bytes()).unwrap().sign(b"m");
        let signed = signed.unwrap();
        let algorithm = verification_of(signed.scheme).unwrap();
        let point = &key.public_key().spki()[26..];
        let verify = |message| algorithm.verify_signature(point, message, &signed.signature);
        assert!(verify(b"n").is_err());
        assert!(verify(b"m").is_ok());
    }
}
