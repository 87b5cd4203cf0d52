//! The head of a request.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri, Version};

use super::connection::Options;
use super::{Framing, Limits, Malformed, diagnosis};

/// The head of a request, as received; every field is still in it.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    pub target: Uri,
    pub version: Version,
    /// Names in lower case, values without the white space around them.
    pub fields: HeaderMap,
    pub framing: Framing,
    /// Whether another request may follow on the connection. Never after HTTP/1.0, nor after a
    /// request for a tunnel or another protocol, granted or not: what follows may be of that.
    pub persists: bool,
    /// Whether the client waits for 100 (Continue) before it sends the body.
    pub expects_continue: bool,
}

pub(super) fn parse(
    head: &Bytes,
    limits: &Limits,
    fields: HeaderMap,
) -> Result<Request, Malformed> {
    let mut room = [const { MaybeUninit::uninit() }; Limits::MOST_FIELDS];
    let room = &mut room[..limits.fields.min(Limits::MOST_FIELDS)];
    let mut parsed = httparse::Request::new(&mut []);
    let end = parsed.parse_with_uninit_headers(head, room);
    let (Ok(_), Some(method), Some(target), Some(minor)) =
        (end, parsed.method, parsed.path, parsed.version)
    else {
        return Err(diagnosis::of_request(head, limits));
    };
    let version = version(minor);
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed::Method)?;
    let target = target_of(head.slice_ref(target.as_bytes()), &method, limits)?;
    let fields = collect(head, parsed.headers, fields)?;
    check_host(&fields, version)?;
    let options = Options::of(&fields);
    Ok(Request {
        framing: Framing::of_request(version, &fields)?,
        persists: version == Version::HTTP_11
            && !options.close
            && !may_switch(&method, options, &fields),
        expects_continue: expects_continue(&fields, version)?,
        method,
        target,
        version,
        fields,
    })
}

/// An offer of `h2c` alone is ignored by everybody here, and its sender waits for the answer.
fn may_switch(method: &Method, options: Options, fields: &HeaderMap) -> bool {
    let others = || {
        let mut offers = fields.get_all(header::UPGRADE).iter();
        offers.any(|it| !it.as_bytes().eq_ignore_ascii_case(b"h2c"))
    };
    *method == Method::CONNECT || (options.upgrade && others())
}

pub(super) fn version(minor: u8) -> Version {
    match minor {
        0 => Version::HTTP_10,
        _ => Version::HTTP_11,
    }
}

/// The fields as http's types. The values are parts of `head`, not copies.
pub(super) fn collect(
    head: &Bytes,
    parsed: &[httparse::Header<'_>],
    mut fields: HeaderMap,
) -> Result<HeaderMap, Malformed> {
    fields.clear();
    fields.reserve(parsed.len());
    for field in parsed {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::FieldName)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| Malformed::FieldValue)?;
        fields.append(name, value);
    }
    Ok(fields)
}

fn target_of(bytes: Bytes, method: &Method, limits: &Limits) -> Result<Uri, Malformed> {
    if bytes.len() > limits.target_bytes {
        return Err(Malformed::TargetTooLong);
    }
    // Uri drops fragments, and takes bytes that a URI cannot have (RFC 3986 section 2).
    if bytes.iter().any(|byte| *byte == b'#' || !byte.is_ascii()) {
        return Err(Malformed::Target);
    }
    let asterisk = &bytes[..] == b"*";
    let origin = bytes.first() == Some(&b'/');
    let target = Uri::from_maybe_shared(bytes).map_err(|_| Malformed::Target)?;
    let absolute = target.scheme().is_some() && target.authority().is_some();
    let fits = match *method {
        Method::CONNECT => target.scheme().is_none() && target.port().is_some() && !origin,
        Method::OPTIONS => asterisk || origin || absolute,
        _ => origin || absolute,
    };
    fits.then_some(target).ok_or(Malformed::Target)
}

fn check_host(fields: &HeaderMap, version: Version) -> Result<(), Malformed> {
    let mut hosts = fields.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => Err(Malformed::HostMissing),
        (None, _) => Ok(()),
        (Some(_), Some(_)) => Err(Malformed::HostRepeated),
        (Some(host), None) if is_host(host.as_bytes()) => Ok(()),
        (Some(_), None) => Err(Malformed::HostSyntax),
    }
}

/// The characters of `uri-host [":" port]` without the comma, which joins two fields.
fn is_host(bytes: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+;=".contains(byte);
    !bytes.is_empty() && bytes.iter().all(legal)
}

fn expects_continue(fields: &HeaderMap, version: Version) -> Result<bool, Malformed> {
    let mut expects = false;
    for value in fields.get_all(header::EXPECT) {
        if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(Malformed::Expectation);
        }
        // A server must ignore it from HTTP/1.0 (RFC 9110 section 10.1.1).
        expects = version == Version::HTTP_11;
    }
    Ok(expects)
}
