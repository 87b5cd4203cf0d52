//! One field of a head, with the rules that a field alone can break.
//!
//! A name is read once and kept with its kind, so that a name from a table is never parsed again.
//! It refuses what RFC 9113 sections 8.2.1 and 8.3.1 call malformed: names that are not lowercase
//! tokens, values with controls or with white space around them, pseudo-header fields that nobody
//! defined (`:protocol` too: we announce no extended CONNECT) and those that do not parse.

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, StatusCode};

/// What each field counts beside its name and value (RFC 7541 section 4.1, RFC 9113 section 6.5.2).
pub(super) const OVERHEAD: usize = 32;

/// One field of a head as it came (RFC 9113 section 8.3). Clones are cheap.
#[derive(Clone, Debug)]
pub enum Field {
    Method(Method),
    Scheme(Scheme),
    Authority(Authority),
    Path(PathAndQuery),
    Status(StatusCode),
    /// A value that came as a never-indexed literal is marked sensitive, and is sent as one again.
    Regular(HeaderName, HeaderValue),
    /// Breaks a rule of HTTP, which is named: the message is malformed, decompression goes on.
    Malformed(&'static str),
}

/// The name of a field, read.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Status,
    Regular(HeaderName),
    Malformed { rule: &'static str, octets: usize },
}

impl Name {
    pub(super) fn read(text: &[u8]) -> Self {
        let octets = text.len();
        match text {
            b":method" => Self::Method,
            b":scheme" => Self::Scheme,
            b":authority" => Self::Authority,
            b":path" => Self::Path,
            b":status" => Self::Status,
            [b':', ..] => Self::Malformed {
                rule: "a pseudo-header field that is not defined",
                octets,
            },
            _ => HeaderName::from_lowercase(text).map_or(
                Self::Malformed {
                    rule: "a field name that is not a lowercase token",
                    octets,
                },
                Self::Regular,
            ),
        }
    }

    pub(super) fn octets(&self) -> usize {
        match self {
            Self::Path => 5,
            Self::Method | Self::Scheme | Self::Status => 7,
            Self::Authority => 10,
            Self::Regular(name) => name.as_str().len(),
            Self::Malformed { octets, .. } => *octets,
        }
    }

    /// The field with this name and `value`; `sensitive` if it came as never indexed.
    pub(super) fn with(self, value: &[u8], sensitive: bool) -> Field {
        match self {
            Self::Method => Method::from_bytes(value).map_or(
                Field::Malformed("a :method that is no token"),
                Field::Method,
            ),
            Self::Scheme => scheme(value),
            Self::Authority => authority(value),
            Self::Path => path(value),
            Self::Status => StatusCode::from_bytes(value).map_or(
                Field::Malformed("a :status that is not three digits"),
                Field::Status,
            ),
            Self::Regular(name) => regular(name, value, sensitive),
            Self::Malformed { rule, .. } => Field::Malformed(rule),
        }
    }
}

/// `scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )` (RFC 3986 section 3.1).
fn scheme(value: &[u8]) -> Field {
    match Scheme::try_from(value) {
        Ok(scheme) if value.first().is_some_and(u8::is_ascii_alphabetic) => Field::Scheme(scheme),
        _ => Field::Malformed("a :scheme that is none"),
    }
}

/// `authority = host [ ":" port ]`, with nobody's name in it (RFC 9113 section 8.3.1).
fn authority(value: &[u8]) -> Field {
    if value.contains(&b'@') {
        return Field::Malformed("an :authority with userinfo");
    }
    Authority::from_maybe_shared(Bytes::copy_from_slice(value)).map_or(
        Field::Malformed("an :authority that is no host and port"),
        Field::Authority,
    )
}

/// A path with its query, or `*`; a fragment is no part of either (RFC 9113 section 8.3.1).
fn path(value: &[u8]) -> Field {
    if !matches!(value, [b'/', ..] | b"*") {
        return Field::Malformed("a :path that does not start with a slash");
    }
    match PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(value)) {
        Ok(path) if path.as_str().len() == value.len() => Field::Path(path),
        Ok(_) => Field::Malformed("a :path with a fragment"),
        Err(_) => Field::Malformed("a :path with a character that is not allowed"),
    }
}

fn regular(name: HeaderName, value: &[u8], sensitive: bool) -> Field {
    if let [b' ' | b'\t', ..] | [.., b' ' | b'\t'] = value {
        return Field::Malformed("a field value with white space around it");
    }
    let Ok(mut value) = HeaderValue::from_bytes(value) else {
        return Field::Malformed("a field value with a control character");
    };
    value.set_sensitive(sensitive);
    Field::Regular(name, value)
}
