//! The join token: what a new agent is given so that it can prove itself to the CA once, and
//! recognise the CA before it does.
//!
//! Text: `csj1.` and base64url without padding of a JSON object with exactly the fields `id`,
//! `secret` (base64url, 32 bytes), `trust_domain`, `addresses` (`host:port`) and `root_sha256`
//! (lower hex). Invariant: every field is valid and the lists are neither empty nor long.
//! `Debug` and the errors never show the secret; `Display` does, since it is the token.

use std::fmt;
use std::str::FromStr;

use crypto::digest::Sha256;
use crypto::random::Random;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::trust_domain::{TrustDomain, TrustDomainError};

mod address;

pub use address::{CaAddress, CaAddressError};

const PREFIX: &str = "csj1.";
const MAX_TEXT: usize = 8 * 1024;
const MAX_ID: usize = 64;
const MAX_ENTRIES: usize = 16;
const SECRET_BYTES: usize = 32;

/// A token that admits one agent. It carries a secret: see the module on what shows it.
#[derive(Clone)]
// Outside tests nothing may compare secrets byte by byte.
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct JoinToken {
    id: String,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
    trust_domain: TrustDomain,
    addresses: Vec<CaAddress>,
    roots: Vec<Sha256>,
}

impl JoinToken {
    /// A token with a new secret. `id` is 1 to 64 of `A-Z a-z 0-9 - _`.
    pub fn generate(
        id: &str,
        trust_domain: TrustDomain,
        addresses: Vec<CaAddress>,
        roots: Vec<Sha256>,
        random: &mut dyn Random,
    ) -> Result<Self, JoinTokenError> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        random.fill(secret.as_mut());
        Self {
            id: id.to_owned(),
            secret,
            trust_domain,
            addresses,
            roots,
        }
        .checked()
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn secret(&self) -> &[u8; SECRET_BYTES] {
        &self.secret
    }

    /// What the CA keeps instead of the secret. A plain digest is enough: the secret has 256
    /// random bits.
    pub fn secret_digest(&self) -> Sha256 {
        Sha256::of(self.secret.as_slice())
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Where the CA's agent listener is, best first.
    pub fn addresses(&self) -> &[CaAddress] {
        &self.addresses
    }

    /// SHA-256 of the DER of each root that the agent may accept.
    pub fn roots(&self) -> &[Sha256] {
        &self.roots
    }

    fn checked(self) -> Result<Self, JoinTokenError> {
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if !(1..=MAX_ID).contains(&self.id.len()) || !self.id.bytes().all(is_id) {
            return Err(JoinTokenError::Id);
        }
        for (field, entries) in [
            ("addresses", self.addresses.len()),
            ("root_sha256", self.roots.len()),
        ] {
            if !(1..=MAX_ENTRIES).contains(&entries) {
                return Err(JoinTokenError::Entries { field, entries });
            }
        }
        Ok(self)
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_TEXT {
            return Err(JoinTokenError::TooLong { length: text.len() });
        }
        let body = text.strip_prefix(PREFIX).ok_or(JoinTokenError::Version)?;
        let json = BASE64URL_NOPAD
            .decode(body.as_bytes())
            .map(Zeroizing::new)
            .map_err(|_| JoinTokenError::Encoding)?;
        let fields: Fields = serde_json::from_slice(&json).map_err(|_| JoinTokenError::Fields)?;
        let secret = decode_secret(&fields.secret)?;
        Self {
            id: fields.id.clone(),
            secret,
            trust_domain: fields.trust_domain.parse()?,
            addresses: parse_each(&fields.addresses, JoinTokenError::Address)?,
            roots: parse_each(&fields.root_sha256, |_| JoinTokenError::Root)?,
        }
        .checked()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = Fields {
            id: self.id.clone(),
            secret: BASE64URL_NOPAD.encode(self.secret.as_slice()),
            trust_domain: self.trust_domain.to_string(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            root_sha256: self.roots.iter().map(ToString::to_string).collect(),
        };
        let json = serde_json::to_vec(&fields).map(Zeroizing::new);
        let body = Zeroizing::new(BASE64URL_NOPAD.encode(&json.map_err(|_| fmt::Error)?));
        write!(f, "{PREFIX}{}", body.as_str())
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("id", &self.id)
            .field("secret", &"[redacted]")
            .field("trust_domain", &self.trust_domain)
            .field("addresses", &self.addresses)
            .field("roots", &self.roots)
            .finish()
    }
}

/// Why a text is not a join token. None of these repeats anything of the field `secret`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JoinTokenError {
    #[error("a join token has at most 8192 bytes, this one has {length}")]
    TooLong { length: usize },
    #[error("a join token starts with `csj1.`")]
    Version,
    #[error("the part of a join token after `csj1.` is base64url without padding")]
    Encoding,
    #[error(
        "a join token is a JSON object of exactly `id`, `secret`, `trust_domain`, `addresses` and `root_sha256`"
    )]
    Fields,
    #[error("the `id` of a join token is 1 to 64 of A-Z, a-z, 0-9, '-' and '_'")]
    Id,
    #[error("the `secret` of a join token is 32 bytes in base64url without padding")]
    Secret,
    #[error("the `trust_domain` of the join token is invalid: {0}")]
    TrustDomain(#[from] TrustDomainError),
    #[error("an entry of `addresses` of the join token is invalid: {0}")]
    Address(CaAddressError),
    #[error("an entry of `root_sha256` of a join token is 64 lowercase hex digits")]
    Root,
    #[error("`{field}` of a join token has 1 to 16 entries, this one {entries}")]
    Entries { field: &'static str, entries: usize },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    id: String,
    secret: String,
    trust_domain: String,
    addresses: Vec<String>,
    root_sha256: Vec<String>,
}

impl Drop for Fields {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

fn decode_secret(text: &str) -> Result<Zeroizing<[u8; SECRET_BYTES]>, JoinTokenError> {
    let bytes = BASE64URL_NOPAD
        .decode(text.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| JoinTokenError::Secret)?;
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    if bytes.len() != secret.len() {
        return Err(JoinTokenError::Secret);
    }
    secret.copy_from_slice(&bytes);
    Ok(secret)
}

fn parse_each<T: FromStr>(
    texts: &[String],
    refuse: impl Fn(T::Err) -> JoinTokenError,
) -> Result<Vec<T>, JoinTokenError> {
    texts
        .iter()
        .map(|text| text.parse().map_err(&refuse))
        .collect()
}

#[cfg(test)]
mod tests;
