//! Writes heads. The framing and the connection come from their types; fields that say either
//! are left out, so that no head can say two things.

use bytes::{BufMut, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, StatusCode};

use super::{Connection, Framing, Unsendable, WriteQueue};

/// The start line of a request, and its Host.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    pub method: &'a Method,
    /// A path, `*`, or an authority after CONNECT.
    pub target: &'a str,
    /// Without the question mark.
    pub query: Option<&'a str>,
    /// None writes an empty Host (RFC 9112 section 3.2).
    pub authority: Option<&'a Authority>,
}

/// Writes the head of an HTTP/1.1 request.
///
/// # Errors
/// If the target would end early, or the framing is none of a request's. Nothing was written.
pub fn write_request_head(
    queue: &mut WriteQueue,
    line: RequestLine<'_>,
    fields: &HeaderMap,
    framing: Framing,
    connection: &Connection,
) -> Result<(), Unsendable> {
    let query = line.query.unwrap_or_default();
    if line.target.is_empty() || !is_target(line.target) || !is_target(query) {
        return Err(Unsendable::Target);
    }
    if matches!(framing, Framing::UntilClose | Framing::Tunnel) {
        return Err(Unsendable::Framing);
    }
    let authority = line.authority.map_or("", Authority::as_str);
    let out = queue.tail();
    let start = line.method.as_str().len() + line.target.len() + query.len() + authority.len();
    out.reserve(start + size_of_fields(fields) + OWN_FIELDS);
    out.put_slice(line.method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(line.target.as_bytes());
    if line.query.is_some() {
        out.put_u8(b'?');
        out.put_slice(query.as_bytes());
    }
    out.put_slice(b" HTTP/1.1\r\nhost: ");
    out.put_slice(authority.as_bytes());
    out.put_slice(b"\r\n");
    put_fields(fields, |name| name != header::HOST, out);
    put_connection(connection, fields.contains_key(header::TE), out);
    put_framing(framing, out);
    out.put_slice(b"\r\n");
    Ok(())
}

/// Writes the head of the HTTP/1.1 response to a request with `method`. If `framing` is
/// [`Framing::Empty`], a Content-Length among the fields stays (HEAD and 304).
///
/// # Errors
/// If the reader of the response would frame it otherwise. Nothing was written.
pub fn write_response_head(
    queue: &mut WriteQueue,
    method: &Method,
    status: StatusCode,
    fields: &HeaderMap,
    framing: Framing,
    connection: &Connection,
) -> Result<(), Unsendable> {
    if !fits(method, status, framing, connection) {
        return Err(Unsendable::Framing);
    }
    let out = queue.tail();
    out.reserve(size_of_fields(fields) + OWN_FIELDS);
    put_status_line(status, out);
    put_fields(fields, |_| true, out);
    if framing == Framing::Empty && declares_length(status) {
        put_length_of_absent_body(fields, out);
    }
    put_connection(connection, false, out);
    put_framing(framing, out);
    out.put_slice(b"\r\n");
    Ok(())
}

/// Writes an informational response, like 100 (Continue); the final one follows.
///
/// # Errors
/// [`Unsendable::NotInformational`]. Nothing was written.
pub fn write_informational(
    queue: &mut WriteQueue,
    status: StatusCode,
    fields: &HeaderMap,
) -> Result<(), Unsendable> {
    if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Unsendable::NotInformational);
    }
    let out = queue.tail();
    put_status_line(status, out);
    put_fields(fields, |_| true, out);
    out.put_slice(b"\r\n");
    Ok(())
}

pub(super) fn put_trailers(trailers: &HeaderMap, out: &mut BytesMut) {
    put_fields(trailers, |_| true, out);
}

/// No trailer says what only a head may.
pub(super) fn trailers_fit(trailers: &HeaderMap) -> bool {
    !trailers
        .keys()
        .any(|name| !is_plain(name) || name == header::HOST)
}

/// Room for a status line, the framing and the connection.
const OWN_FIELDS: usize = 160;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Neither frames the message nor speaks of its connection.
fn is_plain(name: &HeaderName) -> bool {
    !matches!(
        *name,
        header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION | header::UPGRADE
    ) && *name != KEEP_ALIVE
        && *name != PROXY_CONNECTION
}

fn is_target(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

fn fits(method: &Method, status: StatusCode, framing: Framing, connection: &Connection) -> bool {
    let switches = status == StatusCode::SWITCHING_PROTOCOLS;
    let tunnel = switches || (method == Method::CONNECT && status.is_success());
    let bodiless = method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
    match framing {
        Framing::Tunnel => tunnel,
        Framing::Empty => status == StatusCode::NO_CONTENT || (bodiless && !tunnel),
        Framing::UntilClose if *connection != Connection::Closes => false,
        _ => !tunnel && !bodiless && declares_length(status),
    }
}

/// 1xx and 204 must not (RFC 9110 section 8.6).
fn declares_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT
}

fn size_of_fields(fields: &HeaderMap) -> usize {
    let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    fields.iter().map(size).sum()
}

fn put_status_line(status: StatusCode, out: &mut BytesMut) {
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
}

fn put_fields(fields: &HeaderMap, wanted: impl Fn(&HeaderName) -> bool, out: &mut BytesMut) {
    for (name, value) in fields {
        if is_plain(name) && wanted(name) {
            put_field(name, value, out);
        }
    }
}

fn put_field(name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
    out.put_slice(name.as_str().as_bytes());
    out.put_slice(b": ");
    out.put_slice(value.as_bytes());
    out.put_slice(b"\r\n");
}

/// TE is for the next hop alone, and has to be nominated (RFC 9110 section 10.1.4).
fn put_connection(connection: &Connection, te: bool, out: &mut BytesMut) {
    let option: &[u8] = match (connection, te) {
        (Connection::Persists, false) => return,
        (Connection::Persists, true) => b"te",
        (Connection::Closes, false) => b"close",
        (Connection::Closes, true) => b"close, te",
        (Connection::Upgrades(_), false) => b"upgrade",
        (Connection::Upgrades(_), true) => b"upgrade, te",
    };
    out.put_slice(b"connection: ");
    out.put_slice(option);
    out.put_slice(b"\r\n");
    if let Connection::Upgrades(protocols) = connection {
        put_field(&header::UPGRADE, protocols, out);
    }
}

fn put_framing(framing: Framing, out: &mut BytesMut) {
    match framing {
        Framing::Length(length) => {
            out.put_slice(b"content-length: ");
            put_decimal(length, out);
            out.put_slice(b"\r\n");
        }
        Framing::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Empty | Framing::UntilClose | Framing::Tunnel => {}
    }
}

fn put_length_of_absent_body(fields: &HeaderMap, out: &mut BytesMut) {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    if let (Some(length), None) = (lengths.next(), lengths.next())
        && !length.is_empty()
        && length.as_bytes().iter().all(u8::is_ascii_digit)
    {
        put_field(&header::CONTENT_LENGTH, length, out);
    }
}

fn put_decimal(mut number: u64, out: &mut BytesMut) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len() - 1;
    while number >= 10 {
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
        first -= 1;
    }
    digits[first] = b'0' + number as u8;
    out.put_slice(&digits[first..]);
}
