//! Sealing of secrets at rest: AES-256-GCM with a random 96-bit nonce in front and the tag at the
//! end (NIST SP 800-38D). The associated data says what the secret is, and opening it as anything
//! else fails. Refuses to say why something did not open.
//!
//! One key seals at most 2^32 values (SP 800-38D §8.3): data keys, not streams.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::backend;
use crate::random::{Random, SystemRandom};

const NONCE: usize = 12;
const TAG: usize = 16;

/// A 256-bit key that seals and opens. Its bytes are wiped on drop.
pub struct SealingKey {
    bytes: Zeroizing<[u8; 32]>,
    cipher: backend::Aes256Gcm,
}

impl SealingKey {
    /// A new key.
    pub fn generate(random: &mut dyn Random) -> Self {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        Self::from_bytes(bytes)
    }

    /// The key that consists of `bytes`.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self {
            cipher: backend::Aes256Gcm::new(&bytes),
            bytes,
        }
    }

    /// Seals `plaintext` as what `aad` says it is: nonce, ciphertext, tag.
    #[must_use]
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = SystemRandom.bytes();
        // Reserved in full, so that growing never leaves a copy of the plaintext behind.
        let mut text = Vec::with_capacity(plaintext.len() + TAG);
        text.extend_from_slice(plaintext);
        self.cipher
            .seal(nonce, aad, &mut text)
            .expect("only a text of more than 64 GiB is refused");
        [&nonce[..], &text].concat()
    }

    /// Opens what [`seal`](Self::seal) made with this key and the same `aad`.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (nonce, text) = sealed
            .split_first_chunk::<NONCE>()
            .filter(|(_, text)| text.len() >= TAG)
            .ok_or(OpenError::TooShort {
                bytes: sealed.len(),
            })?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self
            .cipher
            .open(*nonce, aad, &mut text)
            .map_err(|_| OpenError::Refused)?;
        text.truncate(length);
        Ok(text)
    }

    /// A value by which a wrong key is told before anything is written with it. It reveals
    /// nothing of the key (HMAC-SHA256 under it, truncated).
    #[must_use]
    pub fn check_value(&self) -> [u8; 16] {
        let label = b"countersign sealing key check";
        let tag = backend::HmacKey::new(self.bytes.as_slice()).tag(std::iter::once(&label[..]));
        let mut value = [0; 16];
        value.copy_from_slice(&tag[..16]);
        value
    }

    /// The key itself, for its key file.
    #[must_use]
    pub fn bytes(&self) -> Zeroizing<[u8; 32]> {
        self.bytes.clone()
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(redacted)")
    }
}

/// Why a sealed value was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Too short to hold a nonce and a tag.
    #[error("a sealed value has at least 28 bytes, this one has {bytes}")]
    TooShort {
        /// How many bytes there are.
        bytes: usize,
    },
    /// Another key, another purpose, or changed bytes; which one cannot be known.
    #[error("the sealed value was made with another key or for another purpose, or was changed")]
    Refused,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::SeededRandom;

    fn key(seed: u64) -> SealingKey {
        SealingKey::generate(&mut SeededRandom::new(seed))
    }

    #[track_caller]
    fn refused(aad: &[u8], sealed: &[u8], expected: OpenError) {
        assert_eq!(key(1).open(aad, sealed).err(), Some(expected));
    }

    #[test]
    fn another_key_does_not_open() {
        refused(
            b"root",
            &key(2).seal(b"root", b"secret"),
            OpenError::Refused,
        );
    }

    #[test]
    fn another_purpose_does_not_open() {
        refused(b"jwt", &key(1).seal(b"root", b"secret"), OpenError::Refused);
    }

    #[test]
    fn a_value_without_room_for_a_tag_is_refused() {
        refused(b"", &[0; 27], OpenError::TooShort { bytes: 27 });
    }

    #[test]
    fn sealing_twice_never_gives_the_same_value() {
        assert_ne!(key(1).seal(b"a", b"secret"), key(1).seal(b"a", b"secret"));
    }

    #[test]
    fn a_check_value_tells_keys_apart() {
        assert_ne!(key(1).check_value(), key(2).check_value());
        assert_eq!(
            key(1).check_value(),
            SealingKey::from_bytes(*key(1).bytes()).check_value()
        );
    }

    #[test]
    fn a_sealing_key_does_not_show_itself() {
        assert_eq!(format!("{:?}", key(1)), "SealingKey(redacted)");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn what_was_sealed_opens_and_no_changed_bit_passes(
            aad: Vec<u8>, secret: Vec<u8>, place: prop::sample::Index, bit in 0..8_u8
        ) {
            let mut sealed = key(1).seal(&aad, &secret);
            prop_assert_eq!(key(1).open(&aad, &sealed), Ok(Zeroizing::new(secret)));
            let place = place.index(sealed.len());
            sealed[place] ^= 1 << bit;
            prop_assert_eq!(key(1).open(&aad, &sealed), Err(OpenError::Refused));
        }
    }
}
