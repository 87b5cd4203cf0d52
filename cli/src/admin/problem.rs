//! The CA's refusals (RFC 9457 `application/problem+json`) as one readable line.

use std::fmt;

use http::StatusCode;
use serde::Deserialize;

/// What the CA refused, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    whole: Detail,
    errors: Vec<Detail>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Detail {
    title: Option<String>,
    detail: Option<String>,
    message: Option<String>,
    code: Option<String>,
    object: Option<String>,
    key: Option<String>,
    pointer: Option<String>,
    suggestion: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(flatten)]
    whole: Detail,
    #[serde(default)]
    errors: Vec<Detail>,
}

impl Problem {
    /// Reads a refusal. A body that is no problem document leaves the status to speak.
    pub fn read(status: StatusCode, body: &[u8]) -> Self {
        match serde_json::from_slice::<Body>(body) {
            Ok(Body { whole, errors }) => Self {
                status,
                whole,
                errors,
            },
            Err(_) => Self {
                status,
                whole: Detail::default(),
                errors: Vec::new(),
            },
        }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the CA refused: ")?;
        if self.errors.is_empty() {
            return self.whole.write(self.status, f);
        }
        for (index, error) in self.errors.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { " | " })?;
            error.write(self.status, f)?;
        }
        Ok(())
    }
}

impl Detail {
    fn write(&self, status: StatusCode, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(object) = self.object.as_ref().or(self.key.as_ref()) {
            write!(f, "{object}: ")?;
        }
        match self
            .detail
            .as_ref()
            .or(self.message.as_ref())
            .or(self.title.as_ref())
        {
            Some(text) => f.write_str(text)?,
            None => write!(f, "{status}, without saying why")?,
        }
        if let Some(pointer) = self
            .pointer
            .as_deref()
            .filter(|pointer| !pointer.is_empty())
        {
            write!(f, ", at {pointer}")?;
        }
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        self.suggestion
            .as_ref()
            .map_or(Ok(()), |next| write!(f, "; {next}"))?;
        let unauthorized = status == StatusCode::UNAUTHORIZED && self.suggestion.is_none();
        if unauthorized {
            f.write_str("; is this credential of this mesh?")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: &str) {
        let problem = Problem::read(StatusCode::UNPROCESSABLE_ENTITY, body.as_bytes());
        assert_eq!(problem.to_string(), expected);
    }

    #[test]
    fn refusal_without_a_document_leaves_the_status_to_speak() {
        check(
            "<html>",
            "the CA refused: 422 Unprocessable Entity, without saying why",
        );
    }

    #[test]
    fn pointer_code_and_suggestion_are_shown() {
        check(
            r#"{"title":"t","detail":"no service orderz","code":"unknown-target","pointer":"/spec/targets/0","suggestion":"did you mean orders?"}"#,
            "the CA refused: no service orderz, at /spec/targets/0 (unknown-target); did you mean orders?",
        );
    }

    #[test]
    fn each_error_is_shown() {
        check(
            r#"{"detail":"two","errors":[{"key":"Policy shop/a","message":"x","code":"c"},{"message":"y"}]}"#,
            "the CA refused: Policy shop/a: x (c) | y",
        );
    }
}
