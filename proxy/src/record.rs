//! What is remembered of one call or connection, told when it has ended.
//!
//! Identities appear only where mutual TLS proved them. A record holds no header value, no
//! query and no body. It is built only if somebody listens; counts are kept in any case.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use policy::DecisionId;
use time::OffsetDateTime;

use crate::failure::Reason;
use crate::trace_context::{SpanId, TraceId, TraceState};

mod fields;

/// One HTTP request or TCP connection, as the access log, a tap and `Proxy::calls` have it.
///
/// Serialized, its fields have the names of OpenTelemetry's semantic conventions where there is
/// one; `docs/observability.md` lists them.
#[derive(Clone, Debug, PartialEq)]
pub struct CallRecord {
    /// When it began.
    pub at: OffsetDateTime,
    pub direction: Direction,
    /// SPIFFE ID of the caller; empty before the first credentials.
    pub source: Arc<str>,
    /// `namespace/service:port`, or `unknown` for a call that names no Service.
    pub target: Arc<str>,
    pub protocol: NetworkProtocol,
    /// Absent for TCP.
    pub method: Option<Method>,
    /// The canonical path where one was judged, else as received; without the query. Absent for a
    /// call that began before anybody listened, and was not judged here.
    pub path: Option<String>,
    /// HTTP status sent to the caller.
    pub status: Option<u16>,
    pub verdict: Verdict,
    /// The rule that allowed it, as `Policy ns/name#id`; only the receiving proxy knows.
    pub rule: Option<String>,
    pub reason: Option<Reason>,
    /// What exactly was wrong, for people.
    pub detail: Option<String>,
    pub decision_id: Option<DecisionId>,
    /// The trace that it belongs to, if the caller or this proxy began one.
    pub trace: Option<TraceLink>,
    /// To the last byte.
    pub duration: Duration,
    /// Of it, from the first attempt to reach the upstream to the head of its answer.
    pub upstream_duration: Option<Duration>,
    /// Body bytes from the caller.
    pub bytes_in: u64,
    /// Body bytes to the caller.
    pub bytes_out: u64,
    /// Further attempts that were made before this outcome.
    pub retries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    Inbound,
    Outbound,
}

/// A call's place in a trace (W3C Trace Context).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceLink {
    pub trace: TraceId,
    /// This hop's own span; absent where none is recorded.
    pub span: Option<SpanId>,
    /// The caller's.
    pub parent: Option<SpanId>,
    pub flags: u8,
    pub state: Option<TraceState>,
}

/// What the caller spoke with this proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NetworkProtocol {
    Http1,
    Http2,
    Tcp,
}

/// What became of the call in the eyes of the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    Allowed,
    /// Policy said no, here or at the peer.
    Denied,
    /// Permitted, or never judged, and broken for another cause.
    Failed,
}

impl Direction {
    pub const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl NetworkProtocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http/1.1",
            Self::Http2 => "http/2",
            Self::Tcp => "tcp",
        }
    }

    /// `network.protocol.name` and `network.protocol.version` of the semantic conventions.
    pub(crate) fn name_and_version(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Http1 => ("http", Some("1.1")),
            Self::Http2 => ("http", Some("2")),
            Self::Tcp => ("tcp", None),
        }
    }
}

impl Verdict {
    pub(crate) const ALL: [Self; 3] = [Self::Allowed, Self::Denied, Self::Failed];

    /// The verdict that a reason implies; none is success.
    pub fn of(reason: Option<Reason>) -> Self {
        match reason {
            None => Self::Allowed,
            Some(
                Reason::PolicyDenied
                | Reason::PathAmbiguous
                | Reason::CallerNotLocal
                | Reason::PlaintextRefused
                | Reason::Revoked,
            ) => Self::Denied,
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

#[cfg(test)]
pub(crate) mod tests {
    use time::macros::datetime;

    use super::*;

    /// A permitted call of `shop/checkout`.
    pub(crate) fn record() -> CallRecord {
        CallRecord {
            at: datetime!(2026-01-02 03:04:05.678 UTC),
            direction: Direction::Inbound,
            source: "spiffe://mesh.test/ns/shop/sa/checkout".into(),
            target: "shop/orders:http".into(),
            protocol: NetworkProtocol::Http2,
            method: Some(Method::GET),
            path: Some("/v1/orders".to_owned()),
            status: Some(200),
            verdict: Verdict::Allowed,
            rule: Some("Policy shop/orders#checkout".to_owned()),
            reason: None,
            detail: None,
            decision_id: Some("00112233445566778899aabbccddeeff".parse().unwrap()),
            trace: None,
            duration: Duration::from_micros(1500),
            upstream_duration: Some(Duration::from_micros(1200)),
            bytes_in: 0,
            bytes_out: 2,
            retries: 0,
        }
    }

    #[test]
    fn what_is_unknown_is_left_out_of_the_json() {
        let json = serde_json::to_value(record()).unwrap();
        for name in ["error.type", "trace_id", "span_id", "countersign.detail"] {
            assert_eq!(json.get(name), None, "{name}");
        }
    }

    #[test]
    fn fields_have_the_names_of_the_semantic_conventions() {
        let json = serde_json::to_value(CallRecord {
            status: Some(403),
            reason: Some(Reason::PolicyDenied),
            verdict: Verdict::Denied,
            ..record()
        })
        .unwrap();
        for (name, value) in [
            ("timestamp", serde_json::json!("2026-01-02T03:04:05.678Z")),
            ("http.request.method", "GET".into()),
            ("http.response.status_code", 403.into()),
            ("url.path", "/v1/orders".into()),
            ("network.protocol.version", "2".into()),
            ("error.type", "policy-denied".into()),
            ("http.response.body.size", 2.into()),
            (
                "countersign.source",
                "spiffe://mesh.test/ns/shop/sa/checkout".into(),
            ),
            ("duration", 0.0015.into()),
        ] {
            assert_eq!(json[name], value, "{name}");
        }
    }
}
