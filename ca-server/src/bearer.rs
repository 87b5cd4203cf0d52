//! Bearer secrets (RFC 6750): 256 random bits behind a prefix that says what they open.
//!
//! Refuses to show itself but where it is made, to whoever is to hold it; the store keeps digests.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use crypto::digest::Sha256;
use crypto::random::Random;
use data_encoding::BASE64URL_NOPAD;
use zeroize::Zeroizing;

const BYTES: usize = 32;
const CHARACTERS: usize = 43;

/// What a secret opens. Secrets of different openings are different types.
pub trait Opening {
    const PREFIX: &'static str;
}

/// The administration of the mesh.
#[derive(Debug)]
pub enum Administration {}

/// What an instance below this one may ask for.
#[derive(Debug)]
pub(crate) enum Nesting {}

/// A prefix and 43 characters of base64url.
pub struct BearerSecret<O>(Zeroizing<[u8; BYTES]>, PhantomData<O>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not such a secret: `{0}` and 43 characters of base64url")]
pub struct InvalidSecret(&'static str);

impl Opening for Administration {
    const PREFIX: &'static str = "csa1_";
}

impl Opening for Nesting {
    const PREFIX: &'static str = "csd1_";
}

impl<O: Opening> BearerSecret<O> {
    pub(crate) fn generate(random: &mut dyn Random) -> Self {
        let mut bytes = Zeroizing::new([0; BYTES]);
        random.fill(bytes.as_mut_slice());
        Self(bytes, PhantomData)
    }

    /// What the store keeps: the secret has 256 random bits, so a plain digest is enough.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256::of(self.0.as_slice())
    }

    /// The secret itself.
    pub(crate) fn text(&self) -> Zeroizing<String> {
        let length = O::PREFIX.len() + CHARACTERS;
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push_str(O::PREFIX);
        BASE64URL_NOPAD.encode_append(self.0.as_slice(), &mut text);
        text
    }
}

impl<O: Opening> FromStr for BearerSecret<O> {
    type Err = InvalidSecret;

    fn from_str(text: &str) -> Result<Self, InvalidSecret> {
        let invalid = InvalidSecret(O::PREFIX);
        let body = text.strip_prefix(O::PREFIX).ok_or(invalid)?;
        let mut bytes = Zeroizing::new([0; BYTES]);
        if BASE64URL_NOPAD.decode_len(body.len()) != Ok(BYTES) {
            return Err(invalid);
        }
        BASE64URL_NOPAD
            .decode_mut(body.as_bytes(), bytes.as_mut_slice())
            .map_err(|_| invalid)?;
        Ok(Self(bytes, PhantomData))
    }
}

impl<O> fmt::Debug for BearerSecret<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerSecret(redacted)")
    }
}
