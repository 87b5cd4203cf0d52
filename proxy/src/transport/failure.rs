//! Failures of the transport, told in the mesh's vocabulary.

use std::io;
use std::time::Duration;

use http::StatusCode;

use crate::failure::Reason;

/// Between our proxies, the HTTP/2 code that ends a stream which policy no longer permits.
/// Private: other peers treat an unknown code as INTERNAL_ERROR (RFC 9113 section 7).
pub(crate) const POLICY_DENIED: u32 = 0x4353_0001;

/// A step towards the other side that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    /// For people.
    pub(crate) detail: String,
    /// In place of the reason's own.
    pub(crate) status: Option<StatusCode>,
    /// When the caller may come back, where that is known.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            status: None,
            retry_after: None,
        }
    }

    /// What was ended while the other side may have acted upon it. Nobody may take that for 421,
    /// after which any request is sent again (RFC 9110 section 15.5.20).
    pub(crate) fn cut_off(reason: Reason, detail: impl Into<String>) -> Self {
        let failure = Self::new(reason, detail);
        match reason {
            Reason::PeerExpired => failure.with_status(StatusCode::BAD_GATEWAY),
            _ => failure,
        }
    }

    /// Nobody has looked at the call itself: on another connection it may well pass.
    pub(crate) fn is_for_the_connection(&self) -> bool {
        self.reason == Reason::PeerExpired && self.status.is_none()
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// A TCP connection that could not be made.
    pub(crate) fn connect(address: &str, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::TimedOut => Reason::ConnectTimeout,
            _ => Reason::ConnectFailed,
        };
        Self::new(reason, format!("connect to {address}: {error}"))
    }
}
