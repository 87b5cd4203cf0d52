//! Workloads: which identities there are, and which agents may hold them.

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
use super::schema::WorkloadDocument;

pub(super) fn operations(objects: Objects) -> Documented {
    Documented::new()
        .on(&__path_list_workloads, list_workloads)
        .on(&__path_get_workload, get_workload)
        .on(&__path_put_workload, put_workload)
        .on(&__path_delete_workload, delete_workload)
        .with(objects)
}

/// Lists workloads.
#[utoipa::path(get, path = "/v1/workloads", tag = "workloads", params(ListQuery),
    responses((status = 200, body = ObjectList)))]
async fn list_workloads(
    State(objects): State<Objects>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Json<ObjectList>, Problem> {
    objects.list(Kind::Workload, &query)
}

/// Reads one workload.
#[utoipa::path(get, path = "/v1/workloads/{namespace}/{name}", tag = "workloads",
    params(("namespace" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = WorkloadDocument, headers(("ETag" = String))), (status = 304)))]
async fn get_workload(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    objects.get(&key(Kind::Workload, &namespace, &name)?, &conditions)
}

/// Creates or replaces one workload.
#[utoipa::path(put, path = "/v1/workloads/{namespace}/{name}", tag = "workloads",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    request_body(content((WorkloadDocument = "application/json"), (String = "application/yaml"))),
    responses((status = 200, body = WorkloadDocument, headers(("ETag" = String))),
        (status = 201, body = WorkloadDocument, headers(("ETag" = String)))))]
async fn put_workload(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
    body: Body,
) -> Result<Response, Problem> {
    let key = key(Kind::Workload, &namespace, &name)?;
    objects.put(key, &conditions, query, &author, &body).await
}

/// Deletes one workload.
#[utoipa::path(delete, path = "/v1/workloads/{namespace}/{name}", tag = "workloads",
    params(("namespace" = String, Path), ("name" = String, Path), WriteQuery,
        ("If-Match" = Option<String>, Header)),
    responses((status = 204)))]
async fn delete_workload(
    State(objects): State<Objects>,
    Segments((namespace, name)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
) -> Result<StatusCode, Problem> {
    let key = key(Kind::Workload, &namespace, &name)?;
    objects.delete(key, &conditions, query, &author).await
}
