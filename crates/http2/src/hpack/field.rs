//! One field of a head, with the rules that a field alone can break.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, StatusCode};

/// One field of a head as it came (RFC 9113 section 8.3). Clones are cheap.
#[derive(Clone, Debug)]
pub enum Field {
    Method(Method),
    Scheme(Scheme),
    Authority(Authority),
    Path(PathAndQuery),
    Status(StatusCode),
    Regular(HeaderName, HeaderValue),
    /// Breaks a rule of HTTP, which is named: the message is malformed, decompression goes on.
    Malformed(&'static str),
}
