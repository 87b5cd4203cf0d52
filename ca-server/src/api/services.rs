//! Services: names that callers use, and the workloads that may serve them.

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
use super::schema::ServiceDocument;

pub(super) fn operations(objects: Objects) -> Documented {
    Documented::new()
        .on(&__path_list_services, list_services)
        .on(&__path_get_service, get_service)
        .on(&__path_put_service, put_service)
        .on(&__path_delete_service, delete_service)
        .with(objects)
}

/// Lists services.
#[utoipa::path(get, path = "/v1/services", tag = "services", params(ListQuery),
    responses((status = 200, body = ObjectList)))]
async fn list_services(
    State(objects): State<Objects>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Json<ObjectList>, Problem> {
    objects.list(Kind::Service, &query)
}

/// Reads one service.
#[utoipa::path(get, path = "/v1/services/{namespace}/{name}", tag = "services",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = ServiceDocument, headers(("ETag" = String))), (status = 304)))]
async fn get_service(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    objects.get(&key(Kind::Service, &namespace, &name)?, &conditions)
}

/// Creates or replaces one service.
#[utoipa::path(put, path = "/v1/services/{namespace}/{name}", tag = "services",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body(content((ServiceDocument = "application/json"), (String = "application/yaml"))),
    responses((status = 200, body = ServiceDocument, headers(("ETag" = String))),
        (status = 201, body = ServiceDocument, headers(("ETag" = String)))))]
async fn put_service(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
    body: Body,
) -> Result<Response, Problem> {
    let key = key(Kind::Service, &namespace, &name)?;
    objects.put(key, &conditions, query, &author, &body).await
}

/// Deletes one service.
#[utoipa::path(delete, path = "/v1/services/{namespace}/{name}", tag = "services",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header)),
    responses((status = 204)))]
async fn delete_service(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
) -> Result<StatusCode, Problem> {
    let key = key(Kind::Service, &namespace, &name)?;
    objects.delete(key, &conditions, query, &author).await
}
