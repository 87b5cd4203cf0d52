//! The bundle update: what the owner of a recovery key signs, offline, so that an agent that can
//! tell its CA no longer from a thief of its root learns which roots to trust.
//!
//! Text: `csu1.`, base64url without padding of a JSON object with exactly the fields
//! `trust_domain`, `number`, `bundle_sequence`, `not_before`, `not_after` (seconds since the epoch),
//! `roots` (base64url, DER) and `removed` (SHA-256 of DER, lower hex), `.`, and base64url of an ECDSA
//! signature over `countersign-bundle-update-v1`, a zero byte and that JSON. Invariant: nothing of it
//! is read before the signature verifies, and a [`BundleUpdate`] is for the trust domain, within its
//! time, and trusts no root that it removes.

mod key;

use std::str::FromStr;

use crypto::digest::Sha256;
use crypto::signing::{BadSignature, PublicKey, SigningKey};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;

use crate::trust_domain::{TrustDomain, TrustDomainError};
use crate::validity::{Validity, ValidityError};
use crate::x509::{Bundle, BundleError};

pub use key::{RecoveryKeyError, private_from_pem, private_to_pem, public_from_pem, public_to_pem};

const PREFIX: &str = "csu1.";
const SIGNED: &[u8] = b"countersign-bundle-update-v1\0";
const MAX_TEXT: usize = 64 * 1024;
const MAX_ENTRIES: usize = 16;

/// What a bundle is to become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleUpdate {
    number: u64,
    validity: Validity,
    bundle: Bundle,
    removed: Vec<Sha256>,
}

/// As somebody sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedBundleUpdate {
    statement: Vec<u8>,
    signature: Vec<u8>,
}

impl BundleUpdate {
    /// `number` orders updates: an agent takes none that is not above the last that it took.
    /// `removed` are digests of roots that are never trusted again.
    ///
    /// # Errors
    /// There is no root, there are too many, or one is removed as well.
    pub fn new(
        number: u64,
        validity: Validity,
        bundle: Bundle,
        removed: Vec<Sha256>,
    ) -> Result<Self, BundleUpdateError> {
        let roots = bundle.authorities();
        for (field, least, entries) in [("roots", 1, roots.len()), ("removed", 0, removed.len())] {
            if !(least..=MAX_ENTRIES).contains(&entries) {
                return Err(BundleUpdateError::Entries { field, entries });
            }
        }
        if let Some(root) = roots.iter().find(|root| removed.contains(&root.digest())) {
            return Err(BundleUpdateError::Removed(root.digest()));
        }
        Ok(Self {
            number,
            validity,
            bundle,
            removed,
        })
    }

    /// The update as text.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        let statement = serde_json::to_vec(&self.fields())
            .expect("numbers, texts and lists of them are always JSON");
        let signature = key.sign(&signed_bytes(&statement));
        format!(
            "{PREFIX}{}.{}",
            BASE64URL_NOPAD.encode(&statement),
            BASE64URL_NOPAD.encode(&signature)
        )
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn validity(&self) -> &Validity {
        &self.validity
    }

    /// What is trusted from now on. Its sequence is that of the CA's bundle when this was signed.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// SHA-256 of the DER of roots that are never trusted again.
    pub fn removed(&self) -> &[Sha256] {
        &self.removed
    }

    /// # Errors
    /// It is the last one that was taken, or one from before.
    pub fn require_after(&self, taken: u64) -> Result<(), BundleUpdateError> {
        if self.number > taken {
            return Ok(());
        }
        Err(BundleUpdateError::Replayed {
            offered: self.number,
            taken,
        })
    }

    fn fields(&self) -> Fields {
        let roots = self.bundle.authorities().iter();
        Fields {
            trust_domain: self.bundle.trust_domain().to_string(),
            number: self.number,
            bundle_sequence: self.bundle.sequence(),
            not_before: self.validity.not_before().unix_timestamp(),
            not_after: self.validity.not_after().unix_timestamp(),
            roots: roots
                .map(|root| BASE64URL_NOPAD.encode(root.der()))
                .collect(),
            removed: self.removed.iter().map(ToString::to_string).collect(),
        }
    }
}

impl UnverifiedBundleUpdate {
    /// Any statement, signed: what [`BundleUpdate::sign`] makes, and what no honest owner of a key
    /// would.
    #[must_use]
    pub fn signed_by(key: &SigningKey, statement: &[u8]) -> Self {
        Self {
            statement: statement.to_vec(),
            signature: key.sign(&signed_bytes(statement)),
        }
    }

    /// # Errors
    /// Another key has signed it, or it breaks a rule; see [`BundleUpdateError`].
    pub fn verify(
        &self,
        key: &PublicKey,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<BundleUpdate, BundleUpdateError> {
        key.verify(&signed_bytes(&self.statement), &self.signature)?;
        let fields: Fields =
            serde_json::from_slice(&self.statement).map_err(|_| BundleUpdateError::Fields)?;
        let found: TrustDomain = fields.trust_domain.parse()?;
        if found != *trust_domain {
            let expected = trust_domain.clone();
            return Err(BundleUpdateError::OtherTrustDomain { expected, found });
        }
        let update = fields.check(found)?;
        let (not_before, not_after) = (update.validity.not_before(), update.validity.not_after());
        if now < not_before {
            return Err(BundleUpdateError::NotYetValid { not_before });
        }
        if now > not_after {
            return Err(BundleUpdateError::Expired { not_after });
        }
        Ok(update)
    }
}

impl FromStr for UnverifiedBundleUpdate {
    type Err = BundleUpdateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_TEXT {
            return Err(BundleUpdateError::TooLong { length: text.len() });
        }
        let parts = text
            .strip_prefix(PREFIX)
            .ok_or(BundleUpdateError::Version)?
            .split_once('.');
        let (statement, signature) = parts.ok_or(BundleUpdateError::Encoding)?;
        let decode = |part: &str| {
            let bytes = BASE64URL_NOPAD.decode(part.as_bytes());
            bytes.map_err(|_| BundleUpdateError::Encoding)
        };
        Ok(Self {
            statement: decode(statement)?,
            signature: decode(signature)?,
        })
    }
}

/// Why a text makes no bundle update that may be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BundleUpdateError {
    #[error("a bundle update has at most {MAX_TEXT} bytes, this one has {length}")]
    TooLong { length: usize },
    #[error("a bundle update starts with `csu1.`")]
    Version,
    #[error("the bundle update is not two parts in base64url; is it cut off?")]
    Encoding,
    #[error("another key than the recovery key has signed the bundle update")]
    Signature(#[from] BadSignature),
    #[error("the bundle update has not exactly the fields of one")]
    Fields,
    #[error("the trust domain of the bundle update is none")]
    TrustDomain(#[from] TrustDomainError),
    #[error("the bundle update is for trust domain {found}, not {expected}")]
    OtherTrustDomain {
        expected: TrustDomain,
        found: TrustDomain,
    },
    #[error("the times of the bundle update are none")]
    Time,
    #[error("the times of the bundle update are refused")]
    Validity(#[from] ValidityError),
    #[error("the bundle update is not valid before {not_before}")]
    NotYetValid { not_before: OffsetDateTime },
    #[error("the bundle update was valid until {not_after}")]
    Expired { not_after: OffsetDateTime },
    #[error("`{field}` of the bundle update has {entries} entries, too few or more than 16")]
    Entries { field: &'static str, entries: usize },
    #[error("root {0} of the bundle update is not base64url")]
    RootEncoding(usize),
    #[error("the roots of the bundle update are refused")]
    Roots(#[from] BundleError),
    #[error("digest {0} in `removed` of the bundle update is not the lower hex of a SHA-256")]
    Digest(usize),
    #[error("the bundle update both trusts and removes root {0}")]
    Removed(Sha256),
    #[error("the bundle update has number {offered}, and {taken} was taken already")]
    Replayed { offered: u64, taken: u64 },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    trust_domain: String,
    number: u64,
    bundle_sequence: u64,
    not_before: i64,
    not_after: i64,
    roots: Vec<String>,
    removed: Vec<String>,
}

impl Fields {
    fn check(self, trust_domain: TrustDomain) -> Result<BundleUpdate, BundleUpdateError> {
        let decode = |(index, root): (usize, &String)| {
            let der = BASE64URL_NOPAD.decode(root.as_bytes());
            der.map_err(|_| BundleUpdateError::RootEncoding(index))
        };
        let roots = self.roots.iter().enumerate().map(decode);
        let roots = roots.collect::<Result<Vec<_>, _>>()?;
        let digest = |(index, digest): (usize, &String)| {
            let digest = digest.parse::<Sha256>();
            digest.map_err(|_| BundleUpdateError::Digest(index))
        };
        let removed = self.removed.iter().enumerate().map(digest);
        let validity = Validity::try_new(time_of(self.not_before)?, time_of(self.not_after)?)?;
        let bundle = Bundle::new(trust_domain, self.bundle_sequence, roots)?;
        BundleUpdate::new(
            self.number,
            validity,
            bundle,
            removed.collect::<Result<_, _>>()?,
        )
    }
}

fn time_of(seconds: i64) -> Result<OffsetDateTime, BundleUpdateError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| BundleUpdateError::Time)
}

fn signed_bytes(statement: &[u8]) -> Vec<u8> {
    [SIGNED, statement].concat()
}

#[cfg(test)]
mod tests;
