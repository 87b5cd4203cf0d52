//! Failures of the transport, told in the mesh's vocabulary.

use std::error::Error;
use std::io;

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
}

impl Failure {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }

    /// A TCP connection that could not be made.
    pub(crate) fn connect(address: &str, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::TimedOut => Reason::ConnectTimeout,
            _ => Reason::ConnectFailed,
        };
        Self::new(reason, format!("connect to {address}: {error}"))
    }

    /// A stream to an upstream that broke.
    pub(crate) fn stream(error: &(dyn Error + 'static)) -> Self {
        Self::new(stream_reason(error), one_line(error))
    }
}

/// What a broken upstream stream means: the peer's word if it gave one, else a reset.
pub(crate) fn stream_reason(error: &(dyn Error + 'static)) -> Reason {
    match h2_error(error).and_then(h2::Error::reason) {
        Some(reason) if u32::from(reason) == POLICY_DENIED => Reason::PolicyDenied,
        _ => Reason::UpstreamReset,
    }
}

/// The server promises that it did nothing for this request (RFC 9113 sections 6.8 and 8.7): it
/// refused the stream, or left in good order before it saw it. A stream that it did see ends with
/// another error.
pub(crate) fn is_unprocessed(error: &(dyn Error + 'static)) -> bool {
    h2_error(error).is_some_and(|error| match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => true,
        Some(h2::Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
        _ => false,
    })
}

fn h2_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a h2::Error> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        (*error).source()
    })
    .find_map(|error| error.downcast_ref::<h2::Error>())
}

pub(crate) fn one_line(error: &(dyn Error + 'static)) -> String {
    runtime::exit::one_line(error)
}
