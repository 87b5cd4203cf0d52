//! SHA-256 digests and HMAC-SHA256 tags. A [`Sha256`] is always of something: it is made by
//! hashing, or read from its one text form, 64 lower-case hexadecimal digits.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::backend;
use crate::random::Random;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// The digest of `data`.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        Self(backend::sha256(&[data]))
    }

    /// The digest of the concatenation of `parts`, without making it. Where parts come from
    /// different parties, give each a length or a separator.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        Self(backend::sha256(parts))
    }

    /// The digest of everything that `reader` still holds, read in pieces.
    pub fn of_reader(reader: impl Read) -> io::Result<Self> {
        backend::sha256_of_reader(reader).map(Self)
    }

    /// A digest that was stored or received as 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

impl FromStr for Sha256 {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 64 {
            return Err(DigestError::Length { digits: text.len() });
        }
        let bytes = HEXLOWER
            .decode(text.as_bytes())
            .map_err(|_| DigestError::NotLowerHex)?;
        let bytes = bytes.try_into().map_err(|_| DigestError::NotLowerHex)?;
        Ok(Self(bytes))
    }
}

/// Why a text is not a SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DigestError {
    /// It does not have 64 characters.
    #[error("a sha-256 digest has 64 hexadecimal digits, this text has {digits} bytes")]
    Length {
        /// How many bytes the text has.
        digits: usize,
    },
    /// A character is not `0-9a-f`.
    #[error("a sha-256 digest consists of the digits 0-9 and a-f")]
    NotLowerHex,
}

/// An HMAC-SHA256 key. Cheap to clone; its bytes are wiped when the last clone goes.
#[derive(Clone)]
pub struct HashKey(Arc<HashKeyInner>);

struct HashKeyInner {
    bytes: Zeroizing<Vec<u8>>,
    prepared: backend::HmacKey,
}

impl HashKey {
    /// The key that consists of `bytes`, of any length (RFC 2104).
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(Arc::new(HashKeyInner {
            bytes: Zeroizing::new(bytes.to_vec()),
            prepared: backend::HmacKey::new(bytes),
        }))
    }

    /// A new 256-bit key.
    pub fn generate(random: &mut dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        random.fill(bytes.as_mut_slice());
        Self::from_bytes(bytes.as_slice())
    }

    /// The tag of a list of parts. Each part is preceded by its length (eight bytes, big-endian),
    /// so that `["ab", "c"]` and `["a", "bc"]` have different tags.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let lengths: Vec<_> = parts
            .iter()
            .map(|part| (part.len() as u64).to_be_bytes())
            .collect();
        let framed = lengths
            .iter()
            .zip(parts)
            .flat_map(|(length, part)| [&length[..], *part]);
        self.0.prepared.tag(framed)
    }

    /// The key itself, for a file or a sealed store.
    #[must_use]
    pub fn bytes(&self) -> Zeroizing<Vec<u8>> {
        self.0.bytes.clone()
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(redacted)")
    }
}

/// Compares secrets in time that depends on their lengths alone.
#[must_use]
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    backend::equal_in_constant_time(a, b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::SeededRandom;

    #[track_caller]
    fn refused(text: &str, expected: DigestError) {
        assert_eq!(text.parse::<Sha256>(), Err(expected));
    }

    #[test]
    fn a_short_digest_is_refused() {
        refused("ab", DigestError::Length { digits: 2 });
    }

    #[test]
    fn upper_case_digits_are_refused() {
        refused(&"A".repeat(64), DigestError::NotLowerHex);
    }

    #[test]
    fn characters_of_several_bytes_are_refused() {
        refused(&"é".repeat(32), DigestError::NotLowerHex);
    }

    #[test]
    fn different_values_are_not_equal() {
        assert!(!constant_time_eq(b"secret", b"secreT"));
        assert!(!constant_time_eq(b"secret", b"secrets"));
        assert!(constant_time_eq(b"secret", b"secret"));
    }

    /// FIPS 180-2, appendix B.1.
    #[test]
    fn the_digest_is_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Sha256::of(b"abc").to_string(), expected);
        assert_eq!(Sha256::of_parts(&[b"a", b"bc"]).to_string(), expected);
    }

    #[test]
    fn a_reader_is_hashed_to_its_end() {
        let data = vec![7; 200_000];
        let digest = Sha256::of_reader(&data[..]).unwrap();
        assert_eq!(digest, Sha256::of(&data));
    }

    /// RFC 4231, test case 2, with the framing that `tag` adds taken away.
    #[test]
    fn the_tag_is_hmac_sha_256() {
        let key = HashKey::from_bytes(b"Jefe");
        let tag = key
            .0
            .prepared
            .tag([&b"what do ya want "[..], b"for nothing?"].into_iter());
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(HEXLOWER.encode(&tag), expected);
    }

    #[test]
    fn moving_a_boundary_changes_the_tag() {
        let key = HashKey::generate(&mut SeededRandom::new(1));
        assert_ne!(key.tag(&[b"ab", b"c"]), key.tag(&[b"a", b"bc"]));
        assert_ne!(key.tag(&[b"ab"]), key.tag(&[b"ab", b""]));
    }

    #[test]
    fn a_hash_key_does_not_show_itself() {
        assert_eq!(
            format!("{:?}", HashKey::from_bytes(b"k")),
            "HashKey(redacted)"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn any_text_is_read_or_refused_and_reading_returns_what_was_written(
            bytes: [u8; 32], text in ".{0,80}"
        ) {
            let digest = Sha256::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            if let Ok(read) = text.parse::<Sha256>() {
                prop_assert_eq!(read.to_string(), text);
            }
        }
    }
}
