//! Routes: how callers' proxies carry calls to a service's port.

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
use super::schema::RouteDocument;

pub(super) fn operations(objects: Objects) -> Documented {
    Documented::new()
        .on(&__path_list_routes, list_routes)
        .on(&__path_get_route, get_route)
        .on(&__path_put_route, put_route)
        .on(&__path_delete_route, delete_route)
        .with(objects)
}

/// Lists routes.
#[utoipa::path(get, path = "/v1/routes", tag = "routes", params(ListQuery),
    responses((status = 200, body = ObjectList)))]
async fn list_routes(
    State(objects): State<Objects>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Json<ObjectList>, Problem> {
    objects.list(Kind::Route, &query)
}

/// Reads one route.
#[utoipa::path(get, path = "/v1/routes/{namespace}/{name}", tag = "routes",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = RouteDocument, headers(("ETag" = String))), (status = 304)))]
async fn get_route(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    objects.get(&key(Kind::Route, &namespace, &name)?, &conditions)
}

/// Creates or replaces one route.
#[utoipa::path(put, path = "/v1/routes/{namespace}/{name}", tag = "routes",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body(content((RouteDocument = "application/json"), (String = "application/yaml"))),
    responses((status = 200, body = RouteDocument, headers(("ETag" = String))),
        (status = 201, body = RouteDocument, headers(("ETag" = String)))))]
async fn put_route(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
    body: Body,
) -> Result<Response, Problem> {
    let key = key(Kind::Route, &namespace, &name)?;
    objects.put(key, &conditions, query, &author, &body).await
}

/// Deletes one route.
#[utoipa::path(delete, path = "/v1/routes/{namespace}/{name}", tag = "routes",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header)),
    responses((status = 204)))]
async fn delete_route(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
) -> Result<StatusCode, Problem> {
    let key = key(Kind::Route, &namespace, &name)?;
    objects.delete(key, &conditions, query, &author).await
}
