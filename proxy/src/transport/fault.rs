//! A stream that broke while a message was on it.

use std::fmt;
use std::io;

use super::failure::{Failure, POLICY_DENIED};
use crate::failure::Reason;
use crate::http1::{Malformed, Unsendable};

/// What broke.
#[derive(Debug)]
pub(crate) enum Fault {
    Http2(h2::Error),
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
    pub(crate) fn code(&self) -> h2::Reason {
        match self {
            Self::Http2(error) => error.reason().unwrap_or(h2::Reason::INTERNAL_ERROR),
            _ => h2::Reason::INTERNAL_ERROR,
        }
    }

    /// The server promises that it did nothing for this request (RFC 9113 sections 6.8 and 8.7):
    /// it refused the stream, or left in good order before it saw it. A stream that it did see
    /// ends with another error.
    pub(crate) fn is_unprocessed(&self) -> bool {
        let Self::Http2(error) = self else {
            return false;
        };
        match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) => true,
            Some(h2::Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
            _ => false,
        }
    }

    pub(crate) fn into_failure(self) -> Failure {
        Failure::new(self.reason(), self.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http2(error) => f.write_str(&runtime::exit::one_line(error)),
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

impl From<h2::Error> for Fault {
    fn from(error: h2::Error) -> Self {
        Self::Http2(error)
    }
}

fn code(error: &h2::Error) -> Option<u32> {
    error.reason().map(u32::from)
}
