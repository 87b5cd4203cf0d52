//! The head of a request as HTTP/2 has it, from the parts that were checked.

use http::uri::Authority;
use http2::Outgoing;

use super::http1_client::Line;
use crate::head::{RequestHead, RequestTarget};

/// What two proxies, and a proxy and its application, say: TLS is between them, or is not, by
/// itself.
const SCHEME: &str = "http";

pub(super) fn of_line<'a>(line: &Line<'a>, te_trailers: bool) -> Outgoing<'a> {
    Outgoing {
        method: line.method,
        scheme: SCHEME,
        authority: line.authority.as_str(),
        path: Some(line.path),
        query: line.query,
        fields: line.fields,
        te_trailers,
    }
}

/// Path and query untouched.
pub(super) fn of_head<'a>(head: &'a RequestHead, authority: &'a Authority) -> Outgoing<'a> {
    Outgoing {
        method: head.method(),
        scheme: SCHEME,
        authority: authority.as_str(),
        path: Some(match head.target() {
            RequestTarget::Asterisk => "*",
            RequestTarget::Path(path) => path.as_str(),
        }),
        query: None,
        fields: head.fields(),
        te_trailers: head.accepts_trailers(),
    }
}
