//! `[keys.pkcs11]`: a token that holds keys which never leave it.
//!
//! Refuses a PIN anywhere but in a file or credential of its own.

use std::path::PathBuf;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Deserialize;

use super::{CredentialName, KeysConfigError};

/// A token, and which of its keys are ours.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Pkcs11Config {
    /// The vendor's library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    pub pin: PinPlace,
    /// The key-encryption key, if it is in the token. Made there at the first start.
    pub kek: Option<TokenKeyName>,
    /// Of root keys that are made in the token.
    pub root_curve: RootCurve,
}

/// Where the PIN of the user is, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinPlace {
    /// Readable by its owner only.
    File(PathBuf),
    /// Of systemd.
    Credential(CredentialName),
}

/// By what a key of a token is found; each must be the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKeyName {
    /// CKA_LABEL.
    Label(String),
    /// CKA_ID.
    Id(Vec<u8>),
}

/// On which curve root keys lie (RFC 5480 §2.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootCurve {
    #[default]
    P256,
    P384,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    module: PathBuf,
    token: String,
    pin_file: Option<PathBuf>,
    pin_credential: Option<CredentialName>,
    kek_label: Option<String>,
    kek_id: Option<String>,
    #[serde(default)]
    root_curve: RootCurve,
}

impl TryFrom<Raw> for Pkcs11Config {
    type Error = KeysConfigError;

    fn try_from(raw: Raw) -> Result<Self, KeysConfigError> {
        let pin = match (raw.pin_file, raw.pin_credential) {
            (Some(path), None) => PinPlace::File(path),
            (None, Some(name)) => PinPlace::Credential(name),
            _ => return Err(KeysConfigError::Pin),
        };
        let kek = match (raw.kek_label, raw.kek_id) {
            (None, None) => None,
            (Some(label), None) => Some(TokenKeyName::label(label)?),
            (None, Some(id)) => Some(TokenKeyName::id(&id)?),
            (Some(_), Some(_)) => return Err(KeysConfigError::Twice("kek_label", "kek_id")),
        };
        Ok(Self {
            module: raw.module,
            token: raw.token,
            pin,
            kek,
            root_curve: raw.root_curve,
        })
    }
}

impl TokenKeyName {
    pub(super) fn label(label: String) -> Result<Self, KeysConfigError> {
        match label.is_empty() {
            true => Err(KeysConfigError::TokenKey),
            false => Ok(Self::Label(label)),
        }
    }

    fn id(text: &str) -> Result<Self, KeysConfigError> {
        match HEXLOWER_PERMISSIVE.decode(text.as_bytes()) {
            Ok(id) if !id.is_empty() => Ok(Self::Id(id)),
            _ => Err(KeysConfigError::TokenKey),
        }
    }
}

impl std::fmt::Display for TokenKeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Label(label) => write!(f, "with label `{label}`"),
            Self::Id(id) => write!(f, "with id {}", HEXLOWER_PERMISSIVE.encode(id)),
        }
    }
}
