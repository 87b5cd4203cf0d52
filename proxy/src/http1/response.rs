//! The head of a response.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};

use super::connection::Options;
use super::request::{collect, version};
use super::{Framing, Limits, Malformed, diagnosis};

/// The head of a response, as received, without its reason phrase.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub version: Version,
    /// Names in lower case, values without the white space around them.
    pub fields: HeaderMap,
    pub framing: Framing,
    /// Whether the connection takes another request after this response.
    pub persists: bool,
}

pub(super) fn parse(
    head: &Bytes,
    method: &Method,
    limits: &Limits,
    fields: HeaderMap,
) -> Result<Response, Malformed> {
    let mut room = [const { MaybeUninit::uninit() }; Limits::MOST_FIELDS];
    let room = &mut room[..limits.fields.min(Limits::MOST_FIELDS)];
    let mut parsed = httparse::Response::new(&mut []);
    let end = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        head,
        room,
    );
    let (Ok(_), Some(code), Some(minor)) = (end, parsed.code, parsed.version) else {
        return Err(diagnosis::of_response(head, limits));
    };
    let version = version(minor);
    let status = StatusCode::from_u16(code)
        .ok()
        .filter(|status| status.as_u16() < 600)
        .ok_or(Malformed::Status)?;
    let fields = collect(head, parsed.headers, fields)?;
    let framing = Framing::of_response(method, status, version, &fields)?;
    let options = Options::of(&fields);
    let persistent = !options.close && (version == Version::HTTP_11 || options.keep_alive);
    Ok(Response {
        status,
        version,
        fields,
        framing,
        persists: persistent && !matches!(framing, Framing::UntilClose | Framing::Tunnel),
    })
}
