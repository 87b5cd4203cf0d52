//! What instances say to one another, as JSON: the one below asks, the one above answers.
//!
//! Unverified: `followed` makes evidence of it.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

/// The roots of the trust domain, and where each is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DownstreamBundle)]
pub(crate) struct BundleAbove {
    pub(crate) trust_domain: String,
    /// Grows with the content.
    pub(crate) sequence: u64,
    pub(crate) roots: Vec<RootAbove>,
    /// Of the authorities of the instance that asks. One of an older build names none.
    #[serde(default)]
    pub(crate) revoked_authorities: Vec<RevokedAbove>,
}

/// An authority of the instance that asks is revoked: what leads to it is refused above.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DownstreamRevokedAuthority)]
pub(crate) struct RevokedAbove {
    /// SHA-256 of its key, in hex.
    pub(crate) key_id: String,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) until: OffsetDateTime,
}

/// A root that is trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DownstreamRoot)]
pub(crate) struct RootAbove {
    /// DER, in base64.
    pub(crate) certificate: String,
    pub(crate) phase: PhaseAbove,
    /// Absent unless somebody else may hold its key.
    pub(crate) compromised: Option<CompromisedAbove>,
}

/// Where a root is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = DownstreamRootPhase)]
pub(crate) enum PhaseAbove {
    /// It signs nothing yet.
    Published,
    /// It signs; one of them does.
    Active,
    /// It is trusted for the sake of what it has signed.
    Draining,
}

/// Somebody else may hold the key of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DownstreamCompromised)]
pub(crate) struct CompromisedAbove {
    /// Then it is removed at the latest.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) until: OffsetDateTime,
    /// What leads to it is being replaced.
    pub(crate) replacing: bool,
}

/// Asks for an authority.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct AuthorityRequest {
    /// A PKCS#10 request (RFC 2986): DER, in base64. Its key and the proof of its possession count,
    /// and nothing else of it.
    pub(crate) csr: String,
}

/// An authority, and what leads to its root.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct AuthorityAbove {
    /// DER, in base64; each signed by the next, the root last.
    pub(crate) certificates: Vec<String>,
}

/// What the instance below follows, with every live agent of its own.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct Followed {
    /// Of the bundle.
    pub(crate) sequence: u64,
}
