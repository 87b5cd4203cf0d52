//! `[store]`, `[keys]` and `[admin]`: where secrets lie, and that the key-encryption key never lies
//! beside the data which it protects.

use std::path::PathBuf;

use serde::Deserialize;

/// Where what the CA remembers is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// The SQLite file; its directory is the data directory.
    pub sqlite: PathBuf,
}

/// The key-encryption key, which opens the sealed root.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// 64 hexadecimal digits, readable by the owner only. Made at the first start.
    pub kek_file: PathBuf,
}

/// The first administrator's credential.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Written once, by the replica that makes the root.
    pub credential_file: PathBuf,
}

/// A copy of the data directory would hold the key that opens it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kek_file} lies in the data directory {data_directory}; put it elsewhere")]
pub struct KeyPlaceError {
    kek_file: PathBuf,
    data_directory: PathBuf,
}

impl KeysConfig {
    pub(super) fn check_apart_from(&self, store: &StoreConfig) -> Result<(), KeyPlaceError> {
        let data_directory = store.data_directory();
        if self.kek_file.starts_with(&data_directory) {
            return Err(KeyPlaceError {
                kek_file: self.kek_file.clone(),
                data_directory,
            });
        }
        Ok(())
    }
}

impl StoreConfig {
    /// The directory of the SQLite file.
    pub fn data_directory(&self) -> PathBuf {
        match self.sqlite.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        }
    }
}
