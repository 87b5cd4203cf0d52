//! Paths and query strings: text becomes types here, and what is not known is refused.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// A query string whose parameters are all known.
#[derive(Debug)]
pub(super) struct Parameters<T>(pub(super) T);

/// The placeholders of a path, as text.
#[derive(Debug)]
pub(super) struct Segments<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|error: QueryRejection| Problem::bad_request("bad-query", error.body_text()))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(value)| Self(value))
            .map_err(|error: PathRejection| Problem::bad_request("bad-path", error.body_text()))
    }
}

/// One part of a path, or one parameter, that has a type.
pub(super) fn parse<T>(what: &str, text: &str) -> Result<T, Problem>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error| Problem::bad_request("invalid-value", format!("{what} {text:?}: {error}")))
}

/// How many of a list are wanted: at least one, at most `most`.
pub(super) fn limit(wanted: Option<u32>, most: u32) -> Result<u32, Problem> {
    match wanted.unwrap_or(most) {
        wanted if (1..=most).contains(&wanted) => Ok(wanted),
        wanted => {
            let detail = format!("limit={wanted} is not between 1 and {most}");
            Err(Problem::bad_request("bad-query", detail))
        }
    }
}
