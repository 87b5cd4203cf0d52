//! What the end of an attempt says: about the endpoint, to the breaker and the balancer, and
//! about the attempt, to the retry policy.
//!
//! Invariant: a refusal that is no fault of the endpoint (policy, a rate limit, a full bulkhead,
//! a caller that left) never counts towards its ejection.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use crate::failure::Reason;

/// The longest `Retry-After` that is read; more is as good as for ever.
const LONGEST: u64 = 24 * 60 * 60;

/// How an attempt ended, without what it carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The head of a response came.
    Answered {
        status: StatusCode,
        /// From a response that is nothing but a head and trailers in one.
        grpc_status: Option<u8>,
        /// What the other proxy said of it.
        reason: Option<Reason>,
        retry_after: Option<Duration>,
    },
    /// No byte of the request was sent.
    Unsent(Reason),
    /// The peer promises that it did nothing: a refused stream, or one above a GOAWAY's last id.
    Unprocessed(Reason),
    /// Sent, and broken before the head of a response.
    Broken(Reason),
    /// `perTry` ran out.
    TimedOut,
    /// Given up by the caller, or because another attempt was faster.
    Abandoned,
}

/// What an ending says about the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Good,
    Bad,
    /// Turns calls away, which is no fault but a reason to send it fewer.
    Busy(Option<Duration>),
    Unknown,
}

impl Ending {
    pub(crate) fn health(&self) -> Health {
        match *self {
            Self::Answered {
                status,
                grpc_status,
                reason,
                retry_after,
            } => answered(status, grpc_status, reason, retry_after),
            // A certificate has ended on the way, which is nobody's fault.
            Self::Unprocessed(Reason::PeerExpired) => Health::Unknown,
            Self::Unprocessed(_) => Health::Busy(None),
            Self::Unsent(reason) | Self::Broken(reason) => broken(reason),
            Self::TimedOut => Health::Bad,
            Self::Abandoned => Health::Unknown,
        }
    }

    /// Of a gRPC response: whether its trailers are to tell how it ended.
    pub(crate) fn is_undecided(&self) -> bool {
        matches!(
            self,
            Self::Answered {
                status: StatusCode::OK,
                grpc_status: None,
                reason: None,
                ..
            }
        )
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answered { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What the trailers of a gRPC response say of the endpoint (PROTOCOL-HTTP2.md): one without a
/// status was broken off.
pub(crate) fn of_trailers(grpc_status: Option<u8>) -> Health {
    match grpc_status {
        None => Health::Bad,
        Some(code) if is_grpc_failure(code) => Health::Bad,
        Some(GRPC_EXHAUSTED) => Health::Busy(None),
        Some(_) => Health::Good,
    }
}

/// What it says of the endpoint that a response was broken off for this reason.
pub(crate) fn of_broken(reason: Reason) -> Health {
    broken(reason)
}

fn answered(
    status: StatusCode,
    grpc_status: Option<u8>,
    reason: Option<Reason>,
    retry_after: Option<Duration>,
) -> Health {
    if let Some(reason) = reason {
        return refused(reason, retry_after);
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Health::Busy(retry_after);
    }
    match grpc_status {
        _ if status.is_server_error() => Health::Bad,
        Some(code) if is_grpc_failure(code) => Health::Bad,
        Some(GRPC_EXHAUSTED) => Health::Busy(retry_after),
        _ => Health::Good,
    }
}

fn refused(reason: Reason, retry_after: Option<Duration>) -> Health {
    match reason {
        Reason::BulkheadFull | Reason::RateLimited => Health::Busy(retry_after),
        Reason::PolicyDenied | Reason::PathAmbiguous | Reason::BadRequest => Health::Good,
        Reason::CallerReset | Reason::FaultInjected | Reason::UpgradeRefused => Health::Unknown,
        Reason::PeerExpired => Health::Unknown,
        // It is leaving in good order: discovery takes it out.
        Reason::Draining => Health::Busy(retry_after),
        _ => Health::Bad,
    }
}

fn broken(reason: Reason) -> Health {
    match reason {
        Reason::CallerReset | Reason::PolicyDenied | Reason::BadRequest => Health::Unknown,
        // Ours: we had no credentials, no room or no time.
        Reason::NotReady | Reason::BulkheadFull | Reason::Draining => Health::Unknown,
        _ => Health::Bad,
    }
}

const GRPC_EXHAUSTED: u8 = 8;

/// UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS (grpc/statuscodes.md): what a
/// server says when it, and not the call, is at fault.
fn is_grpc_failure(code: u8) -> bool {
    matches!(code, 2 | 4 | 13 | 14 | 15)
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3), or gRPC's `grpc-retry-pushback-ms`. The
/// form with a date is not read: it would need the peer's clock to be ours.
pub(crate) fn retry_after(fields: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| {
        let mut values = fields.get_all(name).iter();
        let text = values.next()?.to_str().ok()?;
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let alone = values.next().is_none();
        (digits && alone).then(|| text.parse().unwrap_or(u64::MAX))
    };
    let pushback = number("grpc-retry-pushback-ms").map(|it| it.min(LONGEST * 1000));
    pushback.map(Duration::from_millis).or_else(|| {
        let seconds = number(RETRY_AFTER.as_str())?;
        Some(Duration::from_secs(seconds.min(LONGEST)))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn answer(status: u16) -> Ending {
        Ending::Answered {
            status: StatusCode::from_u16(status).unwrap(),
            grpc_status: None,
            reason: None,
            retry_after: None,
        }
    }

    fn said(reason: Reason) -> Ending {
        Ending::Answered {
            status: reason.status(),
            grpc_status: None,
            reason: Some(reason),
            retry_after: None,
        }
    }

    fn grpc(code: u8) -> Ending {
        Ending::Answered {
            status: StatusCode::OK,
            grpc_status: Some(code),
            reason: None,
            retry_after: None,
        }
    }

    #[test]
    fn what_the_endpoint_is_to_blame_for_is_bad() {
        for ending in [
            answer(500),
            answer(503),
            said(Reason::UpstreamReset),
            said(Reason::ConnectFailed),
            grpc(14),
            Ending::TimedOut,
            Ending::Unsent(Reason::ConnectTimeout),
            Ending::Unsent(Reason::TlsIdentityMismatch),
            Ending::Broken(Reason::UpstreamReset),
        ] {
            assert_eq!(ending.health(), Health::Bad, "{ending:?}");
        }
    }

    #[test]
    fn a_refusal_is_no_fault_of_the_endpoint() {
        for ending in [
            said(Reason::PolicyDenied),
            answer(403),
            answer(404),
            grpc(7),
            grpc(5),
        ] {
            assert_eq!(ending.health(), Health::Good, "{ending:?}");
        }
        for ending in [
            answer(429),
            said(Reason::BulkheadFull),
            said(Reason::RateLimited),
            grpc(8),
        ] {
            assert_eq!(ending.health(), Health::Busy(None), "{ending:?}");
        }
        for ending in [Ending::Abandoned, Ending::Unsent(Reason::NotReady)] {
            assert_eq!(ending.health(), Health::Unknown, "{ending:?}");
        }
    }

    #[test]
    fn trailers_say_what_the_head_left_open() {
        for (status, health) in [
            (None, Health::Bad),
            (Some(14), Health::Bad),
            (Some(8), Health::Busy(None)),
            (Some(5), Health::Good),
            (Some(0), Health::Good),
        ] {
            assert_eq!(of_trailers(status), health, "{status:?}");
        }
        assert!(answer(200).is_undecided());
        assert!(!answer(503).is_undecided() && !grpc(0).is_undecided());
    }

    #[test]
    fn a_retry_after_that_is_no_number_is_not_read() {
        for text in ["", "-1", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            let mut fields = HeaderMap::new();
            fields.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(retry_after(&fields), None, "{text}");
        }
    }

    #[test]
    fn grpc_asks_in_milliseconds() {
        let mut fields = HeaderMap::new();
        fields.insert(RETRY_AFTER, HeaderValue::from_static("3"));
        assert_eq!(retry_after(&fields), Some(Duration::from_secs(3)));
        fields.insert("grpc-retry-pushback-ms", HeaderValue::from_static("40"));
        assert_eq!(retry_after(&fields), Some(Duration::from_millis(40)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn no_number_of_seconds_overflows(digits in "[0-9]{1,40}") {
            let mut fields = HeaderMap::new();
            fields.insert(RETRY_AFTER, HeaderValue::from_str(&digits).unwrap());
            prop_assert!(retry_after(&fields).unwrap() <= Duration::from_secs(LONGEST));
        }
    }
}
