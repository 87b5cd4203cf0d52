//! What an agent says of itself, as one value that is replaced whole.

use std::time::Duration;

use identity::{QualifiedName, SerialNumber, SpiffeId};
use serde::{Serialize, Serializer};
use time::OffsetDateTime;

/// How the agent stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AgentStatus {
    /// Absent until the agent has joined.
    pub agent_id: Option<SpiffeId>,
    /// The CA's watch stream is open.
    pub connected: bool,
    /// `host:port` of the replica that the stream goes to.
    pub ca_address: Option<String>,
    /// The revision that the agent holds.
    pub revision: Option<String>,
    /// The revision that every counted proxy decides by.
    pub acknowledged: Option<String>,
    pub identities: Vec<IdentityStatus>,
    /// How long the mesh goes on here without the CA: the shortest remaining life of a workload's
    /// leaf. Absent while none is held.
    #[serde(serialize_with = "seconds", rename = "survives_for_seconds")]
    pub survives_for: Option<Duration>,
    /// The CA's clock minus this host's, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    pub proxies: Vec<ProxyView>,
    /// What seals the cache: `key-file`.
    pub sealing: &'static str,
    /// Why the agent has no contact with the CA, and what to do about it.
    pub problem: Option<Problem>,
}

/// One identity that the agent holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IdentityStatus {
    pub spiffe_id: SpiffeId,
    pub serial: SerialNumber,
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub renews_at: OffsetDateTime,
    /// Certificates after the first, since the process started.
    pub renewals: u64,
}

/// One proxy on the mesh feed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProxyView {
    pub workload: QualifiedName,
    pub pid: Option<u32>,
    pub product: String,
    /// The revision it decides by.
    pub applied: Option<String>,
    /// The serial of the leaf it presents.
    pub leaf_serial: Option<String>,
    /// Acknowledgements wait for it; false once it has been silent too long.
    pub counted: bool,
    pub draining: bool,
    /// Application ports that are reachable around it, as `service:port`.
    pub bypassable: Vec<String>,
}

/// Something that needs the operator, or time.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Problem {
    /// Stable.
    pub code: String,
    pub message: String,
    /// What a person can do; absent when waiting is enough.
    pub next_step: Option<String>,
}

impl AgentStatus {
    /// The identity with this ID, when the agent holds it.
    pub fn identity(&self, id: &SpiffeId) -> Option<&IdentityStatus> {
        self.identities.iter().find(|held| held.spiffe_id == *id)
    }
}

#[expect(clippy::ref_option, reason = "the signature serde asks for")]
fn seconds<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(|span| span.as_secs()).serialize(serializer)
}
