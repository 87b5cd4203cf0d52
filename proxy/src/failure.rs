//! Why a call failed: the one vocabulary of headers, logs and metrics.
//!
//! A reason is a stable word. Nothing else in the proxy invents one, and a reason that a peer
//! sent is believed only if it is one of these.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Why a call, a connection or a stream did not go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The Host names no Service of the mesh.
    NoRoute,
    /// The Service is known, but nobody announced an endpoint of it.
    NoEndpoints,
    ConnectTimeout,
    ConnectFailed,
    /// The server holds no identity of the Service that was called.
    TlsIdentityMismatch,
    /// The TLS handshake failed for another cause than the identity.
    TlsHandshake,
    PolicyDenied,
    PathAmbiguous,
    UpstreamReset,
    /// The caller went away before the end.
    CallerReset,
    Deadline,
    Draining,
    /// The peer's certificate expired on a connection that is still open.
    PeerExpired,
    CallerNotLocal,
    /// Somebody came past the mesh, without an identity.
    PlaintextRefused,
    UpgradeRefused,
    BadRequest,
    /// As many calls are open or wait as the port or the caller may have.
    BulkheadFull,
    /// The caller, or all callers together, ask more often than the port permits.
    RateLimited,
    /// Every endpoint is ejected, and the breaker may eject them all.
    BreakerOpen,
    /// A Route asks that this call fail.
    FaultInjected,
    /// Credentials or policy have not arrived yet.
    NotReady,
    /// The deny-list in force names an identity, a certificate or an authority of one of the ends.
    Revoked,
}

/// A word outside the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a reason of the mesh's vocabulary")]
pub struct UnknownReason;

impl Reason {
    pub const ALL: [Self; 23] = [
        Self::NoRoute,
        Self::NoEndpoints,
        Self::ConnectTimeout,
        Self::ConnectFailed,
        Self::TlsIdentityMismatch,
        Self::TlsHandshake,
        Self::PolicyDenied,
        Self::PathAmbiguous,
        Self::UpstreamReset,
        Self::CallerReset,
        Self::Deadline,
        Self::Draining,
        Self::PeerExpired,
        Self::CallerNotLocal,
        Self::PlaintextRefused,
        Self::UpgradeRefused,
        Self::BadRequest,
        Self::BulkheadFull,
        Self::RateLimited,
        Self::BreakerOpen,
        Self::FaultInjected,
        Self::NotReady,
        Self::Revoked,
    ];

    pub fn code(self) -> &'static str {
        match self {
            Self::NoRoute => "no-route",
            Self::NoEndpoints => "no-endpoints",
            Self::ConnectTimeout => "connect-timeout",
            Self::ConnectFailed => "connect-failed",
            Self::TlsIdentityMismatch => "tls-identity-mismatch",
            Self::TlsHandshake => "tls-handshake",
            Self::PolicyDenied => "policy-denied",
            Self::PathAmbiguous => "path-ambiguous",
            Self::UpstreamReset => "upstream-reset",
            Self::CallerReset => "caller-reset",
            Self::Deadline => "deadline",
            Self::Draining => "draining",
            Self::PeerExpired => "peer-expired",
            Self::CallerNotLocal => "caller-not-local",
            Self::PlaintextRefused => "plaintext-refused",
            Self::UpgradeRefused => "upgrade-refused",
            Self::BadRequest => "bad-request",
            Self::BulkheadFull => "bulkhead-full",
            Self::RateLimited => "rate-limited",
            Self::BreakerOpen => "breaker-open",
            Self::FaultInjected => "fault-injected",
            Self::NotReady => "not-ready",
            Self::Revoked => "revoked",
        }
    }

    /// The HTTP status that this reason is told with.
    pub fn status(self) -> http::StatusCode {
        use http::StatusCode as Status;
        match self {
            Self::NoRoute | Self::ConnectFailed | Self::TlsIdentityMismatch => Status::BAD_GATEWAY,
            Self::TlsHandshake | Self::UpstreamReset | Self::CallerReset => Status::BAD_GATEWAY,
            Self::NoEndpoints | Self::Draining | Self::NotReady => Status::SERVICE_UNAVAILABLE,
            Self::BulkheadFull | Self::BreakerOpen | Self::FaultInjected => {
                Status::SERVICE_UNAVAILABLE
            }
            Self::RateLimited => Status::TOO_MANY_REQUESTS,
            Self::ConnectTimeout | Self::Deadline => Status::GATEWAY_TIMEOUT,
            Self::PolicyDenied | Self::CallerNotLocal | Self::PlaintextRefused | Self::Revoked => {
                Status::FORBIDDEN
            }
            Self::PathAmbiguous | Self::BadRequest => Status::BAD_REQUEST,
            Self::PeerExpired => Status::MISDIRECTED_REQUEST,
            Self::UpgradeRefused => Status::NOT_IMPLEMENTED,
        }
    }

    /// The gRPC status that this reason is told with (grpc/statuscodes.md).
    pub fn grpc_status(self) -> u8 {
        match self {
            Self::PolicyDenied | Self::CallerNotLocal | Self::PlaintextRefused | Self::Revoked => 7,
            Self::PathAmbiguous | Self::BadRequest => 3,
            Self::UpgradeRefused => 12,
            Self::ConnectTimeout | Self::Deadline => 4,
            Self::BulkheadFull | Self::RateLimited => 8,
            _ => 14,
        }
    }

    /// Whether the same call may well pass a little later, so that `Retry-After` says when
    /// (RFC 9110 section 10.2.3).
    pub fn passes_later(self) -> bool {
        matches!(
            self,
            Self::BulkheadFull
                | Self::RateLimited
                | Self::BreakerOpen
                | Self::Draining
                | Self::NotReady
        )
    }

    /// What the caller can do about it.
    pub fn next_step(self) -> &'static str {
        match self {
            Self::NoRoute => {
                "call a service of the mesh as <service>.<namespace>.mesh.internal; \
                 `countersign get services` lists them. A host outside needs an External"
            }
            Self::NoEndpoints => {
                "no proxy announces this service: start the workload, or see `countersign status`"
            }
            Self::ConnectTimeout | Self::ConnectFailed => {
                "the endpoint does not answer: see whether its host and proxy run"
            }
            Self::TlsIdentityMismatch => {
                "whoever listens there is not a workload of the service: check the Service's \
                 `workloads` and its endpoints"
            }
            Self::TlsHandshake => "see the proxies' logs for the certificate rule that failed",
            Self::PolicyDenied => "`countersign explain` names the rule that is missing",
            Self::PathAmbiguous => "send the path in its one unambiguous form",
            Self::UpstreamReset => "the application broke the call off: see its log",
            Self::CallerReset => "the caller went away",
            Self::Deadline => "the call took longer than the proxy's limits",
            Self::Draining => "this proxy is shutting down: try again",
            Self::PeerExpired => "connect again with a live certificate",
            Self::CallerNotLocal => "only the uids in `allowed_uids` may call through this proxy",
            Self::PlaintextRefused => {
                "call the Service by its name, from a workload that has a proxy of its own"
            }
            Self::UpgradeRefused => {
                "upgrade HTTP/1.1 requests, to a Service of protocol `http`, and to no HTTP"
            }
            Self::BadRequest => "send a request that RFC 9112 and RFC 9113 allow",
            Self::BulkheadFull => {
                "as many calls are open as may be: try again later, or raise the port's `bulkhead`"
            }
            Self::RateLimited => {
                "ask less often, wait as long as Retry-After says, or raise the port's `rateLimit`"
            }
            Self::BreakerOpen => {
                "all endpoints failed too often: see their logs; one call at a time tries them again"
            }
            Self::FaultInjected => "a Route's `fault` asks for this failure: remove it when done",
            Self::NotReady => "credentials or policy have not arrived from the agent yet",
            Self::Revoked => {
                "`countersign revocation list` says who was revoked and why; an administrator can \
                 lift it, and a certificate that was revoked alone is replaced by the next renewal"
            }
        }
    }
}

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.code() == text)
            .ok_or(UnknownReason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_outside_the_vocabulary_is_refused() {
        assert_eq!("allowed".parse::<Reason>(), Err(UnknownReason));
        assert_eq!("POLICY-DENIED".parse::<Reason>(), Err(UnknownReason));
    }

    #[test]
    fn a_limit_is_told_from_a_failure_in_http_and_in_grpc() {
        assert_eq!(Reason::RateLimited.status(), 429);
        assert_eq!(Reason::RateLimited.grpc_status(), 8);
        assert_eq!(Reason::BulkheadFull.status(), 503);
        assert_eq!(Reason::BulkheadFull.grpc_status(), 8);
        assert_eq!(Reason::BreakerOpen.grpc_status(), 14);
        assert!(!Reason::FaultInjected.passes_later());
    }

    #[test]
    fn every_reason_has_a_word_of_its_own_that_parses_back() {
        for reason in Reason::ALL {
            assert_eq!(reason.code().parse(), Ok(reason));
        }
    }

    #[test]
    fn reasons_are_listed_in_their_order_for_they_are_counted_by_place() {
        let places = Reason::ALL.map(|reason| reason as usize);
        assert!(places.into_iter().eq(0..Reason::ALL.len()));
    }
}
