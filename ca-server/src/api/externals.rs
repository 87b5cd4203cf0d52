//! Externals: hosts outside the mesh, and who may call them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use policy::Kind;

use super::auth::Administrator;
use super::body::Body;
use super::documented::Documented;
use super::objects::{ListQuery, ObjectList, Objects, WriteQuery, key};
use super::preconditions::Conditions;
use super::problem::Problem;
use super::query::{Parameters, Segments};
use super::schema::ExternalDocument;

pub(super) fn operations(objects: Objects) -> Documented {
    Documented::new()
        .on(&__path_list_externals, list_externals)
        .on(&__path_get_external, get_external)
        .on(&__path_put_external, put_external)
        .on(&__path_delete_external, delete_external)
        .with(objects)
}

/// Lists externals.
#[utoipa::path(get, path = "/v1/externals", tag = "externals", params(ListQuery),
    responses((status = 200, body = ObjectList)))]
async fn list_externals(
    State(objects): State<Objects>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Json<ObjectList>, Problem> {
    objects.list(Kind::External, &query)
}

/// Reads one external.
#[utoipa::path(get, path = "/v1/externals/{namespace}/{name}", tag = "externals",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = ExternalDocument, headers(("ETag" = String))), (status = 304)))]
async fn get_external(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    objects.get(&key(Kind::External, &namespace, &name)?, &conditions)
}

/// Creates or replaces one external.
#[utoipa::path(put, path = "/v1/externals/{namespace}/{name}", tag = "externals",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body(content((ExternalDocument = "application/json"), (String = "application/yaml"))),
    responses((status = 200, body = ExternalDocument, headers(("ETag" = String))),
        (status = 201, body = ExternalDocument, headers(("ETag" = String)))))]
async fn put_external(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
    body: Body,
) -> Result<Response, Problem> {
    let key = key(Kind::External, &namespace, &name)?;
    objects.put(key, &conditions, query, &author, &body).await
}

/// Deletes one external.
#[utoipa::path(delete, path = "/v1/externals/{namespace}/{name}", tag = "externals",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header)),
    responses((status = 204)))]
async fn delete_external(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
) -> Result<StatusCode, Problem> {
    let key = key(Kind::External, &namespace, &name)?;
    objects.delete(key, &conditions, query, &author).await
}
