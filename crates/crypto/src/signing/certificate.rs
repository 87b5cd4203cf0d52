//! Keys that sign certificates of authorities, of every kind that X.509 validators take, wherever
//! they are: in memory, or where only somebody else reaches them (a token).
//!
//! Invariant: the algorithm follows from the public key alone (RFC 5480, RFC 8017, RFC 8410), so a
//! certificate cannot name another than its signature was made by.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rcgen::PublicKeyData;
use rustls::SignatureScheme;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use thiserror::Error;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::foreign::ForeignKeyError;
use super::{BadSignature, SigningKey};
use crate::{backend, provider};

/// A private key that signs certificates. Cheap to clone.
#[derive(Clone, Debug)]
pub enum CertificateKey {
    /// In memory, of the one kind that leaves are signed with.
    Held(SigningKey),
    /// Elsewhere, or of another kind.
    Other(Arc<dyn CertificateSigner>),
}

/// A private key that somebody else reaches.
pub trait CertificateSigner: fmt::Debug + Send + Sync {
    /// Its public half.
    fn public_key(&self) -> &CertificatePublicKey;

    /// Signs `message` by the algorithm of the public half, as X.509 encodes it. May block.
    ///
    /// # Errors
    /// The key cannot be reached; whoever made the signer knows why.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, NotSigned>;
}

/// The public half of such a key, as its SubjectPublicKeyInfo.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificatePublicKey {
    algorithm: CertificateAlgorithm,
    spki: Vec<u8>,
    /// Where the bits of the key lie in it.
    key: Range<usize>,
}

/// By what a key signs certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateAlgorithm {
    /// ecdsa-with-SHA256 on P-256.
    EcdsaP256,
    /// ecdsa-with-SHA384 on P-384.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
    /// sha256WithRSAEncryption, 2048 bits or more.
    Rsa,
}

/// The key did not sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the key did not sign")]
pub struct NotSigned;

/// The key is of a kind that no certificate here may be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the key of an authority: P-256, P-384, Ed25519, or RSA of 2048 bits or more")]
pub struct UnknownKind;

impl CertificateKey {
    /// The first private key of PEM text (PKCS#8; PKCS#1 and SEC1 where the backend reads them).
    ///
    /// # Errors
    /// There is none, or of another kind.
    pub fn from_pem(text: &[u8]) -> Result<Self, ForeignKeyError> {
        let der = PrivateKeyDer::from_pem_slice(text).map_err(ForeignKeyError::Pem)?;
        if let PrivateKeyDer::Pkcs8(der) = &der
            && let Ok(key) = SigningKey::from_pkcs8(der.secret_pkcs8_der())
        {
            return Ok(Self::Held(key));
        }
        let key = provider().key_provider.load_private_key(der);
        let key = key.map_err(ForeignKeyError::Kind)?;
        let spki = key.public_key().ok_or(ForeignKeyError::NoScheme)?;
        let public = CertificatePublicKey::from_spki(&spki);
        let public = public.map_err(|_| ForeignKeyError::NoScheme)?;
        Ok(Self::Other(Arc::new(Loaded { key, public })))
    }

    /// The DER SubjectPublicKeyInfo of its public half.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        match self {
            Self::Held(key) => key.public_key().spki(),
            Self::Other(key) => &key.public_key().spki,
        }
    }
}

impl From<SigningKey> for CertificateKey {
    fn from(key: SigningKey) -> Self {
        Self::Held(key)
    }
}

impl From<&SigningKey> for CertificateKey {
    fn from(key: &SigningKey) -> Self {
        Self::Held(key.clone())
    }
}

impl rcgen::SigningKey for CertificateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match self {
            Self::Held(key) => Ok(key.sign(message)),
            Self::Other(key) => {
                let signature = key.sign(message);
                let signature = signature.map_err(|_| rcgen::Error::RemoteKeyError)?;
                // Another key may answer to the same name.
                let verified = key.public_key().verify(message, &signature);
                verified.map_err(|_| rcgen::Error::RemoteKeyError)?;
                Ok(signature)
            }
        }
    }
}

impl PublicKeyData for CertificateKey {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::Held(key) => key.public_key().der_bytes(),
            Self::Other(key) => key.public_key().bits(),
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::Held(key) => key.public_key().algorithm(),
            Self::Other(key) => key.public_key().algorithm.rcgen(),
        }
    }
}

impl CertificatePublicKey {
    /// Reads a DER SubjectPublicKeyInfo.
    ///
    /// # Errors
    /// It is of another kind, or malformed.
    pub fn from_spki(der: &[u8]) -> Result<Self, UnknownKind> {
        let Ok(([], info)) = SubjectPublicKeyInfo::from_der(der) else {
            return Err(UnknownKind);
        };
        let bits = info.subject_public_key.data.len();
        let prefix = &der[..der.len() - bits];
        let algorithm = match prefix {
            P256_PREFIX => CertificateAlgorithm::EcdsaP256,
            P384_PREFIX => CertificateAlgorithm::EcdsaP384,
            ED25519_PREFIX => CertificateAlgorithm::Ed25519,
            _ if contains(prefix, RSA_ENCRYPTION) => CertificateAlgorithm::Rsa,
            _ => return Err(UnknownKind),
        };
        Ok(Self {
            algorithm,
            key: der.len() - bits..der.len(),
            spki: der.to_vec(),
        })
    }

    /// Of an uncompressed point on P-256 or P-384, which its length tells.
    ///
    /// # Errors
    /// It is no such point.
    pub fn from_point(point: &[u8]) -> Result<Self, UnknownKind> {
        let prefix = match (point.len(), point.first()) {
            (65, Some(0x04)) => P256_PREFIX,
            (97, Some(0x04)) => P384_PREFIX,
            _ => return Err(UnknownKind),
        };
        Self::from_spki(&[prefix, point].concat())
    }

    /// By what its private half signs.
    #[must_use]
    pub fn algorithm(&self) -> CertificateAlgorithm {
        self.algorithm
    }

    /// The DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Checks a signature as X.509 encodes it.
    ///
    /// # Errors
    /// It is not this key's signature of this message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let provider = provider();
        let known = provider.signature_verification_algorithms.mapping;
        let scheme = self.algorithm.scheme();
        let fitting = known.iter().find(|(known, _)| *known == scheme);
        let (_, algorithms) = fitting.ok_or(BadSignature)?;
        let verifies = |it: &&dyn rustls_pki_types::SignatureVerificationAlgorithm| {
            it.verify_signature(self.bits(), message, signature).is_ok()
        };
        match algorithms.iter().any(verifies) {
            true => Ok(()),
            false => Err(BadSignature),
        }
    }

    fn bits(&self) -> &[u8] {
        &self.spki[self.key.clone()]
    }
}

impl fmt::Debug for CertificatePublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = crate::digest::Sha256::of(&self.spki);
        write!(
            f,
            "CertificatePublicKey({:?}, {fingerprint})",
            self.algorithm
        )
    }
}

impl CertificateAlgorithm {
    /// What a signer that takes digests signs; `None` where it must see the message.
    #[must_use]
    pub fn digest(self, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::EcdsaP256 => Some(backend::sha256(&[message]).to_vec()),
            Self::EcdsaP384 => Some(backend::sha384(message).to_vec()),
            Self::Ed25519 | Self::Rsa => None,
        }
    }

    fn scheme(self) -> SignatureScheme {
        match self {
            Self::EcdsaP256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            Self::EcdsaP384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            Self::Ed25519 => SignatureScheme::ED25519,
            Self::Rsa => SignatureScheme::RSA_PKCS1_SHA256,
        }
    }

    fn rcgen(self) -> &'static rcgen::SignatureAlgorithm {
        match self {
            Self::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::EcdsaP384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
            Self::Rsa => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

/// An ECDSA signature as two numbers of equal length, in the DER of RFC 3279 §2.2.3.
///
/// # Errors
/// The numbers are not of a curve that is known here.
pub fn ecdsa_der(numbers: &[u8]) -> Result<Vec<u8>, NotSigned> {
    if ![64, 96].contains(&numbers.len()) {
        return Err(NotSigned);
    }
    let (r, s) = numbers.split_at(numbers.len() / 2);
    let content = [integer(r), integer(s)].concat();
    // Two numbers of 49 bytes at most: a length of one byte always holds them.
    Ok([&[0x30, content.len() as u8], &*content].concat())
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let significant = &bytes[zeros.min(bytes.len() - 1)..];
    let sign: &[u8] = if significant[0] & 0x80 != 0 {
        &[0]
    } else {
        &[]
    };
    let length = sign.len() + significant.len();
    [&[0x02, length as u8], sign, significant].concat()
}

/// A key of another kind, in memory.
#[derive(Debug)]
struct Loaded {
    key: Arc<dyn rustls::sign::SigningKey>,
    public: CertificatePublicKey,
}

impl CertificateSigner for Loaded {
    fn public_key(&self) -> &CertificatePublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, NotSigned> {
        let signer = self.key.choose_scheme(&[self.public.algorithm.scheme()]);
        let signature = signer.ok_or(NotSigned)?.sign(message);
        signature.map_err(|_| NotSigned)
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What precedes the point of a P-256 key.
const P256_PREFIX: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// Of a P-384 key.
const P384_PREFIX: &[u8] = &[
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b,
    0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
];
/// Of an Ed25519 key.
const ED25519_PREFIX: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
/// `rsaEncryption` with its NULL.
const RSA_ENCRYPTION: &[u8] = &[
    0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::SigningKey as _;
    use x509_parser::asn1_rs::Integer;

    use super::*;

    fn loaded(algorithm: &'static rcgen::SignatureAlgorithm) -> CertificateKey {
        let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
        CertificateKey::from_pem(pair.serialize_pem().as_bytes()).unwrap()
    }

    /// Says that it signs, and signs with another key.
    #[derive(Debug)]
    struct Impostor {
        claimed: CertificatePublicKey,
        key: SigningKey,
    }

    impl CertificateSigner for Impostor {
        fn public_key(&self) -> &CertificatePublicKey {
            &self.claimed
        }

        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, NotSigned> {
            Ok(self.key.sign(message))
        }
    }

    #[test]
    fn a_signature_of_another_key_is_not_passed_on() {
        let claimed = SigningKey::generate();
        let claimed = CertificatePublicKey::from_spki(claimed.public_key().spki()).unwrap();
        let key = SigningKey::generate();
        let impostor = CertificateKey::Other(Arc::new(Impostor { claimed, key }));
        assert_eq!(impostor.sign(b"m"), Err(rcgen::Error::RemoteKeyError));
    }

    #[test]
    fn keys_of_other_kinds_are_refused() {
        let secp256k1 = "3056301006072a8648ce3d020106052b8104000a034200";
        let mut der = data_encoding::HEXLOWER
            .decode(secp256k1.as_bytes())
            .unwrap();
        der.extend([4; 65]);
        assert_eq!(CertificatePublicKey::from_spki(&der), Err(UnknownKind));
        assert_eq!(CertificatePublicKey::from_point(&[4; 66]), Err(UnknownKind));
        assert_eq!(CertificatePublicKey::from_point(&[2; 65]), Err(UnknownKind));
    }

    #[test]
    fn each_kind_signs_by_its_own_algorithm() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ED25519,
        ] {
            let key = loaded(algorithm);
            assert_eq!(key.algorithm(), algorithm);
            let public = CertificatePublicKey::from_spki(key.spki()).unwrap();
            let signature = key.sign(b"m").unwrap();
            assert_eq!(public.verify(b"n", &signature), Err(BadSignature));
            assert_eq!(public.verify(b"m", &signature), Ok(()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn two_numbers_have_one_der(numbers in prop::collection::vec(any::<u8>(), 96)) {
            prop_assert!(ecdsa_der(&numbers[1..]).is_err());
            let der = ecdsa_der(&numbers).unwrap();
            let (rest, both) = Vec::<Integer<'_>>::from_der(&der).unwrap();
            prop_assert!(rest.is_empty());
            let significant = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                bytes[zeros..].to_vec()
            };
            prop_assert_eq!(significant(both[0].as_ref()), significant(&numbers[..48]));
            prop_assert_eq!(significant(both[1].as_ref()), significant(&numbers[48..]));
        }
    }
}
