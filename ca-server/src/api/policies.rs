//! Policies: who may call a service, by its owner.

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
use super::schema::PolicyDocument;

pub(super) fn operations(objects: Objects) -> Documented {
    Documented::new()
        .on(&__path_list_policies, list_policies)
        .on(&__path_get_policy, get_policy)
        .on(&__path_put_policy, put_policy)
        .on(&__path_delete_policy, delete_policy)
        .with(objects)
}

/// Lists policies.
#[utoipa::path(get, path = "/v1/policies", tag = "policies", params(ListQuery),
    responses((status = 200, body = ObjectList)))]
async fn list_policies(
    State(objects): State<Objects>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Json<ObjectList>, Problem> {
    objects.list(Kind::Policy, &query)
}

/// Reads one policy.
#[utoipa::path(get, path = "/v1/policies/{namespace}/{name}", tag = "policies",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = PolicyDocument, headers(("ETag" = String))), (status = 304)))]
async fn get_policy(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    objects.get(&key(Kind::Policy, &namespace, &name)?, &conditions)
}

/// Creates or replaces one policy.
#[utoipa::path(put, path = "/v1/policies/{namespace}/{name}", tag = "policies",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body(content((PolicyDocument = "application/json"), (String = "application/yaml"))),
    responses((status = 200, body = PolicyDocument, headers(("ETag" = String))),
        (status = 201, body = PolicyDocument, headers(("ETag" = String)))))]
async fn put_policy(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
    body: Body,
) -> Result<Response, Problem> {
    let key = key(Kind::Policy, &namespace, &name)?;
    objects.put(key, &conditions, query, &author, &body).await
}

/// Deletes one policy.
#[utoipa::path(delete, path = "/v1/policies/{namespace}/{name}", tag = "policies",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header)),
    responses((status = 204)))]
async fn delete_policy(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
) -> Result<StatusCode, Problem> {
    let key = key(Kind::Policy, &namespace, &name)?;
    objects.delete(key, &conditions, query, &author).await
}
