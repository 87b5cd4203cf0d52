//! Heads: from fields to a request or a response, and back (RFC 9113 section 8).
//!
//! A head that breaks a rule is malformed: its stream is reset, nobody reads it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, StatusCode, Version, request};

use crate::hpack::{Encoder, Field};

/// Most heads have no more fields.
const USUAL: usize = 12;

/// A request as it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub method: &'a Method,
    pub scheme: &'a str,
    pub authority: &'a str,
    /// Nothing for CONNECT.
    pub path: Option<&'a str>,
    /// If it is not in the path already.
    pub query: Option<&'a str>,
    /// Those of one connection are left out.
    pub fields: &'a HeaderMap,
    /// Whether the caller takes trailers.
    pub te_trailers: bool,
}

/// A response as it came.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub fields: HeaderMap,
}

/// A head while its fields come in.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    status: Option<StatusCode>,
    fields: HeaderMap,
    wrong: Option<&'static str>,
}

type Malformed = &'static str;

impl Collected {
    pub(crate) fn new() -> Self {
        Self {
            fields: HeaderMap::with_capacity(USUAL),
            ..Self::default()
        }
    }

    pub(crate) fn add(&mut self, field: Field) {
        let once = match field {
            Field::Method(method) => self.fields.is_empty() && put(&mut self.method, method),
            Field::Scheme(scheme) => self.fields.is_empty() && put(&mut self.scheme, scheme),
            Field::Authority(name) => self.fields.is_empty() && put(&mut self.authority, name),
            Field::Path(path) => self.fields.is_empty() && put(&mut self.path, path),
            Field::Status(status) => self.fields.is_empty() && put(&mut self.status, status),
            Field::Regular(name, value) => return self.regular(name, value),
            Field::Malformed(rule) => return self.break_rule(rule),
        };
        if !once {
            self.break_rule("a pseudo-header field twice, or after others");
        }
    }

    fn regular(&mut self, name: HeaderName, value: HeaderValue) {
        if is_of_connection(&name) {
            return self.break_rule("a field of one connection");
        }
        if name == header::TE && value != "trailers" {
            return self.break_rule("TE other than trailers");
        }
        if self.fields.try_append(name, value).is_err() {
            self.break_rule("too many fields");
        }
    }

    fn break_rule(&mut self, rule: Malformed) {
        self.wrong.get_or_insert(rule);
    }

    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn into_request(mut self) -> Result<request::Parts, Malformed> {
        if let Some(rule) = self.wrong {
            return Err(rule);
        }
        let method = self.method.take().ok_or("no :method")?;
        if self.status.is_some() {
            return Err(":status in a request");
        }
        let mut uri = http::uri::Parts::default();
        if method == Method::CONNECT {
            if self.scheme.is_some() || self.path.is_some() {
                return Err("CONNECT with :scheme or :path");
            }
            uri.authority = Some(self.authority.ok_or("CONNECT without :authority")?);
        } else {
            let path = self.path.ok_or("no :path")?;
            let scheme = self.scheme.ok_or("no :scheme")?;
            if self.authority.is_some() {
                uri.scheme = Some(scheme);
            }
            uri.authority = self.authority;
            uri.path_and_query = Some(path);
        }
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = method;
        parts.uri = Uri::from_parts(uri).map_err(|_| "no URI")?;
        parts.version = Version::HTTP_2;
        parts.headers = self.fields;
        Ok(parts)
    }

    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn into_response(self) -> Result<Response, Malformed> {
        if let Some(rule) = self.wrong {
            return Err(rule);
        }
        if self.has_request_fields() {
            return Err("a request's field in a response");
        }
        let status = self.status.ok_or("no :status")?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err("101 in HTTP/2");
        }
        Ok(Response {
            status,
            fields: self.fields,
        })
    }

    /// # Errors
    /// The rule that they break.
    pub(crate) fn into_trailers(self) -> Result<HeaderMap, Malformed> {
        match self.wrong {
            Some(rule) => Err(rule),
            None if self.has_request_fields() || self.status.is_some() => {
                Err("a pseudo-header field in trailers")
            }
            None => Ok(self.fields),
        }
    }

    fn has_request_fields(&self) -> bool {
        let uri = self.scheme.is_some() || self.authority.is_some() || self.path.is_some();
        uri || self.method.is_some()
    }
}

impl Outgoing<'_> {
    pub(crate) fn put(&self, encoder: &mut Encoder, out: &mut Vec<u8>) {
        encoder.begin(out);
        encoder.method(self.method, out);
        if let Some(path) = self.path {
            encoder.scheme(self.scheme, out);
            encoder.authority(self.authority, out);
            match self.query {
                Some(query) => encoder.path(&[path, "?", query].concat(), out),
                None => encoder.path(path, out),
            }
        } else {
            encoder.authority(self.authority, out);
        }
        put_fields(self.fields, encoder, out);
        if self.te_trailers {
            encoder.field(&header::TE, &HeaderValue::from_static("trailers"), out);
        }
    }
}

pub(crate) fn put_response(
    status: StatusCode,
    fields: &HeaderMap,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) {
    encoder.begin(out);
    encoder.status(status, out);
    put_fields(fields, encoder, out);
}

pub(crate) fn put_trailers(fields: &HeaderMap, encoder: &mut Encoder, out: &mut Vec<u8>) {
    encoder.begin(out);
    put_fields(fields, encoder, out);
}

/// The declared length; several that differ are malformed.
pub(crate) fn content_length(fields: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(None);
    };
    if lengths.any(|other| other != first) {
        return Err("content-length twice");
    }
    let digits = first.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err("content-length is no number");
    }
    let number = first.to_str().ok().and_then(|it| it.parse().ok());
    number.map(Some).ok_or("content-length is no number")
}

fn put_fields(fields: &HeaderMap, encoder: &mut Encoder, out: &mut Vec<u8>) {
    for (name, value) in fields {
        if !is_of_connection(name) && name != header::TE {
            encoder.field(name, value, out);
        }
    }
}

fn put<T>(place: &mut Option<T>, value: T) -> bool {
    place.replace(value).is_none()
}

/// Section 8.2.2. By length first: nearly all names differ in it.
fn is_of_connection(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.len() {
        7 => name == "upgrade",
        10 => name == "connection" || name == "keep-alive",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        _ => false,
    }
}
