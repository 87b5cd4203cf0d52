//! Domain errors become statuses here, and nowhere else (RFC 9457).
//!
//! Refuses to show causes inside the process: those are logged once, and the caller is told that
//! it is the server's fault.

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use policy::{ParseCode, ParseError, Refusal};
use serde::Serialize;
use utoipa::ToSchema;

use crate::registry::ApplyError;
use crate::store::{StageError, StoreError};

/// Why a request was refused, or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem(Box<ProblemDetails>);

/// A problem as it is sent (RFC 9457, section 3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemDetails {
    /// `urn:countersign:problem:<code>`.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    /// Stable; what programs decide by.
    code: String,
    /// Where in the request's body (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    suggestion: Option<String>,
    /// All that is wrong, when it is more than one thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemItem>,
}

/// One of several things that are wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct ProblemItem {
    /// The object it is about, such as `Policy shop/orders-api`.
    object: String,
    pointer: String,
    code: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    suggestion: Option<String>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(ProblemDetails {
            kind: format!("urn:countersign:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Refused"),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            pointer: None,
            suggestion: None,
            errors: Vec::new(),
        }))
    }

    pub(super) fn invalid(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    pub(super) fn bad_request(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    pub(super) fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            format!("there is no {what}"),
        )
    }

    pub(super) fn conflict(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    pub(super) fn unavailable(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }

    pub(super) fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .suggest("send `Authorization: Bearer <secret>` with the secret of the admin file")
    }

    pub(super) fn at(mut self, pointer: impl Into<String>) -> Self {
        self.0.pointer = Some(pointer.into());
        self
    }

    /// The pointer is within what stands at `prefix`.
    pub(super) fn within(mut self, prefix: &str) -> Self {
        self.0.pointer = Some(format!("{prefix}{}", self.0.pointer.unwrap_or_default()));
        self
    }

    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.0.suggestion = Some(suggestion.into());
        self
    }

    /// Somebody else changed the object meanwhile.
    pub(super) fn is_precondition(&self) -> bool {
        self.0.status == StatusCode::PRECONDITION_FAILED.as_u16()
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.0.status == StatusCode::NOT_FOUND.as_u16()
    }

    /// What was asked may go on without the store, where something does.
    pub(super) fn is_store_away(&self) -> bool {
        self.0.code == "store-unavailable"
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &str {
        &self.0.code
    }

    fn refused(status: StatusCode, refusals: &[Refusal]) -> Self {
        let Some(first) = refusals.first() else {
            return Self::new(status, "refused", "the resulting configuration is refused");
        };
        let detail = format!("{}: {}", first.key, first.message);
        let mut problem = Self::new(status, &first.code.to_string(), detail).at(&first.pointer);
        problem.0.suggestion = suggestion(first);
        problem.0.errors = refusals
            .iter()
            .map(|refusal| ProblemItem {
                object: refusal.key.to_string(),
                pointer: refusal.pointer.clone(),
                code: refusal.code.to_string(),
                detail: refusal.message.clone(),
                suggestion: suggestion(refusal),
            })
            .collect();
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"countersign\""),
            );
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<ParseError> for Problem {
    fn from(error: ParseError) -> Self {
        let detail = match error.document {
            0 => error.message,
            document => format!("document {document}: {}", error.message),
        };
        let status = match error.code {
            ParseCode::Syntax => StatusCode::BAD_REQUEST,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let mut problem = Self::new(status, error.code.as_str(), detail).at(error.pointer);
        problem.0.suggestion = error.suggestion;
        problem
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let cause = runtime::exit::one_line(&error);
        match error {
            StoreError::Unavailable(_) => {
                tracing::error!(cause, "the store failed");
                Self::unavailable("store-unavailable", "the store cannot be used right now")
            }
            StoreError::TooNew { .. } => {
                tracing::error!(cause, "this replica is too old for its store");
                Self::unavailable("store-too-new", cause)
            }
            StoreError::Duplicate { what } => {
                Self::conflict("duplicate", format!("this {what} exists already"))
            }
            StoreError::OtherKek => {
                tracing::error!(cause, "a key was not kept");
                Self::unavailable("store-unavailable", "the store's keys are being changed")
            }
            StoreError::Corrupt { .. } => {
                tracing::error!(cause, "the store is damaged");
                Self::internal()
            }
        }
    }
}

impl From<ApplyError> for Problem {
    fn from(error: ApplyError) -> Self {
        let detail = error.to_string();
        match error {
            ApplyError::Stage(error) => error.into(),
            ApplyError::PreconditionFailed { key, found } => {
                let found = found.map_or_else(
                    || format!("there is no {key}"),
                    |revision| format!("{key} was last changed by revision {revision}"),
                );
                Self::new(
                    StatusCode::PRECONDITION_FAILED,
                    "precondition-failed",
                    found,
                )
                .suggest("read the object again and repeat the change on top of it")
            }
            ApplyError::Contended => Self::conflict("contended", detail),
            ApplyError::Store(error) => error.into(),
            ApplyError::Behind { .. } => Self::unavailable("store-behind", detail).suggest(
                "bring the lost revisions back, or go on without them: countersign store accept-loss",
            ),
            ApplyError::NotHead { .. } => Self::conflict("not-head", detail)
                .suggest("look at GET /v1/store again, and judge the loss by what it says"),
            ApplyError::Overloaded => Self::unavailable("overloaded", detail),
            ApplyError::ShuttingDown => Self::unavailable("shutting-down", detail),
        }
    }
}

impl From<StageError> for Problem {
    fn from(error: StageError) -> Self {
        match error {
            StageError::Twice(key) => {
                Self::invalid("duplicate", format!("{key} is in this change twice"))
            }
            StageError::NotFound(key) => Self::not_found(key),
            StageError::Refused {
                refusals,
                of_others: true,
            } => Self::refused(StatusCode::CONFLICT, &refusals),
            StageError::Refused {
                refusals,
                of_others: false,
            } => Self::refused(StatusCode::UNPROCESSABLE_ENTITY, &refusals),
        }
    }
}

impl Problem {
    pub(super) fn internal() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self::new(status, "internal", "the CA failed; its log says why")
    }
}

fn suggestion(refusal: &Refusal) -> Option<String> {
    Some(refusal.suggestion.clone()).filter(|text| !text.is_empty())
}

pub(super) async fn no_such_path(uri: Uri) -> Problem {
    Problem::not_found(format!("path {}", uri.path())).suggest("see /openapi.json")
}

pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
        .suggest("see /openapi.json")
}
