//! Whether the connection outlives the message.

use http::header::{self, HeaderMap, HeaderValue};

/// What a written head says about its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It persists, as HTTP/1.1 does unless told otherwise: nothing is said.
    Persists,
    /// `close`: this message is the last.
    Closes,
    /// `upgrade`, to (or, in an offer, to one of) these protocols.
    Upgrades(HeaderValue),
}

/// The options of all `Connection` fields that count here (RFC 9110 section 7.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub close: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
}

impl Options {
    pub(super) fn of(fields: &HeaderMap) -> Self {
        let mut options = Self::default();
        for value in fields.get_all(header::CONNECTION) {
            for option in value.as_bytes().split(|byte| *byte == b',') {
                let option = option.trim_ascii();
                options.close |= option.eq_ignore_ascii_case(b"close");
                options.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                options.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
            }
        }
        options
    }
}
