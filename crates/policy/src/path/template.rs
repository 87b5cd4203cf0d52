//! Path templates: literal segments, `{name}` for one, `{name=**}` last for one or more.
//!
//! A template is compared segment by segment with a canonical path, never as a text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{CanonicalPath, PathAmbiguous};

/// A template such as `/v1/orders/{id}/{rest=**}`.
#[derive(Debug, Clone)]
pub struct PathTemplate {
    text: Arc<str>,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// One segment, not empty.
    One,
    /// All that is left: not nothing, and not an empty segment alone.
    Rest,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// It does not begin with `/`.
    #[error("a path template begins with `/`")]
    NotAbsolute,
    /// A literal that no request can have.
    #[error("the literal segment {segment:?} can never be in a request: {reason}")]
    Literal {
        /// As written.
        segment: String,
        /// The rule of paths that it breaks.
        reason: PathAmbiguous,
    },
    /// A literal that requests have in another spelling.
    #[error("requests have the segment {segment:?} in the form {canonical:?}")]
    NotCanonical {
        /// As written.
        segment: String,
        /// As it will be compared.
        canonical: String,
    },
    /// `*`, or braces amid a segment.
    #[error(
        "the segment {0:?} has a wildcard: write {{name}} for one segment, or {{name=**}} last for all that follow"
    )]
    Wildcard(String),
    /// Braces around other than a name.
    #[error(
        "the placeholder {0:?} must be {{name}} or {{name=**}}, of small letters, digits and `_`"
    )]
    Placeholder(String),
    /// Something follows `{name=**}`.
    #[error("{{name=**}} must be the last segment")]
    RestNotLast,
    /// A name stands twice.
    #[error("the placeholder {0:?} occurs twice")]
    Repeated(String),
}

impl InvalidTemplate {
    /// What to write instead, where that can be said.
    pub fn suggestion(&self) -> Option<String> {
        match self {
            Self::NotCanonical { canonical, .. } => Some(canonical.clone()),
            Self::Wildcard(_) => Some("{rest=**}".to_owned()),
            _ => None,
        }
    }
}

impl PathTemplate {
    /// The template as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole path fits.
    pub fn matches(&self, path: &CanonicalPath) -> bool {
        let mut given = path.segments();
        for segment in &self.segments {
            let Some(text) = given.next() else {
                return false;
            };
            match segment {
                Segment::Literal(literal) if literal == text => {}
                Segment::One if !text.is_empty() => {}
                Segment::Rest => return !text.is_empty(),
                _ => return false,
            }
        }
        given.next().is_none()
    }

    /// How many segments are literal: more of them make a template more specific.
    pub fn literal_segments(&self) -> usize {
        let literals = self.segments.iter();
        literals
            .filter(|segment| matches!(segment, Segment::Literal(_)))
            .count()
    }

    /// The first segment, if it is literal.
    pub(crate) fn first_literal(&self) -> Option<&str> {
        match self.segments.first()? {
            Segment::Literal(literal) => Some(literal),
            Segment::One | Segment::Rest => None,
        }
    }

    /// The template without the names of its placeholders: two with the same shape fit the same
    /// paths.
    pub fn shape(&self) -> String {
        let segment = |segment: &Segment| match segment {
            Segment::Literal(literal) => format!("/{literal}"),
            Segment::One => "/{}".to_owned(),
            Segment::Rest => "/{=**}".to_owned(),
        };
        self.segments.iter().map(segment).collect()
    }

    pub(crate) fn shared_text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }
}

impl PartialEq for PathTemplate {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathTemplate {}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for PathTemplate {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let rest = text.strip_prefix('/').ok_or(InvalidTemplate::NotAbsolute)?;
        let mut names = Vec::new();
        let mut segments = Vec::new();
        let mut steps = rest.split('/').peekable();
        while let Some(step) = steps.next() {
            let is_last = steps.peek().is_none();
            let (segment, name) = parse_segment(step, is_last)?;
            if segment == Segment::Rest && !is_last {
                return Err(InvalidTemplate::RestNotLast);
            }
            if name.is_some_and(|name| names.contains(&name)) {
                return Err(InvalidTemplate::Repeated(step.to_owned()));
            }
            names.extend(name);
            segments.push(segment);
        }
        Ok(Self {
            text: text.into(),
            segments,
        })
    }
}

fn parse_segment(step: &str, is_last: bool) -> Result<(Segment, Option<&str>), InvalidTemplate> {
    let braced = step
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    if let Some(inside) = braced {
        let (name, segment) = match inside.split_once('=') {
            Some((name, "**")) => (name, Segment::Rest),
            Some(_) => return Err(InvalidTemplate::Placeholder(step.to_owned())),
            None => (inside, Segment::One),
        };
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || !name.bytes().all(legal) {
            return Err(InvalidTemplate::Placeholder(step.to_owned()));
        }
        return Ok((segment, Some(name)));
    }
    if step.contains(['*', '{', '}']) {
        return Err(InvalidTemplate::Wildcard(step.to_owned()));
    }
    literal(step, is_last).map(|segment| (segment, None))
}

fn literal(step: &str, is_last: bool) -> Result<Segment, InvalidTemplate> {
    let refuse = |reason| InvalidTemplate::Literal {
        segment: step.to_owned(),
        reason,
    };
    if step.is_empty() && !is_last {
        return Err(refuse(PathAmbiguous::EmptySegment));
    }
    let canonical = CanonicalPath::parse(format!("/{step}")).map_err(refuse)?;
    let canonical = &canonical.as_str()[1..];
    if canonical != step {
        return Err(InvalidTemplate::NotCanonical {
            segment: step.to_owned(),
            canonical: canonical.to_owned(),
        });
    }
    Ok(Segment::Literal(step.to_owned()))
}

#[cfg(test)]
mod tests;
