//! Baselines: who may call whom everywhere, by the administrators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use policy::{Kind, ObjectKey};

use super::auth::Administrator;
use super::body::Body;
use super::documented::Documented;
use super::objects::{ListQuery, ObjectList, Objects, WriteQuery};
use super::preconditions::Conditions;
use super::problem::Problem;
use super::query::{Parameters, Segments, parse};
use super::schema::BaselineDocument;

pub(super) fn operations(objects: Objects) -> Documented {
    Documented::new()
        .on(&__path_list_baselines, list_baselines)
        .on(&__path_get_baseline, get_baseline)
        .on(&__path_put_baseline, put_baseline)
        .on(&__path_delete_baseline, delete_baseline)
        .with(objects)
}

/// Lists baselines.
#[utoipa::path(get, path = "/v1/baselines", tag = "baselines", params(ListQuery),
    responses((status = 200, body = ObjectList)))]
async fn list_baselines(
    State(objects): State<Objects>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Json<ObjectList>, Problem> {
    objects.list(Kind::Baseline, &query)
}

/// Reads one baseline.
#[utoipa::path(get, path = "/v1/baselines/{name}", tag = "baselines",
    params(("name" = String, Path)),
    responses((status = 200, body = BaselineDocument, headers(("ETag" = String))), (status = 304)))]
async fn get_baseline(
    State(objects): State<Objects>,
    Segments(name): Segments<String>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    objects.get(&key(&name)?, &conditions)
}

/// Creates or replaces one baseline.
#[utoipa::path(put, path = "/v1/baselines/{name}", tag = "baselines",
    params(("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body(content((BaselineDocument = "application/json"), (String = "application/yaml"))),
    responses((status = 200, body = BaselineDocument, headers(("ETag" = String))),
        (status = 201, body = BaselineDocument, headers(("ETag" = String)))))]
async fn put_baseline(
    State(objects): State<Objects>,
    Segments(name): Segments<String>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
    body: Body,
) -> Result<Response, Problem> {
    let key = key(&name)?;
    objects.put(key, &conditions, query, &author, &body).await
}

/// Deletes one baseline.
#[utoipa::path(delete, path = "/v1/baselines/{name}", tag = "baselines",
    params(("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header)),
    responses((status = 204)))]
async fn delete_baseline(
    State(objects): State<Objects>,
    Segments(name): Segments<String>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
) -> Result<StatusCode, Problem> {
    let key = key(&name)?;
    objects.delete(key, &conditions, query, &author).await
}

fn key(name: &str) -> Result<ObjectKey, Problem> {
    Ok(ObjectKey::baseline(&parse("name", name)?))
}
