//! Configuration files: TOML into types, once, before a port is bound.
//!
//! Refuses unknown keys (for types with `deny_unknown_fields`), naming the file, the line, the key
//! and the nearest key that exists.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Reads and parses the TOML file at `path`.
pub fn load<T: DeserializeOwned>(path: impl AsRef<Path>) -> Result<T, ConfigError> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// Parses TOML `text`; `path` says in errors where it came from.
pub fn parse<T: DeserializeOwned>(path: impl AsRef<Path>, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::from_toml(path.as_ref(), text, &error))
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: unknown key `{key}`{}", path.display(), Hint(suggestion.as_deref()))]
    UnknownKey {
        path: PathBuf,
        line: usize,
        key: String,
        suggestion: Option<String>,
    },
    #[error("{}:{line}: {message}", path.display())]
    Invalid {
        path: PathBuf,
        line: usize,
        message: String,
    },
    #[error("{}: {key}: {message}", path.display())]
    Inconsistent {
        path: PathBuf,
        key: String,
        message: String,
    },
}

impl ConfigError {
    /// A value that parses, but that contradicts another or the host.
    pub fn inconsistent(
        path: impl AsRef<Path>,
        key: impl Into<String>,
        message: impl fmt::Display,
    ) -> Self {
        let path = path.as_ref().to_owned();
        Self::Inconsistent {
            path,
            key: key.into(),
            message: message.to_string(),
        }
    }

    fn from_toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let path = path.to_owned();
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..start]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        match unknown_field(error.message()) {
            Some((key, known)) => Self::UnknownKey {
                path,
                line,
                key: key.to_owned(),
                suggestion: nearest(key, known),
            },
            None => Self::Invalid {
                path,
                line,
                message: error.message().replace('\n', "; "),
            },
        }
    }
}

/// The known word nearest to `given`, if one is near enough to be what was meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(given, candidate), candidate))
        .filter(|(similarity, _)| *similarity >= 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.to_owned())
}

/// serde's own wording of an unknown field: the field, then the names that exist, in backticks.
fn unknown_field(message: &str) -> Option<(&str, impl Iterator<Item = &str>)> {
    let mut quoted = message
        .strip_prefix("unknown field ")?
        .split('`')
        .skip(1)
        .step_by(2);
    Some((quoted.next()?, quoted))
}

struct Hint<'a>(Option<&'a str>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .map_or(Ok(()), |known| write!(f, ", did you mean `{known}`?"))
    }
}

/// A span of time in a configuration, written with its units: `"90s"`, `"1h 30m"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

impl Span {
    /// A span of this length.
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// The length of the span.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl FromStr for Span {
    type Err = InvalidSpan;

    fn from_str(text: &str) -> Result<Self, InvalidSpan> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| InvalidSpan(text.to_owned()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is no span of time.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no span of time; write a number with its unit, as in \"30s\", \"10m\", \"1h 30m\""
)]
pub struct InvalidSpan(String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only its name matters")]
        trust_domain: Option<String>,
        listen: Option<Listen>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Listen {
        idle: Span,
    }

    fn refusal(text: &str) -> ConfigError {
        parse::<Sample>("ca.toml", text).unwrap_err()
    }

    #[test]
    fn unknown_key_is_refused_with_line_and_nearest_key() {
        let error = refusal("\n[listen]\nidle = \"3s\"\nidel = \"4s\"\n");
        assert_eq!(
            error.to_string(),
            "ca.toml:4: unknown key `idel`, did you mean `idle`?"
        );
    }

    #[test]
    fn unknown_key_without_a_near_one_gets_no_suggestion() {
        let error = refusal("zzz = 1");
        assert!(matches!(
            error,
            ConfigError::UnknownKey {
                line: 1,
                suggestion: None,
                ..
            }
        ));
    }

    #[test]
    fn bare_number_is_no_span() {
        let error = refusal("[listen]\nidle = \"90\"");
        assert!(
            error
                .to_string()
                .starts_with("ca.toml:2: `90` is no span of time")
        );
    }

    #[test]
    fn broken_toml_is_refused_on_one_line() {
        let error = refusal("trust_domain = \n");
        assert!(!error.to_string().contains('\n'));
    }

    #[test]
    fn missing_file_names_the_path() {
        let error = load::<Sample>("/nonexistent/ca.toml").unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot read the configuration /nonexistent/ca.toml"
        );
    }

    #[test]
    fn span_is_read_with_its_units() {
        let sample: Sample = parse("ca.toml", "[listen]\nidle = \"1h 30m\"").unwrap();
        assert_eq!(
            sample.listen.unwrap().idle.duration(),
            Duration::from_secs(5400)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn span_survives_being_written_and_read(seconds in 0_u64..10_000_000, nanos in 0_u32..1_000_000_000) {
            let span = Span::new(Duration::new(seconds, nanos));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
