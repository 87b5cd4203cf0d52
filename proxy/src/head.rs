//! The head of a request and of a response: what is accepted, what is taken out, what is set.
//!
//! Invariant: a [`RequestHead`] names one target in one way, and holds no hop-by-hop field, no
//! field that a peer nominated in `Connection`, and nothing in any spelling of a field that only
//! a proxy may set. What cannot be read in exactly one way is refused, never repaired.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri, Version};

use crate::failure::Reason;
use crate::traffic::settings::HeaderChanges;

pub(crate) mod fields;
mod upgrade;

pub(crate) use upgrade::Upgrade;

/// The peer's identity, as the application sees it.
pub(crate) const IDENTITY: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// The decision that let the request through or refused it.
pub(crate) const DECISION: HeaderName = HeaderName::from_static("countersign-decision");
/// Why a request was refused, in the words of [`Reason`].
pub(crate) const REASON: HeaderName = HeaderName::from_static("countersign-reason");

/// Marks what a caller's proxy asks of its own accord: whether the application behind works.
pub(crate) const HEALTH: HeaderName = HeaderName::from_static("countersign-health");

/// A request's head after it was checked; only [`RequestHead::check`] makes one.
#[derive(Clone, Debug)]
pub(crate) struct RequestHead {
    method: Method,
    authority: Option<Authority>,
    target: RequestTarget,
    fields: HeaderMap,
    accepts_trailers: bool,
    upgrade: Option<Box<Upgrade>>,
}

/// What the request asks for, as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestTarget {
    /// `OPTIONS *` (RFC 9112 §3.2.4).
    Asterisk,
    /// The raw path, and the query without its question mark.
    Path(PathAndQuery),
}

/// A head that cannot be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("CONNECT is for the outbound port of one's own proxy, over HTTP/1")]
    Connect,
    #[error("an upgrade names one protocol, and Connection says so once (RFC 9110 section 7.8)")]
    UpgradeSyntax,
    #[error("under that protocol requests would go on that nobody judges")]
    UpgradeToRequests,
    #[error("an upgrade with content")]
    UpgradeWithContent,
    #[error("a request must have exactly one Host (RFC 9112 section 3.2)")]
    HostCount,
    #[error("Host is not a host with an optional port")]
    HostSyntax,
    #[error("Host and the request target name different authorities")]
    HostMismatch,
    #[error("user information in the authority")]
    UserInformation,
    #[error("the asterisk form is only for OPTIONS (RFC 9112 section 3.2.4)")]
    Asterisk,
    #[error("only the http scheme is carried in an absolute request target")]
    Scheme,
    #[error("the request target has no path")]
    NoPath,
    #[error("Transfer-Encoding and Content-Length in one request (RFC 9112 section 6.3)")]
    TwoFramings,
    #[error("Content-Length is repeated or is no number")]
    ContentLength,
    #[error("a Connection field nominates {0:?}, which frames or routes the message")]
    Nominated(&'static str),
}

impl HeadError {
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::Connect | Self::UpgradeToRequests => Reason::UpgradeRefused,
            _ => Reason::BadRequest,
        }
    }
}

impl RequestHead {
    /// Checks a received head and takes out what ends at this hop.
    ///
    /// # Errors
    /// The first rule that the head breaks.
    pub(crate) fn check(
        method: Method,
        uri: &Uri,
        version: Version,
        mut fields: HeaderMap,
    ) -> Result<Self, HeadError> {
        if method == Method::CONNECT {
            return Err(HeadError::Connect);
        }
        check_framing(&fields)?;
        let upgrade = Upgrade::asked(version, &fields)?;
        let authority = one_authority(uri, version, &fields)?;
        let target = target(&method, uri)?;
        let accepts_trailers = fields::accepts_trailers(&fields);
        fields::check_nominations(&fields)?;
        fields::remove_hop_by_hop(&mut fields);
        fields::remove_reserved(&mut fields);
        fields.remove(header::HOST);
        // The listener has answered the expectation itself (RFC 9110 section 10.1.1).
        fields.remove(header::EXPECT);
        Ok(Self {
            method,
            authority,
            target,
            fields,
            accepts_trailers,
            upgrade,
        })
    }

    /// Sets what only this proxy says, in place of whatever there is.
    pub(crate) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.fields.insert(name, value);
    }

    /// Makes the changes of a Route.
    pub(crate) fn change(&mut self, changes: &HeaderChanges) {
        changes.apply(&mut self.fields);
    }

    /// One Cookie field, as HTTP/1 has it.
    pub(crate) fn join_cookies(&mut self) {
        fields::join_cookies(&mut self.fields);
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    pub(crate) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    pub(crate) fn target(&self) -> &RequestTarget {
        &self.target
    }

    /// End-to-end fields, without Host.
    pub(crate) fn fields(&self) -> &HeaderMap {
        &self.fields
    }

    /// For what this proxy adds to them.
    pub(crate) fn fields_mut(&mut self) -> &mut HeaderMap {
        &mut self.fields
    }

    /// The protocol that the caller asks to go on with.
    pub(crate) fn upgrade(&self) -> Option<&Upgrade> {
        self.upgrade.as_deref()
    }

    /// Whether the caller said `TE: trailers`.
    pub(crate) fn accepts_trailers(&self) -> bool {
        self.accepts_trailers
    }
}

impl RequestTarget {
    /// The raw path, or `*`.
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Asterisk => "*",
            Self::Path(path) => path.path(),
        }
    }

    pub(crate) fn query(&self) -> Option<&str> {
        match self {
            Self::Asterisk => None,
            Self::Path(path) => path.query(),
        }
    }
}

/// Whether the content is gRPC (`application/grpc` or `application/grpc+…`).
pub(crate) fn is_grpc(fields: &HeaderMap) -> bool {
    fields
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| rest.is_empty() || matches!(rest[0], b'+' | b';' | b' '))
}

/// The status of a gRPC call, in the head or the trailers of its response (PROTOCOL-HTTP2.md).
pub(crate) fn grpc_status(fields: &HeaderMap) -> Option<u8> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Takes out of a response what ends at this hop, and what only a proxy may set.
/// Returns what the other proxy said, if the response came from one.
pub(crate) fn clean_response(fields: &mut HeaderMap) -> PeerWords {
    let words = PeerWords {
        reason: single(fields, &REASON).and_then(|text| text.parse().ok()),
        decision: single_value(fields, &DECISION)
            .filter(|value| is_decision_id(value.as_bytes()))
            .cloned(),
    };
    fields::remove_hop_by_hop(fields);
    fields::remove_reserved(fields);
    words
}

/// What the receiving proxy said about a call, checked in form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerWords {
    pub reason: Option<Reason>,
    pub decision: Option<HeaderValue>,
}

/// What the identity field says: what mutual TLS proved, the leaf's SHA-256 and its SPIFFE ID.
pub(crate) fn identity(leaf_sha256: &str, spiffe_id: &str) -> HeaderValue {
    let text = format!("Hash={leaf_sha256};URI={spiffe_id}");
    HeaderValue::from_str(&text).expect("hexadecimal digits and SPIFFE IDs are printable ASCII")
}

fn single<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    single_value(fields, name)?.to_str().ok()
}

fn single_value<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = fields.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

fn is_decision_id(text: &[u8]) -> bool {
    text.len() == 32
        && text
            .iter()
            .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_framing(fields: &HeaderMap) -> Result<(), HeadError> {
    let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else {
        return Ok(());
    };
    if fields.contains_key(header::TRANSFER_ENCODING) {
        return Err(HeadError::TwoFramings);
    }
    let digits = length.as_bytes();
    if lengths.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::ContentLength);
    }
    Ok(())
}

fn one_authority(
    uri: &Uri,
    version: Version,
    fields: &HeaderMap,
) -> Result<Option<Authority>, HeadError> {
    if uri.scheme_str().is_some_and(|scheme| scheme != "http") && version < Version::HTTP_2 {
        return Err(HeadError::Scheme);
    }
    let host = one_host(fields)?;
    let authority = match (uri.authority(), host) {
        (Some(target), Some(host)) if !same_authority(target, &host) => {
            return Err(HeadError::HostMismatch);
        }
        (Some(target), _) => Some(target.clone()),
        (None, Some(host)) => Some(host),
        (None, None) if version == Version::HTTP_11 => return Err(HeadError::HostCount),
        (None, None) => None,
    };
    if authority
        .as_ref()
        .is_some_and(|it| it.as_str().contains('@'))
    {
        return Err(HeadError::UserInformation);
    }
    Ok(authority)
}

fn one_host(fields: &HeaderMap) -> Result<Option<Authority>, HeadError> {
    let mut hosts = fields.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else {
        return Ok(None);
    };
    if hosts.next().is_some() {
        return Err(HeadError::HostCount);
    }
    match Authority::try_from(host.as_bytes()) {
        Ok(authority) if !authority.host().is_empty() => Ok(Some(authority)),
        _ => Err(HeadError::HostSyntax),
    }
}

/// What a CONNECT is to lead to: its target, which Host must not contradict.
///
/// # Errors
/// If Host names another authority, or either names a user.
pub(crate) fn tunnel_authority(uri: &Uri, fields: &HeaderMap) -> Result<Authority, HeadError> {
    let target = uri.authority().ok_or(HeadError::NoPath)?;
    let agrees = |host: &Authority| {
        let port = host.port_u16().is_none() || host.port_u16() == target.port_u16();
        port && host.host().eq_ignore_ascii_case(target.host())
    };
    if one_host(fields)?.is_some_and(|host| !agrees(&host)) {
        return Err(HeadError::HostMismatch);
    }
    if target.as_str().contains('@') {
        return Err(HeadError::UserInformation);
    }
    Ok(target.clone())
}

/// Hosts compare without case; a left-out port is http's.
fn same_authority(one: &Authority, other: &Authority) -> bool {
    let port = |it: &Authority| it.port_u16().unwrap_or(80);
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}

fn target(method: &Method, uri: &Uri) -> Result<RequestTarget, HeadError> {
    let (Some(found), false) = (uri.path_and_query(), uri.path().is_empty()) else {
        return Err(HeadError::NoPath);
    };
    match found.as_str() {
        "*" if method == Method::OPTIONS => Ok(RequestTarget::Asterisk),
        "*" => Err(HeadError::Asterisk),
        text if text.starts_with('/') => Ok(RequestTarget::Path(found.clone())),
        // An absolute form without a path, such as `http://host?query`.
        text => PathAndQuery::try_from(["/", text].concat())
            .map(RequestTarget::Path)
            .map_err(|_| HeadError::NoPath),
    }
}

#[cfg(test)]
mod tests;
