//! Ed25519 keys (RFC 8032), for statements that are not certificates: those of the transparency
//! log. What mesh identities sign with is [`SigningKey`](crate::signing::SigningKey).

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::backend::{self, Ed25519Pair};
use crate::jws::JwsAlgorithm;
use crate::random::{Random as _, SystemRandom};

/// A private key. Cheap to clone; its seed is wiped when the last clone goes.
#[derive(Clone)]
pub struct Ed25519Key(Arc<Inner>);

struct Inner {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519Pair,
    public: Ed25519PublicKey,
}

impl Ed25519Key {
    /// A new key, from the operating system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom.fill(seed.as_mut_slice());
        Self::from_seed(*seed)
    }

    /// The key with this seed (RFC 8032 §5.1.5): every seed makes one.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let pair = Ed25519Pair::from_seed(&seed).expect("each seed of 32 bytes makes a key");
        let mut public = [0; 32];
        public.copy_from_slice(pair.public());
        Self(Arc::new(Inner {
            seed,
            pair,
            public: Ed25519PublicKey(public),
        }))
    }

    /// What the key is made from, for a sealed store.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        self.0.seed.clone()
    }

    /// Its public half.
    #[must_use]
    pub fn public_key(&self) -> Ed25519PublicKey {
        self.0.public
    }

    /// The signature of `message`; the same for the same message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(&self.0.pair.sign(message));
        signature
    }
}

impl fmt::Debug for Ed25519Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ed25519Key(redacted)")
    }
}

/// A public key. Bytes that are no point of the curve verify nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ed25519PublicKey([u8; 32]);

impl Ed25519PublicKey {
    /// A key that was stored or received.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes (RFC 8032 §5.1.5).
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Refuses what this key did not sign.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadEd25519Signature> {
        backend::verify_jws(JwsAlgorithm::EdDsa, &self.0, message, signature)
            .map_err(|_| BadEd25519Signature)
    }
}

/// The signature is not of this message by this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the Ed25519 signature does not verify")]
pub struct BadEd25519Signature;

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let decoded = HEXLOWER.decode(hex.as_bytes()).unwrap();
        decoded.try_into().unwrap()
    }

    #[test]
    fn a_signature_of_another_message_is_refused() {
        let key = Ed25519Key::generate();
        let signature = key.sign(b"one");
        let outcome = key.public_key().verify(b"two", &signature);
        assert_eq!(outcome, Err(BadEd25519Signature));
    }

    #[test]
    fn a_signature_cut_short_is_refused() {
        let key = Ed25519Key::generate();
        let signature = key.sign(b"one");
        let outcome = key.public_key().verify(b"one", &signature[..63]);
        assert_eq!(outcome, Err(BadEd25519Signature));
    }

    #[test]
    fn bytes_that_are_no_point_verify_nothing() {
        let key = Ed25519PublicKey::from_bytes([0xff; 32]);
        assert_eq!(key.verify(b"", &[0; 64]), Err(BadEd25519Signature));
    }

    #[test]
    fn a_key_does_not_show_its_seed() {
        let shown = format!("{:?}", Ed25519Key::from_seed([7; 32]));
        assert_eq!(shown, "Ed25519Key(redacted)");
    }

    /// RFC 8032 §7.1, test 2.
    #[test]
    fn the_signature_is_ed25519() {
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let key = Ed25519Key::from_seed(bytes(seed));
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        let signature = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                         085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(key.public_key().as_bytes(), &bytes(public));
        assert_eq!(key.sign(&[0x72]), bytes(signature));
        assert_eq!(key.public_key().verify(&[0x72], &key.sign(&[0x72])), Ok(()));
    }
}
