//! A host name that a certificate may carry beside its SPIFFE ID.
//!
//! Invariant: labels as RFC 1123 §2.1 has them, lowercase, joined by dots, at most 253 bytes.
//! It refuses wildcards, a dot at the end, and names whose last label is a number: those could be
//! taken for an IPv4 address.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::name::{Name, NameError};
use crate::serde_text::serde_as_text;

const MAX_LENGTH: usize = 253;

/// A DNS name such as `orders.shop.mesh.internal`. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Arc<str>);

impl DnsName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DnsName {
    type Err = DnsNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_LENGTH {
            return Err(DnsNameError::TooLong { length: text.len() });
        }
        for label in text.split('.') {
            if let Err(reason) = label.parse::<Name>() {
                let label = label.to_owned();
                return Err(DnsNameError::Label { label, reason });
            }
        }
        let last = text.rsplit('.').next().unwrap_or(text);
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DnsNameError::Address);
        }
        Ok(Self(Arc::from(text)))
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnsName({})", self.0)
    }
}

serde_as_text!(DnsName);

/// Why a text is not a DNS name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DnsNameError {
    #[error("a DNS name has at most 253 bytes, this one has {length}")]
    TooLong { length: usize },
    #[error("the label {label:?} of the DNS name is invalid: {reason}")]
    Label { label: String, reason: NameError },
    #[error("a DNS name does not end in a number, as an address does")]
    Address,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_could_mean_something_else_are_refused() {
        let label = |label: &str, reason| DnsNameError::Label {
            label: label.to_owned(),
            reason,
        };
        let (position, found) = (0, '*');
        for (text, expected) in [
            (
                "*.shop.internal",
                label("*", NameError::Character { position, found }),
            ),
            ("shop.", label("", NameError::Empty)),
            ("", label("", NameError::Empty)),
            ("a..b", label("", NameError::Empty)),
            ("10.0.0.1", DnsNameError::Address),
        ] {
            assert_eq!(text.parse::<DnsName>(), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn names_over_253_bytes_are_refused() {
        let text = format!("{}a", "a.".repeat(127));
        assert_eq!(
            text.parse::<DnsName>(),
            Err(DnsNameError::TooLong { length: 255 })
        );
        assert!(text[2..].parse::<DnsName>().is_ok());
    }

    proptest! {
        #[test]
        fn host_names_survive_a_round_trip(text in "[a-z0-9]{1,9}(\\.[a-z0-9]{1,9}){0,4}\\.[a-z]{1,9}") {
            prop_assert_eq!(text.parse::<DnsName>().unwrap().to_string(), text);
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = text.parse::<DnsName>();
        }
    }
}
