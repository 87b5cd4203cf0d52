//! `[recovery]`: the offline key whose bundle updates agents obey.

use std::path::PathBuf;

use serde::Deserialize;

/// Where its public half is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryConfig {
    /// PEM, `PUBLIC KEY`: a P-256 key; the same on every replica.
    pub public_key_file: PathBuf,
}
