//! The next hop of a request: one connection that takes requests and gives responses.
//!
//! What is spoken on it is its own matter: HTTP/2 between proxies and to applications that speak
//! it, HTTP/1 to the others. An attempt that fails says how far it got, so that the caller knows
//! whether another may be made.

use http::{HeaderMap, Method, StatusCode};

use super::body::{Incoming, Upload};
use super::failure::Failure;
use super::fault::Fault;
use super::http2_client::Lease;
use super::pipe::{Broken, Pipe};
use super::steering::Carried;
use crate::failure::Reason;
use crate::head::REASON;

/// A response's head, its body to come, and what is left of the upload.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Incoming,
    /// What is left of it: seldom anything.
    pub(crate) upload: Option<Box<Pipe<Upload>>>,
    /// Counts the stream on its connection, where connections carry many.
    pub(crate) lease: Option<Lease>,
    /// Keeps it part of the load of its endpoint, where endpoints are balanced.
    pub(crate) carried: Option<Carried>,
}

/// An attempt that did not yield a response.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) seen: Seen,
    pub(crate) failure: Failure,
    /// For another attempt, as far as it can begin again.
    pub(crate) upload: Upload,
}

/// How much of the request the other side can have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// No byte of it was sent.
    Nothing,
    /// It was sent, but the server promises that it did nothing for it.
    Unprocessed,
    /// It was sent on a connection that had been kept, and died before it said anything: most
    /// likely closed before the request arrived, but nobody knows.
    Unknown,
    /// It was sent, and may have been acted upon.
    Processed,
    /// Our own caller broke it off, or sent what cannot be passed on.
    Caller,
}

impl Attempt {
    pub(crate) fn unsent(failure: Failure, upload: Upload) -> Self {
        Self {
            seen: Seen::Nothing,
            failure,
            upload,
        }
    }

    /// Of a request that was sent.
    pub(crate) fn broken(fault: Fault, upload: Upload) -> Self {
        let seen = if fault.is_unprocessed() {
            Seen::Unprocessed
        } else {
            Seen::Processed
        };
        Self {
            seen,
            failure: fault.into_failure(),
            upload,
        }
    }

    /// Of an upload that our own caller broke.
    pub(crate) fn by_caller(fault: &Fault, upload: Upload) -> Self {
        let reason = match fault {
            Fault::Malformed(_) => Reason::BadRequest,
            _ => Reason::CallerReset,
        };
        Self {
            seen: Seen::Caller,
            failure: Failure::new(reason, fault.to_string()),
            upload,
        }
    }

    /// The connection was ended from outside, for this reason if any.
    pub(crate) fn because(mut self, ended: Option<Reason>) -> Self {
        if let Some(reason) = ended {
            self.failure = Failure::cut_off(reason, "the connection to the server was ended");
        }
        self
    }

    /// Whether the same request may be sent again without asking: the other side cannot have seen
    /// it, or did nothing for it.
    pub(crate) fn may_repeat(&self) -> bool {
        matches!(self.seen, Seen::Nothing | Seen::Unprocessed) && self.upload.can_begin()
    }
}

/// Whether the upload was broken by the side that it comes from.
pub(super) fn source_fault(polled: std::task::Poll<Result<(), Broken>>) -> Option<Fault> {
    match polled {
        std::task::Poll::Ready(Err(Broken::Source(fault))) => Some(fault),
        // What the upstream thinks of it, its response says.
        _ => None,
    }
}

/// Whether the other proxy has looked at nothing but the connection, and wants another one (RFC 9110
/// section 15.5.20): a leaf ended, or a root was removed, while the request was on its way.
pub(crate) fn is_turned_away(status: StatusCode, fields: &HeaderMap) -> bool {
    // Of nearly all, the status is enough.
    let is_said = || {
        let said = fields.get(REASON).map(|it| it.as_bytes());
        said == Some(Reason::PeerExpired.code().as_bytes())
    };
    status == StatusCode::MISDIRECTED_REQUEST && is_said()
}

/// RFC 9110 section 9.2.2.
pub(crate) fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(status: StatusCode, reason: Option<Reason>, expected: bool) {
        let value = reason.map(|it| (REASON, HeaderValue::from_static(it.code())));
        let fields = value.into_iter().collect();
        assert_eq!(
            is_turned_away(status, &fields),
            expected,
            "{status} {reason:?}"
        );
    }

    #[test]
    fn only_who_was_refused_for_the_connection_may_ask_again_on_another() {
        let expired = Some(Reason::PeerExpired);
        let cut_off = Failure::cut_off(Reason::PeerExpired, "").status;
        check(cut_off.unwrap(), expired, false);
        check(
            StatusCode::MISDIRECTED_REQUEST,
            Some(Reason::NoRoute),
            false,
        );
        check(StatusCode::MISDIRECTED_REQUEST, None, false);
        check(Reason::PeerExpired.status(), expired, true);
    }
}
