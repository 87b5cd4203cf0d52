//! Which fields end at a hop, and which only a proxy may set.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::HeadError;

/// RFC 9110 section 7.6.1, and the fields that older clients send to proxies.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    // Of the upgrade to h2c, which is not carried.
    HeaderName::from_static("http2-settings"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Fields that only a proxy sets, in the spelling with hyphens. An application that reads its
/// fields through CGI's rules sees `_` as `-`, so every mixture of the two is the same name.
const RESERVED: [&str; 4] = [
    "x-forwarded-client-cert",
    "countersign-decision",
    "countersign-reason",
    "countersign-health",
];

/// Naming one of these in `Connection` would make the next hop read another message than this
/// one.
const NEVER_NOMINATED: [&str; 4] = ["host", "content-length", "content-type", "authorization"];

/// # Errors
/// If `Connection` nominates a field that frames, routes or authorizes the message.
pub(super) fn check_nominations(fields: &HeaderMap) -> Result<(), HeadError> {
    for token in nominations(fields) {
        if let Some(name) = NEVER_NOMINATED
            .into_iter()
            .find(|name| token.eq_ignore_ascii_case(name.as_bytes()))
        {
            return Err(HeadError::Nominated(name));
        }
    }
    Ok(())
}

/// Removes hop-by-hop fields and those nominated in `Connection`.
pub(crate) fn remove_hop_by_hop(fields: &mut HeaderMap) {
    // Between proxies there are none, and looking is cheaper than removing each name.
    if !fields.keys().any(is_hop_by_hop) {
        return;
    }
    let nominated: Vec<HeaderName> = nominations(fields)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect();
    for name in nominated {
        fields.remove(name);
    }
    for name in HOP_BY_HOP {
        fields.remove(name);
    }
}

/// Removes every spelling of the fields that only a proxy may set.
pub(crate) fn remove_reserved(fields: &mut HeaderMap) {
    while let Some(name) = fields.keys().find(|name| is_reserved(name.as_str())) {
        let name = name.clone();
        fields.remove(name);
    }
}

/// What may not arrive after the body: everything above, and what frames or routes a message
/// (RFC 9110 section 6.5.1).
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    remove_hop_by_hop(trailers);
    remove_reserved(trailers);
    let refused = [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::HOST,
        header::AUTHORIZATION,
        header::SET_COOKIE,
        header::COOKIE,
        header::TRAILER,
    ];
    for name in refused {
        trailers.remove(name);
    }
}

/// Whether the field ends at a hop, or only a proxy may set it, in any spelling.
pub(crate) fn ends_here(name: &HeaderName) -> bool {
    is_hop_by_hop(name) || is_reserved(name.as_str())
}

pub(super) fn accepts_trailers(fields: &HeaderMap) -> bool {
    fields
        .get_all(header::TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// HTTP/2 may split a cookie into several fields; HTTP/1 has one (RFC 9113 section 8.2.3).
pub(crate) fn join_cookies(fields: &mut HeaderMap) {
    if fields.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = fields
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        fields.insert(header::COOKIE, joined);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

fn is_reserved(name: &str) -> bool {
    RESERVED.into_iter().any(|reserved| {
        reserved.len() == name.len()
            && reserved
                .bytes()
                .zip(name.bytes())
                .all(|(wanted, got)| wanted == got || (wanted == b'-' && got == b'_'))
    })
}

fn nominations(fields: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    fields
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}
