//! What is remembered of one call or connection, written when it has ended.
//!
//! Identities appear only where mutual TLS proved them. A record holds no header value, no
//! query and no body.

use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use crate::failure::Reason;

/// One HTTP request or TCP connection, as the access log and `Proxy::calls` have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CallRecord {
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub direction: Direction,
    /// SPIFFE ID of the caller.
    pub source: String,
    /// `namespace/service:port`.
    pub target: String,
    /// Absent for TCP.
    pub method: Option<String>,
    /// The canonical path where one was judged, else as received; without the query.
    pub path: Option<String>,
    /// HTTP status sent to the caller.
    pub status: Option<u16>,
    pub verdict: Verdict,
    /// The rule that allowed it, as `Policy ns/name#id`; only the receiving proxy knows.
    pub rule: Option<String>,
    pub reason: Option<Reason>,
    /// What exactly was wrong, for people.
    pub detail: Option<String>,
    pub decision_id: Option<String>,
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// Body bytes from the caller.
    pub bytes_in: u64,
    /// Body bytes to the caller.
    pub bytes_out: u64,
    pub protocol: &'static str,
    /// Further endpoints that were tried before this outcome.
    pub retries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// What became of the call in the eyes of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allowed,
    /// Policy said no, here or at the peer.
    Denied,
    /// Permitted, or never judged, and broken for another cause.
    Failed,
}

impl Verdict {
    /// The verdict that a reason implies; none is success.
    pub fn of(reason: Option<Reason>) -> Self {
        match reason {
            None => Self::Allowed,
            Some(Reason::PolicyDenied | Reason::PathAmbiguous | Reason::CallerNotLocal) => {
                Self::Denied
            }
            Some(_) => Self::Failed,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

fn seconds<S: serde::Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.as_secs_f64())
}
