//! Gateways: ways into the mesh, and the workloads whose proxies open them.

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
use super::schema::GatewayDocument;

pub(super) fn operations(objects: Objects) -> Documented {
    Documented::new()
        .on(&__path_list_gateways, list_gateways)
        .on(&__path_get_gateway, get_gateway)
        .on(&__path_put_gateway, put_gateway)
        .on(&__path_delete_gateway, delete_gateway)
        .with(objects)
}

/// Lists gateways.
#[utoipa::path(get, path = "/v1/gateways", tag = "gateways", params(ListQuery),
    responses((status = 200, body = ObjectList)))]
async fn list_gateways(
    State(objects): State<Objects>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Json<ObjectList>, Problem> {
    objects.list(Kind::Gateway, &query)
}

/// Reads one gateway.
#[utoipa::path(get, path = "/v1/gateways/{namespace}/{name}", tag = "gateways",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = GatewayDocument, headers(("ETag" = String))), (status = 304)))]
async fn get_gateway(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    objects.get(&key(Kind::Gateway, &namespace, &name)?, &conditions)
}

/// Creates or replaces one gateway.
#[utoipa::path(put, path = "/v1/gateways/{namespace}/{name}", tag = "gateways",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body(content((GatewayDocument = "application/json"), (String = "application/yaml"))),
    responses((status = 200, body = GatewayDocument, headers(("ETag" = String))),
        (status = 201, body = GatewayDocument, headers(("ETag" = String)))))]
async fn put_gateway(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
    body: Body,
) -> Result<Response, Problem> {
    let key = key(Kind::Gateway, &namespace, &name)?;
    objects.put(key, &conditions, query, &author, &body).await
}

/// Deletes one gateway.
#[utoipa::path(delete, path = "/v1/gateways/{namespace}/{name}", tag = "gateways",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header)),
    responses((status = 204)))]
async fn delete_gateway(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
) -> Result<StatusCode, Problem> {
    let key = key(Kind::Gateway, &namespace, &name)?;
    objects.delete(key, &conditions, query, &author).await
}
