//! `[keys]` and `[admin]`: where secrets lie, and that the key-encryption key never lies
//! beside the data which it protects.

use std::path::PathBuf;

use serde::Deserialize;

use super::{BrokenRule, StorePlace};

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

impl KeysConfig {
    /// A copy of the data directory must not hold the key that opens it.
    pub(super) fn check_apart_from(&self, store: &StorePlace) -> Result<(), BrokenRule> {
        let Some(data_directory) = store.data_directory() else {
            return Ok(());
        };
        if !self.kek_file.starts_with(&data_directory) {
            return Ok(());
        }
        Err(BrokenRule {
            key: "keys.kek_file",
            message: format!(
                "{} lies in the data directory {}; put it elsewhere",
                self.kek_file.display(),
                data_directory.display()
            ),
        })
    }
}
