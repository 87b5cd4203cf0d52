//! A cursor over a JSON value that knows where it is, so that each refusal names its place.

use std::fmt::Display;
use std::str::FromStr;

use identity::{Name, QualifiedName};
use serde_json::{Map, Value};

use super::{ParseCode, ParseError};

/// A value and the JSON pointer that leads to it.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    value: &'a Value,
    pointer: String,
}

/// Which fields a mapping has.
#[derive(Debug)]
pub(crate) struct Shape {
    /// The mapping, as a message calls it: "a port".
    pub(crate) what: &'static str,
    /// Fields that this version obeys.
    pub(crate) known: &'static [&'static str],
    /// Fields of the design that this version refuses.
    pub(crate) later: &'static [&'static str],
}

/// A mapping all of whose keys are known.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
    what: &'static str,
}

impl<'a> Node<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self {
            value,
            pointer: String::new(),
        }
    }

    /// A mapping of the given shape. Unknown keys are refused before anything else is read, so
    /// that a misspelt field is reported as such, and not as a missing one.
    pub(crate) fn fields(&self, shape: &Shape) -> Result<Fields<'a>, ParseError> {
        let map = self.mapping(shape.what)?;
        for key in map.keys() {
            if shape.known.contains(&key.as_str()) {
                continue;
            }
            let at = self.child(key, &map[key]);
            if shape.later.contains(&key.as_str()) {
                return Err(at.not_yet(format!("`{key}` of {} is not yet supported", shape.what)));
            }
            let message = format!("{} has no field `{key}`", shape.what);
            return Err(at
                .refuse(ParseCode::UnknownField, message)
                .suggest_nearest(key, shape.known));
        }
        Ok(Fields {
            map,
            pointer: self.pointer.clone(),
            what: shape.what,
        })
    }

    /// A mapping whose keys are names of the user's own.
    pub(crate) fn entries(&self, what: &str) -> Result<Vec<(&'a str, Self)>, ParseError> {
        let map = self.mapping(what)?;
        Ok(map
            .iter()
            .map(|(key, value)| (key.as_str(), self.child(key, value)))
            .collect())
    }

    pub(crate) fn is_mapping(&self) -> bool {
        self.value.is_object()
    }

    pub(crate) fn list(&self) -> Result<Vec<Self>, ParseError> {
        let Value::Array(items) = self.value else {
            return Err(self.wrong_type("a list"));
        };
        Ok(items
            .iter()
            .enumerate()
            .map(|(index, value)| Self {
                value,
                pointer: format!("{}/{index}", self.pointer),
            })
            .collect())
    }

    pub(crate) fn non_empty_list(&self, rule: &str) -> Result<Vec<Self>, ParseError> {
        let items = self.list()?;
        if items.is_empty() {
            return Err(self.invalid(format!("`{}` must not be empty: {rule}", self.label())));
        }
        Ok(items)
    }

    /// A list that is not empty and has nothing twice.
    pub(crate) fn distinct<T: PartialEq>(
        &self,
        rule: &str,
        read: impl Fn(&Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut values = Vec::new();
        for at in self.non_empty_list(rule)? {
            let value = read(&at)?;
            if values.contains(&value) {
                return Err(at.duplicate("this entry is already in the list"));
            }
            values.push(value);
        }
        Ok(values)
    }

    pub(crate) fn text(&self) -> Result<&'a str, ParseError> {
        match self.value {
            Value::String(text) => Ok(text),
            Value::Bool(_) | Value::Number(_) => {
                let quoted = format!("\"{}\"", self.value);
                Err(self.wrong_type("text").suggest(quoted))
            }
            _ => Err(self.wrong_type("text")),
        }
    }

    /// Text of a type that knows its own rules.
    pub(crate) fn parsed<T>(&self) -> Result<T, ParseError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.text()?;
        if text.contains('*') {
            let rule = format!(
                "`{}` must be an exact name: there are no wildcards",
                self.label()
            );
            return Err(self.invalid(rule));
        }
        text.parse().map_err(|error: T::Err| {
            self.invalid(format!("`{}` is refused: {error}", self.label()))
        })
    }

    pub(crate) fn boolean(&self) -> Result<bool, ParseError> {
        self.value
            .as_bool()
            .ok_or_else(|| self.wrong_type("true or false"))
    }

    /// A whole number from `least` up to what `T` holds.
    pub(crate) fn number<T>(&self, least: u64) -> Result<T, ParseError>
    where
        T: TryFrom<u64>,
    {
        let number = self.value.as_u64().filter(|number| *number >= least);
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| {
                let bits = 8 * size_of::<T>();
                let rule = format!(
                    "a whole number from {least} up to {}",
                    u64::MAX >> (64 - bits)
                );
                match self.value {
                    Value::String(text) if text.parse::<u64>().is_ok() => {
                        self.wrong_type(&rule).suggest(text.as_str())
                    }
                    _ => self.wrong_type(&rule),
                }
            })
    }

    /// `metadata` of a namespaced kind.
    pub(crate) fn qualified_name(&self) -> Result<QualifiedName, ParseError> {
        let fields = self.fields(&Shape {
            what: "metadata",
            known: &["namespace", "name"],
            later: &[],
        })?;
        Ok(QualifiedName {
            namespace: fields.required("namespace")?.parsed()?,
            name: fields.required("name")?.parsed()?,
        })
    }

    /// `metadata` of a kind without namespaces.
    pub(crate) fn bare_name(&self) -> Result<Name, ParseError> {
        let fields = self.fields(&Shape {
            what: "metadata of a Baseline",
            known: &["name"],
            later: &[],
        })?;
        fields.required("name")?.parsed()
    }

    pub(crate) fn refuse(&self, code: ParseCode, message: impl Into<String>) -> ParseError {
        ParseError::new(code, message).at(&self.pointer)
    }

    pub(crate) fn invalid(&self, message: impl Into<String>) -> ParseError {
        self.refuse(ParseCode::InvalidValue, message)
    }

    pub(crate) fn duplicate(&self, message: impl Into<String>) -> ParseError {
        self.refuse(ParseCode::Duplicate, message)
    }

    pub(crate) fn not_yet(&self, message: impl Into<String>) -> ParseError {
        self.refuse(ParseCode::NotYetSupported, message)
    }

    fn mapping(&self, what: &str) -> Result<&'a Map<String, Value>, ParseError> {
        match self.value {
            Value::Object(map) => Ok(map),
            _ => Err(self.invalid(format!(
                "{what} must be a mapping, not {}",
                shown(self.value)
            ))),
        }
    }

    pub(super) fn decimal(&self) -> Option<f64> {
        self.value.as_f64()
    }

    pub(super) fn wrong_type(&self, expected: &str) -> ParseError {
        let message = format!(
            "`{}` must be {expected}, not {}",
            self.label(),
            shown(self.value)
        );
        self.invalid(message)
    }

    fn child(&self, key: &str, value: &'a Value) -> Self {
        Self {
            value,
            pointer: child_pointer(&self.pointer, key),
        }
    }

    /// The field's own name: the last step of the pointer that is no index.
    pub(crate) fn label(&self) -> &str {
        let is_index = |step: &&str| step.bytes().all(|byte| byte.is_ascii_digit());
        let named = self.pointer.rsplit('/').find(|step| !is_index(step));
        named.unwrap_or("the document")
    }
}

impl<'a> Fields<'a> {
    pub(crate) fn optional(&self, key: &str) -> Option<Node<'a>> {
        self.map.get(key).map(|value| Node {
            value,
            pointer: child_pointer(&self.pointer, key),
        })
    }

    pub(crate) fn required(&self, key: &str) -> Result<Node<'a>, ParseError> {
        self.optional(key).ok_or_else(|| {
            let message = format!("{} must have `{key}`", self.what);
            ParseError::new(ParseCode::MissingField, message).at(&self.pointer)
        })
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.map.keys().map(String::as_str)
    }
}

impl ParseError {
    /// Proposes the known word that is most like what was written, if one is near.
    pub(crate) fn suggest_nearest(self, written: &str, known: &[&str]) -> Self {
        let similarity =
            |word: &&str| strsim::jaro_winkler(&written.to_lowercase(), &word.to_lowercase());
        let nearest = known
            .iter()
            .map(|word| (similarity(word), *word))
            .filter(|(likeness, _)| *likeness >= 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match nearest {
            Some((_, word)) => self.suggest(word),
            None => self,
        }
    }
}

/// RFC 6901 §3: `~` and `/` inside a key are escaped.
fn child_pointer(parent: &str, key: &str) -> String {
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}
