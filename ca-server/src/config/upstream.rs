//! `[upstream]`: an authority above the mesh, whose root the trust domain then has.
//!
//! Refuses a mesh that would make roots of its own beside it.

use std::path::PathBuf;

use serde::Deserialize;

use super::{BrokenRule, KeysConfig, RootPlace, TokenKeyName};

/// Where the upstream authority's certificates and key are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamConfig {
    /// In files, which are read whenever an intermediate is signed.
    Disk(UpstreamDisk),
    /// The certificates in a file, the key in the token of `[keys.pkcs11]`.
    Pkcs11(UpstreamPkcs11),
    /// An offline root, which signs requests: the key is in the store, sealed.
    Csr(UpstreamCsr),
    /// Another instance of Countersign, for the same trust domain.
    Countersign(UpstreamCountersign),
}

/// An authority in files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamDisk {
    /// PEM: the certificate that signs, what signed it, and so on, the root last.
    pub chain_file: PathBuf,
    /// PEM, unencrypted, readable by its owner only.
    pub key_file: PathBuf,
    /// What is to follow it: its root is published at once, and signs when all agents know it.
    pub next: Option<NextUpstreamDisk>,
}

/// An authority in files that is to follow another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextUpstreamDisk {
    pub chain_file: PathBuf,
    pub key_file: PathBuf,
}

/// An authority whose key is in a token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamPkcs11 {
    /// As that of [`UpstreamDisk`].
    pub chain_file: PathBuf,
    /// CKA_LABEL of the private key, which no other private key has.
    pub key_label: String,
    /// As that of [`UpstreamDisk`].
    pub next: Option<NextUpstreamPkcs11>,
}

/// An authority whose key is in a token, and which is to follow another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextUpstreamPkcs11 {
    pub chain_file: PathBuf,
    pub key_label: String,
}

/// Has nothing to say: `countersign-ca upstream` makes requests and takes certificates.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamCsr {}

/// An instance of Countersign above this one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamCountersign {
    /// As `countersign downstream create` has written it, above; readable by its owner only.
    pub credential_file: PathBuf,
}

impl UpstreamConfig {
    pub(super) fn check(&self, keys: &KeysConfig) -> Result<(), BrokenRule> {
        if keys.root == RootPlace::Pkcs11 {
            return Err(BrokenRule {
                key: "keys.root",
                message: "with [upstream] the mesh makes no keys of roots; leave it out".to_owned(),
            });
        }
        match self {
            Self::Pkcs11(_) if keys.pkcs11.is_none() => Err(BrokenRule {
                key: "upstream.pkcs11",
                message: "needs [keys.pkcs11], which says which token".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

impl UpstreamDisk {
    /// Chain and key, the ones in use first.
    pub fn places(&self) -> impl Iterator<Item = (&PathBuf, &PathBuf)> {
        let next = self.next.as_ref().map(|it| (&it.chain_file, &it.key_file));
        std::iter::once((&self.chain_file, &self.key_file)).chain(next)
    }
}

impl UpstreamPkcs11 {
    /// Chain and key, the ones in use first.
    pub fn places(&self) -> impl Iterator<Item = (&PathBuf, TokenKeyName)> {
        let key = |label: &String| TokenKeyName::Label(label.clone());
        let next = self.next.as_ref();
        let next = next.map(move |it| (&it.chain_file, key(&it.key_label)));
        std::iter::once((&self.chain_file, key(&self.key_label))).chain(next)
    }
}
