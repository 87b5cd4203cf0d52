//! Which requests a rule speaks of: `to.http` of a Policy, `match` of a Route, routes of a Gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use super::texts;
use crate::parse::{Fields, Node, ParseError, Shape};
use crate::path::PathTemplate;

/// One entry; all that it states must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpMatch {
    /// Any method when empty.
    pub methods: BTreeSet<Method>,
    /// Any path when `None`; `OPTIONS *` and CONNECT have no path.
    pub path: Option<PathTemplate>,
    /// Each must occur exactly once in the request, with exactly this value.
    pub headers: BTreeMap<HeaderName, HeaderValue>,
}

/// A request method, compared byte for byte (RFC 9110 §9.1: methods are case-sensitive).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(String);

/// A header's name, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderName(String);

/// A header's value: visible ASCII with inner spaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderValue(String);

/// Why a text cannot stand in `methods` or `headers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHttp {
    /// Not a token, or with small letters, which no standard method has.
    #[error("a method is a token in capitals, such as GET")]
    Method,
    /// Not a token.
    #[error("a header name is a token (RFC 9110 §5.1)")]
    HeaderName,
    /// Hosts are chosen by the listener, never by what the caller sends.
    #[error("there are no host rules: the target is the listener that was asked")]
    Host,
    /// The mesh itself removes or rewrites the field.
    #[error("this header belongs to the connection or to the mesh, so its value proves nothing")]
    MeshHeader,
    /// Empty, padded, or with other than visible ASCII.
    #[error("a header value is visible ASCII without space at its ends")]
    HeaderValue,
}

const TO: Shape = Shape {
    what: "`to`",
    known: &["http"],
    later: &["grpc"],
};

const CONNECTION_HEADERS: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "content-length",
    "upgrade",
    "x-forwarded-client-cert",
];

impl HttpMatch {
    /// Whether the two fit exactly the same requests.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let shape = |entry: &Self| entry.path.as_ref().map(PathTemplate::shape);
        self.methods == other.methods
            && self.headers == other.headers
            && shape(self) == shape(other)
    }

    fn read(fields: &Fields<'_>) -> Result<Self, ParseError> {
        Ok(Self {
            methods: read_methods(fields)?,
            path: fields
                .optional("path")
                .map(|at| read_path(&at))
                .transpose()?,
            headers: read_headers(fields)?,
        })
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut entry = json!({});
        if !self.methods.is_empty() {
            entry["methods"] = json!(texts(&self.methods));
        }
        if let Some(path) = &self.path {
            entry["path"] = json!(path.as_str());
        }
        if !self.headers.is_empty() {
            let headers = self
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()));
            entry["headers"] = json!(headers.collect::<BTreeMap<_, _>>());
        }
        entry
    }
}

/// `to` of a rule: the list under `http`. A rule without `to` speaks of everything on its port.
pub(super) fn read_to(rule: &Fields<'_>) -> Result<Vec<HttpMatch>, ParseError> {
    let Some(to) = rule.optional("to") else {
        return Ok(Vec::new());
    };
    let list = to.fields(&TO)?.required("http")?;
    read_list(&list, "an entry of `to.http`", "`to`")
}

/// Entries that each state something; `optional` is the field to leave out for every request.
pub(super) fn read_list(
    list: &Node<'_>,
    what: &'static str,
    optional: &str,
) -> Result<Vec<HttpMatch>, ParseError> {
    let shape = Shape {
        what,
        known: &["methods", "path", "headers"],
        later: &[],
    };
    let rule = format!("state at least one match, or leave {optional} out");
    let read = |node: &Node<'_>| {
        let fields = node.fields(&shape)?;
        if fields.keys().next().is_none() {
            let rule = format!(
                "{what} must state methods, path or headers; for every request, leave {optional} out"
            );
            return Err(node.invalid(rule));
        }
        HttpMatch::read(&fields)
    };
    list.non_empty_list(&rule)?.iter().map(read).collect()
}

/// The match among other fields of a mapping, if it states one.
pub(super) fn read_stated(fields: &Fields<'_>) -> Result<Option<HttpMatch>, ParseError> {
    let stated = HttpMatch::read(fields)?;
    let keys = ["methods", "path", "headers"];
    let is_stated = keys.iter().any(|key| fields.optional(key).is_some());
    Ok(is_stated.then_some(stated))
}

pub(super) fn to_json(matches: &[HttpMatch]) -> Value {
    json!({"http": matches.iter().map(HttpMatch::to_json).collect::<Vec<_>>()})
}

fn read_methods(fields: &Fields<'_>) -> Result<BTreeSet<Method>, ParseError> {
    let mut methods = BTreeSet::new();
    let Some(list) = fields.optional("methods") else {
        return Ok(methods);
    };
    for node in list.non_empty_list("name a method, or leave `methods` out for any")? {
        let method: Method =
            node.parsed()
                .map_err(|error| match node.text().map(str::to_ascii_uppercase) {
                    Ok(capitals) if capitals.parse::<Method>().is_ok() => error.suggest(capitals),
                    _ => error,
                })?;
        if !methods.insert(method) {
            return Err(node.duplicate("this method is already in the list"));
        }
    }
    Ok(methods)
}

fn read_path(node: &Node<'_>) -> Result<PathTemplate, ParseError> {
    node.text()?.parse::<PathTemplate>().map_err(|error| {
        let refusal = node.invalid(format!("`path` is refused: {error}"));
        match error.suggestion() {
            Some(suggestion) => refusal.suggest(suggestion),
            None => refusal,
        }
    })
}

fn read_headers(fields: &Fields<'_>) -> Result<BTreeMap<HeaderName, HeaderValue>, ParseError> {
    let mut headers = BTreeMap::new();
    let Some(map) = fields.optional("headers") else {
        return Ok(headers);
    };
    let entries = map.entries("`headers`")?;
    if entries.is_empty() {
        return Err(map.invalid("`headers` must not be empty: name a header, or leave it out"));
    }
    for (key, node) in entries {
        let name: HeaderName = key
            .parse()
            .map_err(|error| node.invalid(format!("header `{key}` is refused: {error}")))?;
        let value = node
            .text()?
            .parse()
            .map_err(|error| node.invalid(format!("header `{key}` is refused: {error}")))?;
        if headers.insert(name, value).is_some() {
            return Err(node.duplicate("this header is there in another spelling"));
        }
    }
    Ok(headers)
}

impl Method {
    /// The method as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Method {
    type Err = InvalidHttp;

    fn from_str(text: &str) -> Result<Self, InvalidHttp> {
        if !is_token(text) || text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            return Err(InvalidHttp::Method);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lets a request's method be looked up as it is. The order and hash of a method are its text's.
impl std::borrow::Borrow<str> for Method {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl HeaderName {
    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a header be looked up by its name in lower case.
impl std::borrow::Borrow<str> for HeaderName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderName {
    type Err = InvalidHttp;

    fn from_str(text: &str) -> Result<Self, InvalidHttp> {
        let name = text.to_ascii_lowercase();
        if name == "host" || name == ":authority" {
            return Err(InvalidHttp::Host);
        }
        if !is_token(&name) {
            return Err(InvalidHttp::HeaderName);
        }
        let hyphenated = name.replace('_', "-");
        if CONNECTION_HEADERS.contains(&hyphenated.as_str())
            || hyphenated.starts_with("countersign-")
        {
            return Err(InvalidHttp::MeshHeader);
        }
        Ok(Self(name))
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HeaderValue {
    /// The value as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HeaderValue {
    type Err = InvalidHttp;

    fn from_str(text: &str) -> Result<Self, InvalidHttp> {
        let visible = text
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if text.is_empty() || !visible || text.trim() != text {
            return Err(InvalidHttp::HeaderValue);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(legal)
}
