//! The SPIFFE ID (SPIFFE-ID.md §2).
//!
//! Invariant: a value is `spiffe://<trust domain>` followed by nothing or by a path of canonical
//! segments, in at most 2048 bytes. Nothing is normalised: text that is not already canonical is
//! refused, so that two IDs are equal exactly when their bytes are.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::serde_text::serde_as_text;
use crate::trust_domain::{TrustDomain, TrustDomainError};

const SCHEME: &str = "spiffe://";

/// The first path segment that no workload may have.
const RESERVED_SEGMENT: &str = "countersign";

/// A SPIFFE ID such as `spiffe://corp.example/ns/shop/sa/orders`. Cloning is cheap.
///
/// The ID of a trust domain itself (no path) is one too; where a workload is meant, the path must
/// be checked, as the X.509-SVID rules do.
#[derive(Clone)]
pub struct SpiffeId {
    text: Arc<str>,
    trust_domain: TrustDomain,
}

impl SpiffeId {
    /// The longest ID, in bytes, scheme included. SPIFFE-ID §2.3: up to this "MUST" be accepted
    /// and more "SHOULD NOT" be made; more is refused here.
    pub const MAX_LENGTH: usize = 2048;

    /// `path` is empty, or starts with `/`.
    pub fn new(trust_domain: &TrustDomain, path: &str) -> Result<Self, SpiffeIdError> {
        let path_position = SCHEME.len() + trust_domain.as_str().len();
        check_length(path_position + path.len())?;
        check_path(path, path_position)?;
        Ok(Self {
            text: Arc::from(format!("{SCHEME}{trust_domain}{path}")),
            trust_domain: trust_domain.clone(),
        })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, shared with this value.
    pub fn shared_text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// With its leading `/`; empty for the ID of a trust domain.
    pub fn path(&self) -> &str {
        &self.text[SCHEME.len() + self.trust_domain.as_str().len()..]
    }

    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path().split('/').skip(1)
    }

    /// True if `ancestor` is this ID or a prefix of it by whole segments in the same trust domain:
    /// `…/ns/shop/sa/orders` is under `…/ns/shop`, never under `…/ns/sho`.
    pub fn is_under(&self, ancestor: &Self) -> bool {
        match self.text.strip_prefix(ancestor.as_str()) {
            Some(rest) => rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// True for `/countersign` and all below it: agents and CA replicas, never a workload.
    pub fn is_reserved(&self) -> bool {
        self.segments().next() == Some(RESERVED_SEGMENT)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check_length(text.len())?;
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        check_authority_delimiters(rest)?;
        let (name, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let trust_domain: TrustDomain = name.parse()?;
        check_path(path, SCHEME.len() + name.len())?;
        Ok(Self {
            text: Arc::from(text),
            trust_domain,
        })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpiffeId({})", self.text)
    }
}

impl PartialEq for SpiffeId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SpiffeId {}

impl PartialOrd for SpiffeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SpiffeId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for SpiffeId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

serde_as_text!(SpiffeId);

/// Why a text is not a SPIFFE ID. Positions are byte offsets in the whole ID.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpiffeIdError {
    #[error("a SPIFFE ID has at most 2048 bytes, this one has {length}")]
    TooLong { length: usize },
    #[error("a SPIFFE ID starts with `spiffe://`, in lowercase")]
    Scheme,
    #[error("a SPIFFE ID has no user information, found '@' at byte {position}")]
    UserInfo { position: usize },
    #[error("a SPIFFE ID has no port, found ':' at byte {position}")]
    Port { position: usize },
    #[error("a SPIFFE ID has no query, found '?' at byte {position}")]
    Query { position: usize },
    #[error("a SPIFFE ID has no fragment, found '#' at byte {position}")]
    Fragment { position: usize },
    #[error(transparent)]
    TrustDomain(#[from] TrustDomainError),
    #[error("the path of a SPIFFE ID starts with '/', found {found:?} at byte {position}")]
    PathStart { position: usize, found: char },
    #[error("the path of a SPIFFE ID has no empty segment, found one at byte {position}")]
    EmptySegment { position: usize },
    #[error("the path of a SPIFFE ID has no segment '.' or '..', found one at byte {position}")]
    DotSegment { position: usize },
    #[error("a SPIFFE ID has no slash at its end, found one at byte {position}")]
    TrailingSlash { position: usize },
    #[error("the path of a SPIFFE ID is never percent-encoded, found '%' at byte {position}")]
    PercentEncoding { position: usize },
    #[error(
        "a path segment holds only a-z, A-Z, 0-9, '.', '-' and '_', found {found:?} at byte {position}"
    )]
    PathCharacter { position: usize, found: char },
}

fn check_length(length: usize) -> Result<(), SpiffeIdError> {
    if length > SpiffeId::MAX_LENGTH {
        return Err(SpiffeIdError::TooLong { length });
    }
    Ok(())
}

/// The parts of a URI authority that an ID must not have, named as what they are (SPIFFE-ID §2,
/// §2.1): the character rules would refuse them too, but say less.
fn check_authority_delimiters(rest: &str) -> Result<(), SpiffeIdError> {
    for (index, byte) in rest.bytes().enumerate() {
        let position = SCHEME.len() + index;
        match byte {
            b'/' => return Ok(()),
            b'@' => return Err(SpiffeIdError::UserInfo { position }),
            b':' => return Err(SpiffeIdError::Port { position }),
            b'?' => return Err(SpiffeIdError::Query { position }),
            b'#' => return Err(SpiffeIdError::Fragment { position }),
            _ => {}
        }
    }
    Ok(())
}

/// SPIFFE-ID §2.2. `start` is where the path begins in the whole ID.
fn check_path(path: &str, start: usize) -> Result<(), SpiffeIdError> {
    let Some(first) = path.chars().next() else {
        return Ok(());
    };
    if first != '/' {
        return Err(SpiffeIdError::PathStart {
            position: start,
            found: first,
        });
    }
    let mut position = start + 1;
    for segment in path[1..].split('/') {
        let is_last = position + segment.len() == start + path.len();
        check_segment(segment, position, is_last)?;
        position += segment.len() + 1;
    }
    Ok(())
}

fn check_segment(segment: &str, start: usize, is_last: bool) -> Result<(), SpiffeIdError> {
    match segment {
        "" if is_last => {
            let position = start - 1;
            return Err(SpiffeIdError::TrailingSlash { position });
        }
        "" => return Err(SpiffeIdError::EmptySegment { position: start }),
        "." | ".." => return Err(SpiffeIdError::DotSegment { position: start }),
        _ => {}
    }
    for (index, found) in segment.char_indices() {
        let position = start + index;
        match found {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' => {}
            '%' => return Err(SpiffeIdError::PercentEncoding { position }),
            '?' => return Err(SpiffeIdError::Query { position }),
            '#' => return Err(SpiffeIdError::Fragment { position }),
            _ => return Err(SpiffeIdError::PathCharacter { position, found }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
