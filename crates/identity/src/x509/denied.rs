//! Who is refused although the certificate verifies: an identity, one leaf, or all that an
//! authority signed.
//!
//! Invariant: a list is bounded, each of its entries is well-formed, and whether it refuses somebody
//! costs the same however long it is.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crypto::digest::Sha256;
use thiserror::Error;

use super::chain::{ExpiredSvid, VerifiedSvid};
use crate::serial::{SerialNumber, SerialNumberError};
use crate::spiffe_id::{SpiffeId, SpiffeIdError};

/// A list with more is refused, wherever it comes from.
pub const MOST_DENIED: usize = 50_000;

/// One thing that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Denied {
    /// Whatever certificate shows it.
    Identity(SpiffeId),
    /// The leaf with this number.
    Serial(SerialNumber),
    /// All that this authority, root or intermediate, stands above: by the SHA-256 of its
    /// SubjectPublicKeyInfo.
    Authority(Sha256),
}

/// Everything that is refused at one time. Cloning is cheap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DenyList(Arc<HashSet<Denied>>);

impl DenyList {
    /// # Errors
    /// It is longer than [`MOST_DENIED`].
    pub fn new(entries: impl IntoIterator<Item = Denied>) -> Result<Self, DenyListError> {
        Self::collect(entries.into_iter().map(Ok))
    }

    /// From what came over a wire: SPIFFE IDs, serial numbers as big-endian magnitudes, and SHA-256
    /// digests of authorities' keys.
    ///
    /// # Errors
    /// An entry is malformed, or there are more than [`MOST_DENIED`].
    pub fn parse<T: AsRef<str>, B: AsRef<[u8]>>(
        identities: &[T],
        serials: &[B],
        authorities: &[B],
    ) -> Result<Self, DenyListError> {
        let identities = identities.iter().map(|text| {
            let id = text.as_ref().parse();
            id.map(Denied::Identity).map_err(DenyListError::Identity)
        });
        let serials = serials.iter().map(|bytes| {
            let serial = SerialNumber::from_bytes(bytes.as_ref());
            serial.map(Denied::Serial).map_err(DenyListError::Serial)
        });
        let authorities = authorities.iter().map(|bytes| {
            let digest = <[u8; 32]>::try_from(bytes.as_ref());
            let digest = digest.map_err(|_| DenyListError::Authority)?;
            Ok(Denied::Authority(Sha256::from_bytes(digest)))
        });
        Self::collect(identities.chain(serials).chain(authorities))
    }

    fn collect(
        entries: impl Iterator<Item = Result<Denied, DenyListError>>,
    ) -> Result<Self, DenyListError> {
        let mut all = HashSet::new();
        for entry in entries {
            all.insert(entry?);
            if all.len() > MOST_DENIED {
                return Err(DenyListError::TooLong);
            }
        }
        Ok(Self(Arc::new(all)))
    }

    /// The entry that refuses this SVID, if one does: an authority only where neither its identity
    /// nor its number is named.
    #[must_use]
    pub fn refuses(&self, svid: &VerifiedSvid) -> Option<Denied> {
        self.find(svid.spiffe_id(), svid.serial(), svid.authorities())
    }

    /// The same of one that may have ended.
    #[must_use]
    pub fn refuses_expired(&self, svid: &ExpiredSvid) -> Option<Denied> {
        self.find(svid.spiffe_id(), svid.serial(), svid.authorities())
    }

    fn find(&self, id: &SpiffeId, serial: SerialNumber, above: &[Sha256]) -> Option<Denied> {
        if self.0.is_empty() {
            return None;
        }
        let own = [Denied::Identity(id.clone()), Denied::Serial(serial)];
        let above = above.iter().copied().map(Denied::Authority);
        own.into_iter()
            .chain(above)
            .find(|entry| self.0.contains(entry))
    }

    #[must_use]
    pub fn contains(&self, entry: &Denied) -> bool {
        self.0.contains(entry)
    }

    /// Whether this list refuses something that `before` did not.
    #[must_use]
    pub fn adds_to(&self, before: &Self) -> bool {
        !self.0.is_subset(&before.0)
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = &Denied> {
        self.0.iter()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(id) => write!(f, "identity {id}"),
            Self::Serial(serial) => write!(f, "serial {serial}"),
            Self::Authority(key) => write!(f, "authority {key}"),
        }
    }
}

/// Why something is no deny-list.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DenyListError {
    #[error("an identity of the deny-list is none")]
    Identity(#[source] SpiffeIdError),
    #[error("a serial number of the deny-list is none")]
    Serial(#[source] SerialNumberError),
    #[error("an authority of the deny-list is not the SHA-256 of a key")]
    Authority,
    #[error("a deny-list has at most {MOST_DENIED} entries")]
    TooLong,
}

#[cfg(test)]
mod tests;
