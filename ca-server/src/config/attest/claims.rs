//! How what an issuer says of somebody becomes a name and selectors, and which of it must be so.
//!
//! Invariant: a template gives two different sets of claims two different texts, since no claim may
//! hold the text that ends it.

use std::str::FromStr;

use identity::jwt::VerifiedJwt;
use policy::resource::SelectorValue;
use serde::Deserialize;
use serde_json::Value;

/// An agent's name: text with claims in braces, as JSON pointers (RFC 6901):
/// `{/kubernetes.io/pod/name}`. At least one, or all agents would be one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ClaimTemplate(Template);

/// What an agent holds as a selector: as [`ClaimTemplate`], or a fixed text, in the wider alphabet of
/// a [`SelectorValue`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SelectorTemplate(Template);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Template {
    before: String,
    claims: Vec<Placed>,
}

/// Which text may stand in what a template gives.
#[derive(Clone, Copy)]
struct Alphabet {
    holds: fn(&str) -> bool,
    broken: ClaimTemplateError,
}

/// What a segment of a SPIFFE ID may hold.
const NAME: Alphabet = Alphabet {
    holds: is_plain,
    broken: ClaimTemplateError::Text,
};

const SELECTOR: Alphabet = Alphabet {
    holds: is_visible,
    broken: ClaimTemplateError::Selector,
};

/// A claim, and the text after it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed {
    pointer: ClaimPointer,
    after: String,
}

/// Where a claim stands in a token.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ClaimPointer(String);

/// What a claim must be: one of these.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OneOf {
    Only(String),
    Any(Vec<String>),
}

/// Text that is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimTemplateError {
    #[error("a claim is a JSON pointer, such as /sub or /kubernetes.io/namespace")]
    Pointer,
    #[error("a claim in a template stands in braces, each closed before the next")]
    Braces,
    #[error("a template names at least one claim")]
    NoClaim,
    #[error("two claims must have text between them, or they cannot be told apart")]
    NothingBetween,
    #[error("the text of a template has letters, digits, dots, dashes and underscores")]
    Text,
    #[error("a selector has 1 to 255 visible ASCII characters, without spaces")]
    Selector,
}

/// Why what a token says gives no name, or is not enough.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimRefused {
    #[error("the token has no text or number at {0}")]
    Missing(String),
    #[error("what the token has at {0} is not what [[attest.jwt]] requires")]
    Other(String),
    #[error("what the token has at {0} cannot stand in a name or a selector")]
    Unfit(String),
    #[error("what the token has at {0} makes a selector of more than 255 characters")]
    TooLong(String),
}

impl ClaimTemplate {
    /// The name of whom the token speaks.
    pub(crate) fn name(&self, jwt: &VerifiedJwt) -> Result<String, ClaimRefused> {
        self.0.fill(jwt, NAME)
    }
}

impl SelectorTemplate {
    /// What it gives whatever the claims are, if it names none.
    pub(super) fn fixed(&self) -> Option<SelectorValue> {
        let Template { before, claims } = &self.0;
        before.parse().ok().filter(|_| claims.is_empty())
    }

    pub(crate) fn value(&self, jwt: &VerifiedJwt) -> Result<SelectorValue, ClaimRefused> {
        let text = self.0.fill(jwt, SELECTOR)?;
        let last = self.0.claims.last();
        text.parse().map_err(|_| {
            let pointer = last.map(|placed| placed.pointer.0.clone());
            ClaimRefused::TooLong(pointer.unwrap_or_default())
        })
    }
}

impl Template {
    fn fill(&self, jwt: &VerifiedJwt, alphabet: Alphabet) -> Result<String, ClaimRefused> {
        let mut text = self.before.clone();
        for Placed { pointer, after } in &self.claims {
            let value = pointer.text(jwt)?;
            let ends_early = !after.is_empty() && value.contains(after.as_str());
            if ends_early || !(alphabet.holds)(&value) || value.is_empty() {
                return Err(ClaimRefused::Unfit(pointer.0.clone()));
            }
            text += &value;
            text += after;
        }
        Ok(text)
    }

    fn parse(text: &str, alphabet: Alphabet) -> Result<Self, ClaimTemplateError> {
        let Some((before, mut rest)) = text.split_once('{') else {
            return Ok(Self {
                before: fixed(text, alphabet)?,
                claims: Vec::new(),
            });
        };
        let mut claims = Vec::new();
        loop {
            let (pointer, after) = rest.split_once('}').ok_or(ClaimTemplateError::Braces)?;
            let (after, next) = match after.split_once('{') {
                Some((after, next)) => (after, Some(next)),
                None => (after, None),
            };
            if next.is_some() && after.is_empty() {
                return Err(ClaimTemplateError::NothingBetween);
            }
            claims.push(Placed {
                pointer: pointer.parse()?,
                after: fixed(after, alphabet)?,
            });
            match next {
                Some(next) => rest = next,
                None => break,
            }
        }
        Ok(Self {
            before: fixed(before, alphabet)?,
            claims,
        })
    }
}

impl ClaimPointer {
    pub(crate) fn require(&self, jwt: &VerifiedJwt, wanted: &OneOf) -> Result<(), ClaimRefused> {
        let value = self.text(jwt)?;
        let found = match wanted {
            OneOf::Only(only) => *only == value,
            OneOf::Any(all) => all.contains(&value),
        };
        if found {
            Ok(())
        } else {
            Err(ClaimRefused::Other(self.0.clone()))
        }
    }

    fn text(&self, jwt: &VerifiedJwt) -> Result<String, ClaimRefused> {
        match jwt.claim(&self.0) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(Value::Bool(flag)) => Ok(flag.to_string()),
            _ => Err(ClaimRefused::Missing(self.0.clone())),
        }
    }
}

impl FromStr for ClaimTemplate {
    type Err = ClaimTemplateError;

    fn from_str(text: &str) -> Result<Self, ClaimTemplateError> {
        let template = Template::parse(text, NAME)?;
        if template.claims.is_empty() {
            return Err(ClaimTemplateError::NoClaim);
        }
        Ok(Self(template))
    }
}

impl FromStr for SelectorTemplate {
    type Err = ClaimTemplateError;

    fn from_str(text: &str) -> Result<Self, ClaimTemplateError> {
        let template = Template::parse(text, SELECTOR)?;
        if template.claims.is_empty() && template.before.parse::<SelectorValue>().is_err() {
            return Err(ClaimTemplateError::Selector);
        }
        Ok(Self(template))
    }
}

impl FromStr for ClaimPointer {
    type Err = ClaimTemplateError;

    fn from_str(text: &str) -> Result<Self, ClaimTemplateError> {
        let inner = text.strip_prefix('/').ok_or(ClaimTemplateError::Pointer)?;
        if inner.is_empty() || inner.contains(['{', '}']) {
            return Err(ClaimTemplateError::Pointer);
        }
        Ok(Self(text.to_owned()))
    }
}

fn fixed(text: &str, alphabet: Alphabet) -> Result<String, ClaimTemplateError> {
    if text.contains(['{', '}']) {
        return Err(ClaimTemplateError::Braces);
    }
    if !(alphabet.holds)(text) {
        return Err(alphabet.broken);
    }
    Ok(text.to_owned())
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    text.bytes().all(plain)
}

impl TryFrom<String> for ClaimTemplate {
    type Error = ClaimTemplateError;

    fn try_from(text: String) -> Result<Self, ClaimTemplateError> {
        text.parse()
    }
}

impl TryFrom<String> for SelectorTemplate {
    type Error = ClaimTemplateError;

    fn try_from(text: String) -> Result<Self, ClaimTemplateError> {
        text.parse()
    }
}

impl TryFrom<String> for ClaimPointer {
    type Error = ClaimTemplateError;

    fn try_from(text: String) -> Result<Self, ClaimTemplateError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: ClaimTemplateError) {
        assert_eq!(text.parse::<ClaimTemplate>(), Err(expected), "{text}");
    }

    #[test]
    fn templates_that_say_two_things_are_refused() {
        refused("agent", ClaimTemplateError::NoClaim);
        refused("{sub}", ClaimTemplateError::Pointer);
        refused("{/}", ClaimTemplateError::Pointer);
        refused("{/a}{/b}", ClaimTemplateError::NothingBetween);
        refused("{/a", ClaimTemplateError::Braces);
        refused("a}{/b}", ClaimTemplateError::Braces);
        refused("{/a}}", ClaimTemplateError::Braces);
        refused("a/{/b}", ClaimTemplateError::Text);
    }

    #[test]
    fn selectors_that_no_agent_could_hold_are_refused() {
        let long = "a".repeat(256);
        for text in ["", "a b", "{/a} ", long.as_str()] {
            let refused = text.parse::<SelectorTemplate>();
            assert_eq!(refused, Err(ClaimTemplateError::Selector), "{text}");
        }
        let braces = "prod}".parse::<SelectorTemplate>();
        assert_eq!(braces, Err(ClaimTemplateError::Braces));
    }

    #[test]
    fn a_selector_may_be_fixed_and_hold_what_a_name_may_not() {
        for text in ["prod", "corp/shop", "{/repository}@{/ref}"] {
            assert!(text.parse::<SelectorTemplate>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_template_is_read_in_parts() {
        let ClaimTemplate(template) = "k8s-{/a/b}.{/c}".parse().unwrap();
        assert_eq!(template.before, "k8s-");
        assert_eq!(template.claims.len(), 2);
        assert_eq!(template.claims[0].after, ".");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn no_text_makes_the_reader_panic(text in "[{}/a.]{0,24}|.{0,24}") {
            let _ = text.parse::<ClaimTemplate>();
            let _ = text.parse::<SelectorTemplate>();
        }
    }
}
