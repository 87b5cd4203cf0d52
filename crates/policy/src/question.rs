//! What the evaluator is asked.
//!
//! The source is an identity that a handshake has proven, the target is the listener that was
//! asked. Nothing that a caller sends selects the target.

use identity::{QualifiedName, SpiffeId};

use crate::path::{CanonicalPath, PathAmbiguous, split_target};
use crate::resource::PortName;

/// May `source` do `request` at `target`?
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The caller's proven identity.
    pub source: &'a SpiffeId,
    /// The listener.
    pub target: Target<'a>,
    /// What is asked of it.
    pub request: Request<'a>,
}

/// A named port of a Service: each has a listener of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The Service.
    pub service: &'a QualifiedName,
    /// One of its ports.
    pub port: &'a PortName,
}

/// What is judged: a whole connection on a `tcp` port, each single request on the others.
/// Asking one where the other is due is denied as `indeterminate`.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// A connection of opaque bytes.
    Connection,
    /// One HTTP or gRPC request.
    Http {
        /// As received; compared byte for byte.
        method: &'a str,
        /// From [`RequestPath::parse`].
        path: &'a RequestPath,
        /// The request's header fields.
        headers: &'a dyn HeaderLookup,
    },
}

/// The path of a request, as far as it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestPath {
    /// A path in its one form. Pass on exactly this.
    Canonical(CanonicalPath),
    /// `OPTIONS *`: the server as a whole. No `path` rule matches it.
    Asterisk,
    /// CONNECT: an authority, no path. No `path` rule matches it.
    Authority,
    /// More than one reading: denied before any rule is asked; the answer is status 400.
    Ambiguous(PathAmbiguous),
}

/// Gives the evaluator a request's header fields.
pub trait HeaderLookup: std::fmt::Debug {
    /// All field lines of this name; `name` is in lower case.
    fn lookup(&self, name: &str) -> HeaderValues<'_>;
}

/// The field lines of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderValues<'a> {
    /// None.
    Absent,
    /// Exactly one, without surrounding space.
    One(&'a [u8]),
    /// Two or more: no header condition holds.
    Many,
}

impl RequestPath {
    /// Reads the request target of a request (RFC 9112 §3.2), with or without query.
    pub fn parse(method: &str, target: &str) -> Self {
        match (method, target) {
            ("CONNECT", _) => Self::Authority,
            ("OPTIONS", "*") => Self::Asterisk,
            _ => CanonicalPath::parse(split_target(target).0)
                .map_or_else(Self::Ambiguous, Self::Canonical),
        }
    }
}

/// No fields at all.
impl HeaderLookup for () {
    fn lookup(&self, _name: &str) -> HeaderValues<'_> {
        HeaderValues::Absent
    }
}

/// Name and value of each field line; names in lower case.
impl HeaderLookup for [(String, String)] {
    fn lookup(&self, name: &str) -> HeaderValues<'_> {
        let mut values = self.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (None, _) => HeaderValues::Absent,
            (Some((_, value)), None) => HeaderValues::One(value.as_bytes()),
            _ => HeaderValues::Many,
        }
    }
}

impl HeaderLookup for Vec<(String, String)> {
    fn lookup(&self, name: &str) -> HeaderValues<'_> {
        self.as_slice().lookup(name)
    }
}

impl<'a> Request<'a> {
    pub(crate) fn method(&self) -> Option<&'a str> {
        match self {
            Self::Connection => None,
            Self::Http { method, .. } => Some(method),
        }
    }

    pub(crate) fn path(&self) -> Option<&'a RequestPath> {
        match self {
            Self::Connection => None,
            Self::Http { path, .. } => Some(path),
        }
    }
}
