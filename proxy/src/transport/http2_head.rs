//! The head of a request as HTTP/2 has it, from the parts that were checked.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Version};

use super::failure::Failure;
use crate::failure::Reason;

/// # Errors
/// If the path is none of HTTP's.
pub(crate) fn request(
    method: &Method,
    authority: &Authority,
    path: PathAndQuery,
    fields: &HeaderMap,
    accepts_trailers: bool,
) -> Result<Request<()>, Failure> {
    let mut parts = http::uri::Parts::default();
    // What HTTP/2 makes its pseudo-header fields from.
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(path);
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = method.clone();
    *request.uri_mut() = Uri::from_parts(parts).map_err(bad_request)?;
    *request.headers_mut() = fields.clone();
    if accepts_trailers {
        let trailers = HeaderValue::from_static("trailers");
        request.headers_mut().insert(header::TE, trailers);
    }
    Ok(request)
}

/// The target of a request whose path was judged.
///
/// # Errors
/// If the path is none of HTTP's.
pub(crate) fn path_and_query(path: &str, query: Option<&str>) -> Result<PathAndQuery, Failure> {
    let text = match query {
        Some(query) => [path, "?", query].concat(),
        None => path.to_owned(),
    };
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(text)).map_err(bad_request)
}

fn bad_request(error: impl Into<http::Error>) -> Failure {
    Failure::new(Reason::BadRequest, error.into().to_string())
}
