//! What people call a workload or a service: `namespace/name`.
//!
//! Invariant: each part is a DNS label (RFC 1123 §2.1, lowercase): 1 to 63 bytes of `a-z 0-9 -`
//! that start and end with a letter or digit, so that it fits host names and SPIFFE IDs as is.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::serde_text::serde_as_text;

const MAX_LABEL: usize = 63;

macro_rules! dns_label {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                check_label(text)?;
                Ok(Self(Arc::from(text)))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self.0)
            }
        }

        serde_as_text!($type);
    };
}

dns_label!(
    /// The namespace of a workload, service or policy. Cloning is cheap.
    Namespace
);
dns_label!(
    /// A name that is unique for its kind within its namespace. Cloning is cheap.
    Name
);

/// `namespace/name`, such as `shop/orders`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    pub namespace: Namespace,
    pub name: Name,
}

impl FromStr for QualifiedName {
    type Err = QualifiedNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = text.split_once('/').ok_or(QualifiedNameError::Shape)?;
        if name.contains('/') {
            return Err(QualifiedNameError::Shape);
        }
        Ok(Self {
            namespace: namespace.parse().map_err(QualifiedNameError::Namespace)?,
            name: name.parse().map_err(QualifiedNameError::Name)?,
        })
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QualifiedName({self})")
    }
}

serde_as_text!(QualifiedName);

/// Why a text is not a namespace or a name. Positions are byte offsets in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    #[error("a name is not empty")]
    Empty,
    #[error("a name has at most 63 bytes, this one has {length}")]
    TooLong { length: usize },
    #[error("a name holds only a-z, 0-9 and '-', found {found:?} at byte {position}")]
    Character { position: usize, found: char },
    #[error("a name starts and ends with a letter or digit, found '-' at byte {position}")]
    Edge { position: usize },
}

/// Why a text is not `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QualifiedNameError {
    #[error("expected `namespace/name`, with exactly one '/'")]
    Shape,
    #[error("the namespace is invalid: {0}")]
    Namespace(NameError),
    #[error("the name is invalid: {0}")]
    Name(NameError),
}

pub(crate) fn is_label(text: &str) -> bool {
    check_label(text).is_ok()
}

fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_LABEL {
        return Err(NameError::TooLong { length: text.len() });
    }
    for (position, found) in text.char_indices() {
        if !matches!(found, 'a'..='z' | '0'..='9' | '-') {
            return Err(NameError::Character { position, found });
        }
    }
    if text.starts_with('-') {
        return Err(NameError::Edge { position: 0 });
    }
    if text.ends_with('-') {
        let position = text.len() - 1;
        return Err(NameError::Edge { position });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: NameError) {
        assert_eq!(text.parse::<Name>(), Err(expected), "{text:?}");
    }

    #[test]
    fn labels_that_no_host_name_could_hold_are_refused() {
        refused("", NameError::Empty);
        refused(&"a".repeat(64), NameError::TooLong { length: 64 });
        refused("-a", NameError::Edge { position: 0 });
        refused("a-", NameError::Edge { position: 1 });
        for (text, position, found) in [("aB", 1, 'B'), ("a.b", 1, '.'), ("ä", 0, 'ä')] {
            refused(text, NameError::Character { position, found });
        }
    }

    #[test]
    fn label_of_63_bytes_is_accepted() {
        let longest = "a".repeat(63);
        assert_eq!(longest.parse::<Namespace>().unwrap().as_str(), longest);
    }

    #[test]
    fn qualified_name_needs_exactly_one_slash() {
        for text in ["orders", "a/b/c", ""] {
            assert_eq!(
                text.parse::<QualifiedName>(),
                Err(QualifiedNameError::Shape),
                "{text}"
            );
        }
    }

    #[test]
    fn qualified_name_says_which_part_is_wrong() {
        assert_eq!(
            "/orders".parse::<QualifiedName>(),
            Err(QualifiedNameError::Namespace(NameError::Empty))
        );
        assert_eq!(
            "shop/".parse::<QualifiedName>(),
            Err(QualifiedNameError::Name(NameError::Empty))
        );
    }

    proptest! {
        #[test]
        fn qualified_names_survive_a_round_trip(
            text in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
        ) {
            prop_assert_eq!(text.parse::<QualifiedName>().unwrap().to_string(), text);
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<QualifiedName>();
        }
    }
}
