//! The public half of a P-256 key, held as its SubjectPublicKeyInfo (RFC 5480).
//!
//! There is one encoding only: the named curve, an uncompressed point, no trailing byte; so equal
//! keys have equal bytes and one fingerprint. Whether the point lies on the curve is judged by
//! each [`verify`](PublicKey::verify): a point off it verifies nothing.

use std::fmt;

use rcgen::{PKCS_ECDSA_P256_SHA256, PublicKeyData};
use thiserror::Error;

use super::KeyError;
use crate::backend;
use crate::digest::Sha256;

const POINT: usize = 65;
const UNCOMPRESSED: u8 = 0x04;

/// `SEQUENCE { SEQUENCE { ecPublicKey, prime256v1 }, BIT STRING (66 bytes, no unused bits)`.
const PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The SubjectPublicKeyInfo of a P-256 key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; PREFIX.len() + POINT]);

impl PublicKey {
    /// Reads a DER SubjectPublicKeyInfo (91 bytes for such a key).
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let point = der.strip_prefix(&PREFIX).ok_or(KeyError::Public)?;
        Self::from_point(point)
    }

    pub(super) fn from_point(point: &[u8]) -> Result<Self, KeyError> {
        if point.len() != POINT || point[0] != UNCOMPRESSED {
            return Err(KeyError::Public);
        }
        let mut spki = [0; PREFIX.len() + POINT];
        spki[..PREFIX.len()].copy_from_slice(&PREFIX);
        spki[PREFIX.len()..].copy_from_slice(point);
        Ok(Self(spki))
    }

    /// The DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.0
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn fingerprint(&self) -> Sha256 {
        Sha256::of(&self.0)
    }

    /// Checks an ASN.1 DER signature of `message` by this key.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        backend::verify_p256(self.der_bytes(), message, signature).map_err(|_| BadSignature)
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0[PREFIX.len()..]
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

/// The signature is not this key's signature of this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the signature does not verify with the key")]
pub struct BadSignature;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::signing::SigningKey;

    #[track_caller]
    fn refused(der: &[u8]) {
        assert_eq!(PublicKey::from_spki(der), Err(KeyError::Public));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        refused(&[SigningKey::generate().public_key().spki(), &[0]].concat());
    }

    #[test]
    fn another_curve_is_refused() {
        let mut der = SigningKey::generate().public_key().spki().to_vec();
        der[22] = 0x06;
        refused(&der);
    }

    #[test]
    fn a_compressed_point_is_refused() {
        let mut der = SigningKey::generate().public_key().spki().to_vec();
        der[PREFIX.len()] = 0x02;
        refused(&der);
    }

    #[test]
    fn a_signature_by_another_key_is_refused() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        assert_eq!(
            key.public_key().verify(b"m", &other.sign(b"m")),
            Err(BadSignature)
        );
    }

    #[test]
    fn a_point_off_the_curve_verifies_nothing() {
        let key = SigningKey::generate();
        let mut der = key.public_key().spki().to_vec();
        der[90] ^= 1;
        let off_curve = PublicKey::from_spki(&der).unwrap();
        assert_eq!(off_curve.verify(b"m", &key.sign(b"m")), Err(BadSignature));
    }

    #[test]
    fn the_encoding_is_the_one_that_certificates_carry() {
        let key = SigningKey::generate();
        assert_eq!(key.public_key().spki(), key.subject_public_key_info());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn what_is_read_is_what_was_given(der in prop::collection::vec(any::<u8>(), 0..128)) {
            if let Ok(key) = PublicKey::from_spki(&der) {
                prop_assert_eq!(key.spki(), &der[..]);
            }
        }
    }
}
