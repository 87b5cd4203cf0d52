//! A stream that broke while a message was on it.

use std::fmt;
use std::io;

use super::failure::{Failure, POLICY_DENIED};
use crate::failure::Reason;
use crate::http1::{Malformed, Unsendable};

/// What broke.
#[derive(Debug)]
pub(crate) enum Fault {
    Http2(http2::Error),
    Io(io::Error),
    /// The other side broke a rule of HTTP/1.
    Malformed(Malformed),
    /// The message cannot be said in HTTP/1.
    Unsendable(Unsendable),
    /// The other side ended the connection where a message was expected.
    Closed,
    /// The other side goes on with a protocol that nobody asked it for.
    NotAsked,
}

impl Fault {
    /// What it means of an upstream: the peer's word if it gave one, else a reset.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Http2(error) if code(error) == Some(POLICY_DENIED) => Reason::PolicyDenied,
            _ => Reason::UpstreamReset,
        }
    }

    /// The HTTP/2 code that tells the next hop of it (RFC 9113 section 7).
    pub(crate) fn code(&self) -> http2::Reason {
        match self {
            Self::Http2(error) => error.reason().unwrap_or(http2::Reason::INTERNAL_ERROR),
            _ => http2::Reason::INTERNAL_ERROR,
        }
    }

    /// The server promises that it did nothing for this request (RFC 9113 sections 6.8 and 8.7):
    /// it refused the stream, or left in good order before it saw it. A stream that it did see
    /// ends with another error.
    pub(crate) fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Http2(error) if error.is_unprocessed())
    }

    pub(crate) fn into_failure(self) -> Failure {
        Failure::new(self.reason(), self.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http2(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Malformed(rule) => rule.fmt(f),
            Self::Unsendable(rule) => rule.fmt(f),
            Self::Closed => f.write_str("the connection was closed"),
            Self::NotAsked => f.write_str("a 101 to a protocol that was not asked for"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for Fault {
    fn from(rule: Malformed) -> Self {
        Self::Malformed(rule)
    }
}

impl From<Unsendable> for Fault {
    fn from(rule: Unsendable) -> Self {
        Self::Unsendable(rule)
    }
}

impl From<http2::Error> for Fault {
    fn from(error: http2::Error) -> Self {
        Self::Http2(error)
    }
}

fn code(error: &http2::Error) -> Option<u32> {
    error.reason().map(http2::Reason::code)
}
