//! Request bodies: at most 1 MiB of a content type that was said, and refused at the first field
//! that nobody knows.

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use runtime::config::nearest;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Problem;

const LIMIT: usize = 1024 * 1024;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Yaml,
}

/// A body of either format.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) format: Format,
    bytes: Bytes,
}

/// A JSON body with a fixed set of fields.
pub(super) trait Fields: DeserializeOwned {
    const FIELDS: &'static [&'static str];
}

/// A JSON body read into `T`.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl Body {
    pub(super) fn text(&self) -> Result<&str, Problem> {
        std::str::from_utf8(&self.bytes)
            .map_err(|_| Problem::bad_request("syntax", "the body is not UTF-8"))
    }

    pub(super) fn json(&self) -> Result<Value, Problem> {
        serde_json::from_slice(&self.bytes).map_err(|error| {
            let detail = format!("the body is not JSON: {error}");
            Problem::bad_request("syntax", detail)
        })
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let format = format_of(request.headers())?;
        let bytes = to_bytes(request.into_body(), LIMIT)
            .await
            .map_err(|error| {
                if is_too_long(&error) {
                    let detail = format!("a body has at most {LIMIT} bytes");
                    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
                } else {
                    Problem::bad_request("broken-body", "the body ended early")
                }
            })?;
        Ok(Self { format, bytes })
    }
}

impl<S: Send + Sync, T: Fields> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = Body::from_request(request, state).await?;
        match body.format {
            Format::Json => read(body.json()?).map(Self),
            Format::Yaml => Err(unsupported("application/yaml", "application/json")),
        }
    }
}

/// Reads a value whose fields are known by name.
pub(super) fn read<T: Fields>(value: Value) -> Result<T, Problem> {
    let unknown = |field: &&String| !T::FIELDS.contains(&field.as_str());
    if let Some(field) = value
        .as_object()
        .and_then(|fields| fields.keys().find(unknown))
    {
        let problem = Problem::invalid("unknown-field", format!("unknown field `{field}`"))
            .at(format!("/{}", escape(field)));
        return Err(match nearest(field, T::FIELDS.iter().copied()) {
            Some(known) => problem.suggest(known),
            None => problem,
        });
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = pointer(error.path());
        Problem::invalid("invalid-value", error.into_inner().to_string()).at(pointer)
    })
}

fn format_of(headers: &HeaderMap) -> Result<Format, Problem> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str().unwrap_or(""));
    let given = given.unwrap_or("");
    let essence = given
        .split(';')
        .next()
        .unwrap_or("")
        .trim()
        .to_ascii_lowercase();
    match essence.as_str() {
        "application/json" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        other => Err(unsupported(other, "application/json or application/yaml")),
    }
}

fn unsupported(given: &str, wanted: &str) -> Problem {
    let detail = match given {
        "" => "the request does not say its Content-Type".to_owned(),
        given => format!("Content-Type {given:?} is not taken here"),
    };
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        detail,
    )
    .suggest(wanted)
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error)
        .is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", escape(key)),
            Segment::Enum { variant } => format!("/{}", escape(variant)),
            Segment::Unknown => String::new(),
        })
        .collect()
}

/// RFC 6901, section 3.
fn escape(field: &str) -> String {
    field.replace('~', "~0").replace('/', "~1")
}
