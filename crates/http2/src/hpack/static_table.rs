//! The static table (RFC 7541 appendix A), its fields read when this is compiled.
//!
//! The one entry that is no field of any message is `:authority` with an empty value.

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::field::{Field, Name, OVERHEAD};

pub(super) const LENGTH: usize = 61;

/// A field in either table.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) field: Field,
    /// As RFC 7541 section 4.1 counts.
    pub(super) size: usize,
}

/// The entry at an index from 1 to 61.
#[inline]
pub(super) fn get(index: usize) -> Option<&'static Entry> {
    ENTRIES.get(index.checked_sub(1)?)
}

/// The name at an index from 1 to 61.
pub(super) fn name(index: usize) -> Option<&'static str> {
    NAMES.get(index.checked_sub(1)?).copied()
}

/// The lowest index that has this name.
pub(super) fn find(name: &str) -> Option<usize> {
    NAMES
        .iter()
        .position(|known| *known == name)
        .map(|place| place + 1)
}

macro_rules! tables {
    ({$($name:literal $value:literal $kind:expr, $field:expr;)*} {$($regular:literal $text:literal)*}) => {
        static ENTRIES: [Entry; LENGTH] = [
            $(Entry { name: $kind, field: $field, size: $name.len() + $value.len() + OVERHEAD },)*
            $(regular($regular, $text),)*
        ];
        static NAMES: [&str; LENGTH] = [$($name,)* $($regular,)*];
    };
}

tables! {{
    ":authority" "" Name::Authority, Field::Malformed("an :authority that is no host and port");
    ":method" "GET" Name::Method, Field::Method(Method::GET);
    ":method" "POST" Name::Method, Field::Method(Method::POST);
    ":path" "/" Name::Path, Field::Path(PathAndQuery::from_static("/"));
    ":path" "/index.html" Name::Path, Field::Path(PathAndQuery::from_static("/index.html"));
    ":scheme" "http" Name::Scheme, Field::Scheme(Scheme::HTTP);
    ":scheme" "https" Name::Scheme, Field::Scheme(Scheme::HTTPS);
    ":status" "200" Name::Status, Field::Status(StatusCode::OK);
    ":status" "204" Name::Status, Field::Status(StatusCode::NO_CONTENT);
    ":status" "206" Name::Status, Field::Status(StatusCode::PARTIAL_CONTENT);
    ":status" "304" Name::Status, Field::Status(StatusCode::NOT_MODIFIED);
    ":status" "400" Name::Status, Field::Status(StatusCode::BAD_REQUEST);
    ":status" "404" Name::Status, Field::Status(StatusCode::NOT_FOUND);
    ":status" "500" Name::Status, Field::Status(StatusCode::INTERNAL_SERVER_ERROR);
} {
    "accept-charset" ""
    "accept-encoding" "gzip, deflate"
    "accept-language" ""
    "accept-ranges" ""
    "accept" ""
    "access-control-allow-origin" ""
    "age" ""
    "allow" ""
    "authorization" ""
    "cache-control" ""
    "content-disposition" ""
    "content-encoding" ""
    "content-language" ""
    "content-length" ""
    "content-location" ""
    "content-range" ""
    "content-type" ""
    "cookie" ""
    "date" ""
    "etag" ""
    "expect" ""
    "expires" ""
    "from" ""
    "host" ""
    "if-match" ""
    "if-modified-since" ""
    "if-none-match" ""
    "if-range" ""
    "if-unmodified-since" ""
    "last-modified" ""
    "link" ""
    "location" ""
    "max-forwards" ""
    "proxy-authenticate" ""
    "proxy-authorization" ""
    "range" ""
    "referer" ""
    "refresh" ""
    "retry-after" ""
    "server" ""
    "set-cookie" ""
    "strict-transport-security" ""
    "transfer-encoding" ""
    "user-agent" ""
    "vary" ""
    "via" ""
    "www-authenticate" ""
}}

const fn regular(name: &'static str, value: &'static str) -> Entry {
    Entry {
        name: Name::Regular(HeaderName::from_static(name)),
        field: Field::Regular(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        ),
        size: name.len() + value.len() + OVERHEAD,
    }
}
