//! Names that occur inside objects: ports and rules.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

const LONGEST: usize = 63;

/// Under this name a proxy announces the listener on which its peers ask for its health.
pub const HEALTH_PORT: &str = "countersign-health";

/// Names under which the mesh itself announces ports.
const RESERVED_PORT_PREFIX: &str = "countersign-";

/// Why a text is not a port name or rule id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No characters.
    #[error("a {0} must not be empty")]
    Empty(&'static str),
    /// More than 63 bytes.
    #[error("a {0} must have at most 63 characters")]
    TooLong(&'static str),
    /// A character outside the alphabet, or a hyphen at either end.
    #[error("a port name must consist of a-z, 0-9 and inner hyphens")]
    PortCharacters,
    /// A character outside the alphabet.
    #[error("a rule id must consist of letters, digits, `-`, `_` and `.`")]
    RuleCharacters,
    /// The mesh announces ports of its own under this prefix.
    #[error("port names that begin with `countersign-` are reserved")]
    ReservedPort,
}

/// The name of a port of a Service, unique in it: `http`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortName(Arc<str>);

/// The id of a rule, unique in its object; it appears in every decision.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(Arc<str>);

impl PortName {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PortName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check_length(text, "port name")?;
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !text.bytes().all(legal) || text.starts_with('-') || text.ends_with('-') {
            return Err(InvalidName::PortCharacters);
        }
        if text.starts_with(RESERVED_PORT_PREFIX) {
            return Err(InvalidName::ReservedPort);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl RuleId {
    /// The id as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RuleId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        check_length(text, "rule id")?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !text.bytes().all(legal) {
            return Err(InvalidName::RuleCharacters);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_length(text: &str, what: &'static str) -> Result<(), InvalidName> {
    match text.len() {
        0 => Err(InvalidName::Empty(what)),
        1..=LONGEST => Ok(()),
        _ => Err(InvalidName::TooLong(what)),
    }
}
