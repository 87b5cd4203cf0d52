//! The name of a trust domain (SPIFFE-ID §2.1).
//!
//! Invariant: not empty, at most 255 bytes, only `a-z 0-9 . - _`. Nothing is folded or decoded:
//! a name that is not already canonical is refused.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::serde_text::serde_as_text;

/// A trust domain name such as `corp.example`. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The longest name, in bytes: the limit of a URI host (SPIFFE-ID §2.3).
    pub const MAX_LENGTH: usize = 255;

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain as an ID, `spiffe://<name>`, without a slash at the end: what signing
    /// certificates carry and what keys the bundle maps of the Workload API.
    pub fn id(&self) -> String {
        format!("spiffe://{}", self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = TrustDomainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check(text)?;
        Ok(Self(Arc::from(text)))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustDomain({})", self.0)
    }
}

serde_as_text!(TrustDomain);

/// Why a text is not a trust domain name. Positions are byte offsets in the name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrustDomainError {
    #[error("the trust domain name is empty")]
    Empty,
    #[error("a trust domain name has at most 255 bytes, this one has {length}")]
    TooLong { length: usize },
    #[error("a trust domain name is lowercase, found {found:?} at byte {position} of it")]
    Uppercase { position: usize, found: char },
    #[error("a trust domain name is never percent-encoded, found '%' at byte {position} of it")]
    PercentEncoding { position: usize },
    #[error(
        "a trust domain name holds only a-z, 0-9, '.', '-' and '_', found {found:?} at byte {position} of it"
    )]
    Character { position: usize, found: char },
}

/// The rules apply to the characters alone. A name that looks like an IPv4 address or a DNS name
/// is judged like any other (SPIFFE-ID §2.1: "MUST NOT" be treated differently).
fn check(text: &str) -> Result<(), TrustDomainError> {
    if text.is_empty() {
        return Err(TrustDomainError::Empty);
    }
    if text.len() > TrustDomain::MAX_LENGTH {
        return Err(TrustDomainError::TooLong { length: text.len() });
    }
    for (position, found) in text.char_indices() {
        match found {
            'a'..='z' | '0'..='9' | '.' | '-' | '_' => {}
            'A'..='Z' => return Err(TrustDomainError::Uppercase { position, found }),
            '%' => return Err(TrustDomainError::PercentEncoding { position }),
            _ => return Err(TrustDomainError::Character { position, found }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: TrustDomainError) {
        assert_eq!(text.parse::<TrustDomain>(), Err(expected), "{text:?}");
    }

    #[test]
    fn empty_name_is_refused() {
        refused("", TrustDomainError::Empty);
    }

    #[test]
    fn name_over_255_bytes_is_refused_and_255_is_accepted() {
        refused(&"a".repeat(256), TrustDomainError::TooLong { length: 256 });
        assert!("a".repeat(255).parse::<TrustDomain>().is_ok());
    }

    #[test]
    fn uppercase_is_refused_not_folded() {
        let (position, found) = (4, 'E');
        refused("corpEx", TrustDomainError::Uppercase { position, found });
    }

    #[test]
    fn percent_encoding_is_refused() {
        refused("a%41", TrustDomainError::PercentEncoding { position: 1 });
    }

    #[test]
    fn characters_outside_the_set_are_refused_with_their_position() {
        for (text, position, found) in [
            ("a:1", 1, ':'),
            ("u@a", 1, '@'),
            ("[::1]", 0, '['),
            ("aé", 1, 'é'),
            ("a b", 1, ' '),
        ] {
            refused(text, TrustDomainError::Character { position, found });
        }
    }

    #[test]
    fn names_that_look_like_addresses_are_names() {
        for text in ["1.2.3.4", "-", "_", "..", "a.b-c_d.9"] {
            assert_eq!(text.parse::<TrustDomain>().unwrap().as_str(), text);
        }
    }

    proptest! {
        #[test]
        fn every_name_of_the_allowed_characters_survives_a_round_trip(text in "[a-z0-9._-]{1,255}") {
            let name: TrustDomain = text.parse().unwrap();
            prop_assert_eq!(name.to_string(), text);
        }

        #[test]
        fn no_text_panics_and_what_is_accepted_obeys_the_rules(text in ".{0,300}") {
            if let Ok(name) = text.parse::<TrustDomain>() {
                prop_assert!((1..=255).contains(&name.as_str().len()));
                prop_assert!(name.as_str().bytes().all(
                    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b)
                ));
            }
        }
    }
}
