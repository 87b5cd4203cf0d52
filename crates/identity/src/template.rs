//! How a workload's name becomes its SPIFFE ID, and back.
//!
//! Invariant: one-to-one. Both placeholders stand once each and fill a whole segment, so no two
//! names give one ID and each ID of this shape belongs to one name. No name can reach the
//! reserved IDs, because the first segment is a literal other than `countersign`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::name::{QualifiedName, is_label};
use crate::serde_text::serde_as_text;
use crate::spiffe_id::{SpiffeId, SpiffeIdError};
use crate::trust_domain::TrustDomain;

const NAMESPACE: &str = "{namespace}";
const NAME: &str = "{name}";

/// Keeps every ID below 2048 bytes: scheme, longest trust domain, this and two labels.
const MAX_LENGTH: usize = 1024;

/// The path of workload IDs in a trust domain, such as `/ns/{namespace}/sa/{name}` (the default).
/// Fixed when the trust domain is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdTemplate {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Namespace,
    Name,
}

impl IdTemplate {
    pub fn id(&self, trust_domain: &TrustDomain, name: &QualifiedName) -> SpiffeId {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            path.push_str(match segment {
                Segment::Literal(text) => text,
                Segment::Namespace => name.namespace.as_str(),
                Segment::Name => name.name.as_str(),
            });
        }
        SpiffeId::new(trust_domain, &path)
            .expect("literals were checked by the parser and labels are valid segments")
    }

    /// The name whose ID this is; none if the ID does not fit the template.
    pub fn name_of(&self, id: &SpiffeId) -> Option<QualifiedName> {
        let (namespace, name) = self.parts_of(id)?;
        Some(QualifiedName {
            namespace: namespace.parse().ok()?,
            name: name.parse().ok()?,
        })
    }

    /// Namespace and name as [`IdTemplate::name_of`] gives them, borrowed from the ID: for those
    /// who ask at each request.
    pub fn parts_of<'a>(&self, id: &'a SpiffeId) -> Option<(&'a str, &'a str)> {
        let mut given = id.segments();
        let (mut namespace, mut name) = (None, None);
        for segment in &self.segments {
            let text = given.next()?;
            match segment {
                Segment::Literal(literal) if literal == text => {}
                Segment::Literal(_) => return None,
                Segment::Namespace => namespace = is_label(text).then_some(text),
                Segment::Name => name = is_label(text).then_some(text),
            }
        }
        match given.next() {
            Some(_) => None,
            None => Some((namespace?, name?)),
        }
    }
}

impl Default for IdTemplate {
    fn default() -> Self {
        Self {
            segments: vec![
                Segment::Literal("ns".to_owned()),
                Segment::Namespace,
                Segment::Literal("sa".to_owned()),
                Segment::Name,
            ],
        }
    }
}

impl FromStr for IdTemplate {
    type Err = IdTemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_LENGTH {
            return Err(IdTemplateError::TooLong { length: text.len() });
        }
        let path = text.strip_prefix('/').ok_or(IdTemplateError::Start)?;
        let segments = path
            .split('/')
            .map(parse_segment)
            .collect::<Result<Vec<_>, _>>()?;
        require_once(&segments, &Segment::Namespace, NAMESPACE)?;
        require_once(&segments, &Segment::Name, NAME)?;
        match segments.first() {
            Some(Segment::Literal(text)) if text != "countersign" => Ok(Self { segments }),
            _ => Err(IdTemplateError::Reserved),
        }
    }
}

impl fmt::Display for IdTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            let text = match segment {
                Segment::Literal(text) => text,
                Segment::Namespace => NAMESPACE,
                Segment::Name => NAME,
            };
            write!(f, "/{text}")?;
        }
        Ok(())
    }
}

serde_as_text!(IdTemplate);

/// Why a text is not an ID template.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdTemplateError {
    #[error("an ID template has at most 1024 bytes, this one has {length}")]
    TooLong { length: usize },
    #[error("an ID template starts with '/'")]
    Start,
    #[error("the segment {segment:?} is neither a placeholder nor a valid path segment: {reason}")]
    Segment {
        segment: String,
        reason: SpiffeIdError,
    },
    #[error("an ID template holds the segment {placeholder} once, this one {count} times")]
    Placeholder {
        placeholder: &'static str,
        count: usize,
    },
    #[error("an ID template starts with a literal segment other than `countersign`")]
    Reserved,
}

fn parse_segment(text: &str) -> Result<Segment, IdTemplateError> {
    match text {
        NAMESPACE => Ok(Segment::Namespace),
        NAME => Ok(Segment::Name),
        literal => match format!("spiffe://td/{literal}").parse::<SpiffeId>() {
            Ok(_) => Ok(Segment::Literal(literal.to_owned())),
            Err(reason) => Err(IdTemplateError::Segment {
                segment: literal.to_owned(),
                reason,
            }),
        },
    }
}

fn require_once(
    segments: &[Segment],
    wanted: &Segment,
    placeholder: &'static str,
) -> Result<(), IdTemplateError> {
    match segments.iter().filter(|segment| *segment == wanted).count() {
        1 => Ok(()),
        count => Err(IdTemplateError::Placeholder { placeholder, count }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: IdTemplateError) {
        assert_eq!(text.parse::<IdTemplate>(), Err(expected), "{text:?}");
    }

    fn domain() -> TrustDomain {
        "corp.example".parse().unwrap()
    }

    #[test]
    fn a_placeholder_missing_doubled_or_within_a_segment_is_refused() {
        let (placeholder, count) = (NAMESPACE, 0);
        refused(
            "/sa/{name}",
            IdTemplateError::Placeholder { placeholder, count },
        );
        let (placeholder, count) = (NAME, 2);
        refused(
            "/a/{namespace}/{name}/{name}",
            IdTemplateError::Placeholder { placeholder, count },
        );
        assert!(matches!(
            "/ns/{namespace}-{name}".parse::<IdTemplate>(),
            Err(IdTemplateError::Segment { segment, .. }) if segment == "{namespace}-{name}"
        ));
    }

    #[test]
    fn a_template_that_could_reach_reserved_ids_is_refused() {
        refused("/{namespace}/{name}", IdTemplateError::Reserved);
        refused("/countersign/{namespace}/{name}", IdTemplateError::Reserved);
    }

    #[test]
    fn a_template_with_a_bad_literal_is_refused() {
        for text in [
            "/a b/{namespace}/{name}",
            "/a//{namespace}/{name}",
            "/ns/{namespace}/{name}/",
        ] {
            assert!(
                matches!(
                    text.parse::<IdTemplate>(),
                    Err(IdTemplateError::Segment { .. })
                ),
                "{text}"
            );
        }
        refused("ns/{namespace}/{name}", IdTemplateError::Start);
    }

    #[test]
    fn ids_of_another_shape_have_no_name() {
        let template = IdTemplate::default();
        for text in [
            "spiffe://corp.example",
            "spiffe://corp.example/ns/shop/sa",
            "spiffe://corp.example/ns/shop/sa/orders/x",
            "spiffe://corp.example/ns/shop/role/orders",
            "spiffe://corp.example/ns/Shop/sa/orders",
        ] {
            assert_eq!(template.name_of(&text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn default_template_gives_the_documented_shape() {
        let id = IdTemplate::default().id(&domain(), &"shop/orders".parse().unwrap());
        assert_eq!(id.as_str(), "spiffe://corp.example/ns/shop/sa/orders");
        assert_eq!(
            IdTemplate::default().to_string(),
            "/ns/{namespace}/sa/{name}"
        );
    }

    proptest! {
        #[test]
        fn names_and_ids_are_one_to_one(
            name in "[a-z0-9]{1,20}/[a-z0-9]{1,20}",
            template in "(/[a-z]{1,5}){1,3}/\\{namespace\\}(/[a-z]{1,5}){0,2}/\\{name\\}(/x)?",
        ) {
            prop_assume!(!template.starts_with("/countersign/"));
            let name: QualifiedName = name.parse().unwrap();
            let parsed: IdTemplate = template.parse().unwrap();
            prop_assert_eq!(parsed.to_string(), template);
            prop_assert_eq!(parsed.name_of(&parsed.id(&domain(), &name)), Some(name));
        }

        #[test]
        fn no_text_panics(text in "[/{}a-z.]{0,40}") {
            let _ = text.parse::<IdTemplate>();
        }
    }
}
