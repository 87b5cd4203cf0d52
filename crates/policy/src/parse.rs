//! Text to objects: YAML (or JSON, its subset) in, typed values or one exact refusal out.
//!
//! Bounded before anything is built: input size, documents, depth, anchors and what aliases
//! expand to. Duplicate keys, unknown fields, merge keys and everything that the design has but
//! this version has not are refused; nothing is accepted and ignored.

use std::fmt;

use serde_json::Value;

use crate::resource::{
    API_VERSION, Baseline, External, Gateway, Kind, KindError, Policy, Resource, Route, Service,
    Workload,
};

mod node;
mod quantity;
mod yaml;

pub(crate) use node::{Fields, Node, Shape};
pub(crate) use quantity::shown;

/// Why a text is no object. Exactly one place is named: the first that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Which document of the text, counted from 0; empty documents do not count.
    pub document: usize,
    /// Where in the document (RFC 6901); empty when it is the whole.
    pub pointer: String,
    /// The kind of mistake, stable.
    pub code: ParseCode,
    /// The field and the rule.
    pub message: String,
    /// What to write instead, where that can be said.
    pub suggestion: Option<String>,
}

/// Stable codes of [`ParseError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseCode {
    /// Not YAML or JSON, or with a duplicate key.
    Syntax,
    /// More than the bounds allow.
    TooLarge,
    /// A field that no object of this kind has.
    UnknownField,
    /// A required field is not there.
    MissingField,
    /// The value breaks the field's rule.
    InvalidValue,
    /// In the design, not in this version.
    NotYetSupported,
    /// No such kind.
    UnknownKind,
    /// The text contains the same thing twice.
    Duplicate,
}

impl ParseCode {
    /// As it appears in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::TooLarge => "too-large",
            Self::UnknownField => "unknown-field",
            Self::MissingField => "missing-field",
            Self::InvalidValue => "invalid-value",
            Self::NotYetSupported => "not-yet-supported",
            Self::UnknownKind => "unknown-kind",
            Self::Duplicate => "duplicate",
        }
    }
}

impl fmt::Display for ParseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ParseError {
    pub(crate) fn new(code: ParseCode, message: impl Into<String>) -> Self {
        Self {
            document: 0,
            pointer: String::new(),
            code,
            message: message.into(),
            suggestion: None,
        }
    }

    pub(crate) fn at(mut self, pointer: &str) -> Self {
        pointer.clone_into(&mut self.pointer);
        self
    }

    pub(crate) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    fn in_document(mut self, document: usize) -> Self {
        self.document = document;
        self
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {}", self.document)?;
        if !self.pointer.is_empty() {
            write!(f, ", {}", self.pointer)?;
        }
        write!(f, ": {} ({})", self.message, self.code)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; try `{suggestion}`"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {}

/// Reads every document of a YAML or JSON text. Empty documents are skipped; one object twice in
/// a text is refused, since the order of documents must not matter.
pub fn parse_documents(text: &str) -> Result<Vec<Resource>, ParseError> {
    let mut resources: Vec<Resource> = Vec::new();
    let mut keys = std::collections::BTreeSet::new();
    for (index, value) in yaml::values(text)?.iter().enumerate() {
        let resource = parse_json(value).map_err(|error| error.in_document(index))?;
        if !keys.insert(resource.key()) {
            let message = format!("{} occurs twice in this text", resource.key());
            return Err(ParseError::new(ParseCode::Duplicate, message).in_document(index));
        }
        resources.push(resource);
    }
    Ok(resources)
}

const OBJECT: Shape = Shape {
    what: "an object",
    known: &["apiVersion", "kind", "metadata", "spec"],
    later: &[],
};

/// Reads one object.
pub fn parse_json(value: &Value) -> Result<Resource, ParseError> {
    let fields = Node::root(value).fields(&OBJECT)?;
    let version = fields.required("apiVersion")?;
    if version.text()? != API_VERSION {
        let rule = format!("apiVersion must be {API_VERSION}");
        return Err(version.invalid(rule).suggest(API_VERSION));
    }
    let kind = read_kind(&fields.required("kind")?)?;
    let metadata = fields.required("metadata")?;
    let spec = fields.required("spec")?;
    Ok(match kind {
        Kind::Workload => Resource::Workload(Workload::read(metadata.qualified_name()?, &spec)?),
        Kind::Service => Resource::Service(Service::read(metadata.qualified_name()?, &spec)?),
        Kind::Policy => Resource::Policy(Policy::read(metadata.qualified_name()?, &spec)?),
        Kind::Baseline => Resource::Baseline(Baseline::read(metadata.bare_name()?, &spec)?),
        Kind::Route => Resource::Route(Route::read(metadata.qualified_name()?, &spec)?),
        Kind::Gateway => Resource::Gateway(Gateway::read(metadata.qualified_name()?, &spec)?),
        Kind::External => Resource::External(External::read(metadata.qualified_name()?, &spec)?),
    })
}

fn read_kind(node: &Node<'_>) -> Result<Kind, ParseError> {
    let text = node.text()?;
    text.parse().map_err(|error: KindError| {
        let known = Kind::ALL.map(Kind::as_str);
        node.refuse(ParseCode::UnknownKind, error.to_string())
            .suggest_nearest(text, &known)
    })
}

#[cfg(test)]
mod tests;
