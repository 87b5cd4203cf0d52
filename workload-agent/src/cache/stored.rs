//! What the sealed files hold, as messages.
//!
//! Invariant: `Debug` never shows a key.

use std::fmt;

use proto::agent::v1::{RevocationLists, Snapshot};
use proto::mesh::v1::Bundle;

use super::Sealed;

/// A first attestation that may have to be repeated with the same key.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct StoredJoining {
    #[prost(string, tag = "1")]
    pub(crate) token_id: String,
    /// PKCS#8.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) key: Vec<u8>,
}

/// Certificates, keys and the bundle that they are judged by.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct StoredCredentials {
    #[prost(string, tag = "1")]
    pub(crate) trust_domain: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) bundle: Option<Bundle>,
    #[prost(message, optional, tag = "3")]
    pub(crate) own: Option<StoredSvid>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) workloads: Vec<StoredSvid>,
}

/// One certificate with its key.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct StoredSvid {
    /// DER, leaf first.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) chain: Vec<Vec<u8>>,
    /// PKCS#8.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) key: Vec<u8>,
    /// Seconds since the epoch.
    #[prost(int64, tag = "3")]
    pub(crate) renews_at: i64,
    #[prost(string, tag = "4")]
    pub(crate) spiffe_id: String,
}

/// What the CA said last, and what this agent's workloads asked for.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(crate) struct StoredConfiguration {
    #[prost(message, optional, tag = "1")]
    pub(crate) snapshot: Option<Snapshot>,
    /// `host:port` of the CA's replicas.
    #[prost(string, repeated, tag = "2")]
    pub(crate) replicas: Vec<String>,
    /// Service (`name.namespace`) to the time it was last wanted, in seconds since the epoch.
    #[prost(btree_map = "string, int64", tag = "3")]
    pub(crate) subscriptions: std::collections::BTreeMap<String, i64>,
    #[prost(message, optional, tag = "4")]
    pub(crate) revocation_lists: Option<RevocationLists>,
}

/// What the recovery key has to do with this agent.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StoredRecovery {
    /// SubjectPublicKeyInfo; empty until one is pinned.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    /// Number of the last bundle update that was taken, or known.
    #[prost(uint64, tag = "2")]
    pub(crate) taken: u64,
    /// SHA-256 of roots that are never trusted again.
    #[prost(bytes = "vec", repeated, tag = "3")]
    pub(crate) removed: Vec<Vec<u8>>,
}

impl Sealed for StoredRecovery {
    const NAME: &'static str = "recovery";
}

impl Sealed for StoredJoining {
    const NAME: &'static str = "joining";
}

impl Sealed for StoredCredentials {
    const NAME: &'static str = "credentials";
}

impl Sealed for StoredConfiguration {
    const NAME: &'static str = "configuration";
}

impl fmt::Debug for StoredJoining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredJoining")
            .field("token_id", &self.token_id)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StoredCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredCredentials")
            .field("trust_domain", &self.trust_domain)
            .field("workloads", &self.workloads.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StoredSvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSvid")
            .field("certificates", &self.chain.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for StoredConfiguration {
    // The snapshot holds the key of decision ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredConfiguration")
            .field("replicas", &self.replicas)
            .field("subscriptions", &self.subscriptions)
            .finish_non_exhaustive()
    }
}
