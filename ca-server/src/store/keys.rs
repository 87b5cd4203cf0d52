//! Sealed signing keys. The store sees ciphertext only.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

use super::{Backend, Store, StoreError};

/// What a sealed key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPurpose {
    /// The trust domain's X.509 root.
    X509Root,
}

impl KeyPurpose {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X509Root => "x509-root",
        }
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("unknown key purpose `{0}`")]
pub struct UnknownKeyPurpose(String);

impl FromStr for KeyPurpose {
    type Err = UnknownKeyPurpose;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "x509-root" => Ok(Self::X509Root),
            other => Err(UnknownKeyPurpose(other.to_owned())),
        }
    }
}

/// One signing key, sealed by a data key that the key-encryption key wraps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKeyRow {
    pub purpose: KeyPurpose,
    pub key_id: String,
    pub version: u32,
    pub wrapped_data_key: Vec<u8>,
    pub sealed: Vec<u8>,
    /// Tells whether a key-encryption key is the one that wrapped this row.
    pub kek_check: [u8; 16],
    /// DER.
    pub certificate: Vec<u8>,
    pub created_at: OffsetDateTime,
}

impl Store {
    /// All sealed keys, oldest first.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn sealed_keys(&self) -> Result<Vec<SealedKeyRow>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.sealed_keys().await,
        }
    }

    /// Keeps `row` unless there is one with its purpose and version, and answers with the one kept.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn insert_sealed_key_if_absent(
        &self,
        row: SealedKeyRow,
    ) -> Result<SealedKeyRow, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.insert_sealed_key_if_absent(row).await,
        }
    }
}
