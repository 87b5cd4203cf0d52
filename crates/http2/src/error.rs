//! Why a stream or a connection ended (RFC 9113 section 7).

use std::fmt;

/// An error code. Any number may come from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(u32);

impl Reason {
    pub const NO_ERROR: Self = Self(0);
    pub const PROTOCOL_ERROR: Self = Self(1);
    pub const INTERNAL_ERROR: Self = Self(2);
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    pub const SETTINGS_TIMEOUT: Self = Self(4);
    pub const STREAM_CLOSED: Self = Self(5);
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    pub const REFUSED_STREAM: Self = Self(7);
    pub const CANCEL: Self = Self(8);
    pub const COMPRESSION_ERROR: Self = Self(9);
    pub const CONNECT_ERROR: Self = Self(10);
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
    pub const INADEQUATE_SECURITY: Self = Self(12);
    pub const HTTP_1_1_REQUIRED: Self = Self(13);

    #[must_use]
    pub const fn code(self) -> u32 {
        self.0
    }
}

impl From<u32> for Reason {
    fn from(code: u32) -> Self {
        Self(code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match usize::try_from(self.0).ok().and_then(|at| NAMES.get(at)) {
            Some(name) => f.write_str(name),
            None => write!(f, "code {}", self.0),
        }
    }
}

/// What ended a stream, or the whole connection and with it the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer reset the stream.
    #[error("the peer reset the stream: {0}")]
    Reset(Reason),
    /// We reset the stream: the peer broke a rule on it.
    #[error("the stream was reset, {1}: {0}")]
    Refused(Reason, &'static str),
    /// The peer leaves, and promises that it did nothing for this stream.
    #[error("the peer left before it took the stream: {0}")]
    GoneAway(Reason),
    /// We ended the connection: the peer broke a rule of it.
    #[error("the connection was ended, {1}: {0}")]
    Ended(Reason, &'static str),
    /// The connection broke, or was closed while the stream was open.
    #[error("the connection was closed")]
    Closed,
}

impl Error {
    /// The code that goes with it, if there is one.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Reset(reason) | Self::Refused(reason, _) => Some(reason),
            Self::GoneAway(reason) | Self::Ended(reason, _) => Some(reason),
            Self::Closed => None,
        }
    }

    /// Whether the peer promises that it did nothing for the request (RFC 9113 section 8.7).
    #[must_use]
    pub const fn is_unprocessed(self) -> bool {
        match self {
            Self::Reset(reason) => reason.code() == Reason::REFUSED_STREAM.code(),
            Self::GoneAway(_) => true,
            Self::Refused(..) | Self::Ended(..) | Self::Closed => false,
        }
    }
}
