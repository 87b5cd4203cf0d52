//! P-256 keys that sign with ECDSA and SHA-256 (FIPS 186-4), and the requests made with them.
//!
//! Invariant: a [`SigningKey`] is loaded once and kept, with its public key beside it; signing
//! parses nothing. No other algorithm is taken: a key of another kind is refused where it enters.
//! Keys that hosts have from elsewhere are another type, [`ForeignKey`].

use std::fmt;
use std::sync::Arc;

use rcgen::PublicKeyData;
use rustls::sign::Signer;
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use thiserror::Error;
use x509_parser::asn1_rs::{Any, FromDer};
use zeroize::Zeroizing;

use crate::backend::P256KeyPair;

mod certificate;
mod csr;
mod foreign;
mod public_key;

pub use certificate::{
    CertificateAlgorithm, CertificateKey, CertificatePublicKey, CertificateSigner, NotSigned,
    UnknownKind, ecdsa_der,
};
pub use csr::{CsrError, MAX_CSR_BYTES, create_csr, verify_csr};
pub use foreign::{ForeignKey, ForeignKeyError, ForeignSignature, verification_of};
pub use public_key::{BadSignature, PublicKey};

/// A private P-256 key. Cheap to clone.
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    pair: P256KeyPair,
    public: PublicKey,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl SigningKey {
    /// A new key, from the operating system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        let (pair, pkcs8) =
            P256KeyPair::generate().expect("a key can be made while the kernel has randomness");
        Self::keep(pair, pkcs8).expect("the backend encodes its own key correctly")
    }

    /// The key in `der`, an unencrypted PKCS#8 document (RFC 5958).
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        // The backends differ in whether they look at what follows the document.
        let (rest, _) = Any::from_der(der).map_err(|_| KeyError::Private)?;
        if !rest.is_empty() {
            return Err(KeyError::Private);
        }
        let pair = P256KeyPair::from_pkcs8(der).map_err(|_| KeyError::Private)?;
        Self::keep(pair, Zeroizing::new(der.to_vec()))
    }

    fn keep(pair: P256KeyPair, pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let public = PublicKey::from_point(pair.point())?;
        Ok(Self(Arc::new(Inner {
            pair,
            public,
            pkcs8,
        })))
    }

    /// The key as an unencrypted PKCS#8 document.
    #[must_use]
    pub fn to_pkcs8(&self) -> Zeroizing<Vec<u8>> {
        self.0.pkcs8.clone()
    }

    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public
    }

    /// The signature of `message`, as ASN.1 DER (RFC 3279 §2.2.3).
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0
            .pair
            .sign(message)
            .expect("a loaded P-256 key signs every message")
    }

    /// The key as rustls takes it; the handshake signs with this very key, nothing is parsed.
    #[must_use]
    pub fn rustls_key(&self) -> Arc<dyn rustls::sign::SigningKey> {
        Arc::new(TlsKey(self.clone()))
    }
}

impl rcgen::SigningKey for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Self::sign(self, message))
    }
}

impl PublicKeyData for SigningKey {
    fn der_bytes(&self) -> &[u8] {
        self.public_key().der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.public_key().algorithm()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public_key().fingerprint())
    }
}

/// Why bytes are not a key of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not PKCS#8, not P-256, or the public half does not match the private one.
    #[error("not an unencrypted PKCS#8 document that holds a P-256 key")]
    Private,
    /// Another algorithm, another curve, a compressed point, or trailing bytes.
    #[error("not the SubjectPublicKeyInfo of a P-256 key with an uncompressed point")]
    Public,
}

#[derive(Debug)]
struct TlsKey(SigningKey);

impl rustls::sign::SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(TlsSigner(self.0.clone())) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.0.public_key().spki()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

#[derive(Debug)]
struct TlsSigner(SigningKey);

impl Signer for TlsSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        Ok(self.0.sign(message))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_that_are_no_pkcs8_are_refused() {
        assert_eq!(
            SigningKey::from_pkcs8(b"key").err(),
            Some(KeyError::Private)
        );
    }

    #[test]
    fn pkcs8_with_trailing_bytes_is_refused() {
        let mut der = SigningKey::generate().to_pkcs8();
        der.push(0);
        assert_eq!(SigningKey::from_pkcs8(&der).err(), Some(KeyError::Private));
    }

    #[test]
    fn a_public_half_of_another_key_is_refused() {
        let mut der = SigningKey::generate().to_pkcs8();
        let other = SigningKey::generate();
        let point = der.len() - 64;
        der[point..].copy_from_slice(&other.public_key().der_bytes()[1..]);
        assert_eq!(SigningKey::from_pkcs8(&der).err(), Some(KeyError::Private));
    }

    #[test]
    fn a_scheme_that_was_not_offered_is_not_used() {
        let key = SigningKey::generate().rustls_key();
        assert!(key.choose_scheme(&[SignatureScheme::ED25519]).is_none());
    }

    #[test]
    fn a_stored_key_is_the_same_key() {
        let key = SigningKey::generate();
        let again = SigningKey::from_pkcs8(&key.to_pkcs8()).unwrap();
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(key.public_key().verify(b"m", &again.sign(b"m")), Ok(()));
    }

    #[test]
    fn a_handshake_signature_is_of_the_same_key() {
        let key = SigningKey::generate();
        let offered = [
            SignatureScheme::ED25519,
            SignatureScheme::ECDSA_NISTP256_SHA256,
        ];
        let signer = key.rustls_key().choose_scheme(&offered).unwrap();
        assert_eq!(
            key.public_key().verify(b"m", &signer.sign(b"m").unwrap()),
            Ok(())
        );
    }

    #[test]
    fn a_signing_key_shows_only_its_fingerprint() {
        let key = SigningKey::generate();
        let shown = format!("{key:?}");
        assert_eq!(
            shown,
            format!("SigningKey({})", key.public_key().fingerprint())
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_damaged_key_is_refused_or_harmless_and_never_a_panic(
            place: prop::sample::Index, value: u8
        ) {
            let mut der = SigningKey::generate().to_pkcs8();
            let place = place.index(der.len());
            der[place] = value;
            if let Ok(key) = SigningKey::from_pkcs8(&der) {
                prop_assert_eq!(key.public_key().verify(b"m", &key.sign(b"m")), Ok(()));
            }
        }
    }
}
