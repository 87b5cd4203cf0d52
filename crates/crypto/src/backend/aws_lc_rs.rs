//! The default backend, `aws-lc-rs`: hybrid post-quantum key exchange, fast P-256 and AES-GCM.

use std::io::{self, Read};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256, SHA384};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED,
    ECDSA_P384_SHA384_FIXED, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};
use zeroize::Zeroizing;

use super::Refused;
use crate::jws::JwsAlgorithm;

/// How much of a file is hashed at once.
const READ_SIZE: usize = 64 * 1024;

pub(crate) const NAME: &str = "aws-lc-rs";

pub(crate) const CIPHER_SUITES: &[SupportedCipherSuite] = &[
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

pub(crate) const KEY_EXCHANGE_GROUPS: &[&dyn SupportedKxGroup] = &[
    kx_group::X25519MLKEM768,
    kx_group::X25519,
    kx_group::SECP256R1,
];

pub(crate) fn base_provider() -> CryptoProvider {
    default_provider()
}

pub(crate) fn fill_random(out: &mut [u8]) -> Result<(), Refused> {
    SystemRandom::new().fill(out).map_err(|_| Refused)
}

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

pub(crate) fn sha384(data: &[u8]) -> [u8; 48] {
    let mut context = Context::new(&SHA384);
    context.update(data);
    let mut digest = [0; 48];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

pub(crate) fn sha256_of_reader(mut reader: impl Read) -> io::Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => context.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}

pub(crate) fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

pub(crate) struct HmacKey(hmac::Key);

impl HmacKey {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(HMAC_SHA256, bytes))
    }

    pub(crate) fn tag<'a>(&self, parts: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        parts.for_each(|part| context.update(part));
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

pub(crate) struct P256KeyPair(EcdsaKeyPair);

impl P256KeyPair {
    /// Makes a key pair, and its PKCS#8 form.
    pub(crate) fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), Refused> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| Refused)?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| Refused)?;
        Ok((Self(pair), Zeroizing::new(pkcs8.as_ref().to_vec())))
    }

    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, Refused> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der)
            .map(Self)
            .map_err(|_| Refused)
    }

    pub(crate) fn point(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Refused> {
        let signature = self
            .0
            .sign(&SystemRandom::new(), message)
            .map_err(|_| Refused)?;
        Ok(signature.as_ref().to_vec())
    }
}

pub(crate) fn verify_p256(point: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Refused> {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(message, signature)
        .map_err(|_| Refused)
}

pub(crate) struct Ed25519Pair(Ed25519KeyPair);

impl Ed25519Pair {
    pub(crate) fn from_seed(seed: &[u8; 32]) -> Result<Self, Refused> {
        Ed25519KeyPair::from_seed_unchecked(seed)
            .map(Self)
            .map_err(|_| Refused)
    }

    pub(crate) fn public(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

/// By modulus and exponent.
pub(crate) fn verify_rsa(
    algorithm: JwsAlgorithm,
    (n, e): (&[u8], &[u8]),
    message: &[u8],
    signature: &[u8],
) -> Result<(), Refused> {
    let parameters = match algorithm {
        JwsAlgorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        JwsAlgorithm::Rs384 => &RSA_PKCS1_2048_8192_SHA384,
        JwsAlgorithm::Rs512 => &RSA_PKCS1_2048_8192_SHA512,
        JwsAlgorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        JwsAlgorithm::Ps384 => &RSA_PSS_2048_8192_SHA384,
        JwsAlgorithm::Ps512 => &RSA_PSS_2048_8192_SHA512,
        _ => return Err(Refused),
    };
    RsaPublicKeyComponents { n, e }
        .verify(parameters, message, signature)
        .map_err(|_| Refused)
}

/// `key` is a point, or an Ed25519 key.
pub(crate) fn verify_jws(
    algorithm: JwsAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), Refused> {
    let algorithm: &'static dyn VerificationAlgorithm = match algorithm {
        JwsAlgorithm::Es256 => &ECDSA_P256_SHA256_FIXED,
        JwsAlgorithm::Es384 => &ECDSA_P384_SHA384_FIXED,
        JwsAlgorithm::EdDsa => &ED25519,
        _ => return Err(Refused),
    };
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .map_err(|_| Refused)
}

pub(crate) struct Aes256Gcm(LessSafeKey);

impl Aes256Gcm {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes every 32-byte key");
        Self(LessSafeKey::new(key))
    }

    /// Encrypts `text` where it is and appends the tag.
    pub(crate) fn seal(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        text: &mut Vec<u8>,
    ) -> Result<(), Refused> {
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text)
            .map_err(|_| Refused)
    }

    /// Decrypts `text` where it is; answers how much of it is plaintext.
    pub(crate) fn open(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<usize, Refused> {
        self.0
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text)
            .map(|plaintext| plaintext.len())
            .map_err(|_| Refused)
    }
}
