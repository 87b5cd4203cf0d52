//! The collections of objects, `/v1/workloads` to `/v1/externals`: one set of operations, the same
//! for every kind.
//!
//! Invariant: what a collection answers and what the OpenAPI document says of it come from one
//! `Collected` type. What reading and writing mean is said in `objects`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use policy::{Kind, ObjectKey};
use serde::Deserialize;
use utoipa::ToSchema;

use super::auth::Administrator;
use super::body::Body;
use super::documented::Documented;
use super::objects::{ListQuery, ObjectList, Objects, WriteQuery, key};
use super::preconditions::Conditions;
use super::problem::Problem;
use super::query::{Parameters, Segments};
use super::schema::{
    BaselineDocument, ExternalDocument, GatewayDocument, PolicyDocument, RouteDocument,
    ServiceDocument, WorkloadDocument,
};

mod description;

/// What the objects of one collection look like.
trait Collected: ToSchema + 'static {
    const KIND: Kind;
}

impl Collected for WorkloadDocument {
    const KIND: Kind = Kind::Workload;
}

impl Collected for ServiceDocument {
    const KIND: Kind = Kind::Service;
}

impl Collected for PolicyDocument {
    const KIND: Kind = Kind::Policy;
}

impl Collected for BaselineDocument {
    const KIND: Kind = Kind::Baseline;
}

impl Collected for RouteDocument {
    const KIND: Kind = Kind::Route;
}

impl Collected for GatewayDocument {
    const KIND: Kind = Kind::Gateway;
}

impl Collected for ExternalDocument {
    const KIND: Kind = Kind::External;
}

/// Every collection, on the same objects.
pub(super) fn operations(objects: &Objects) -> Documented {
    collection::<WorkloadDocument>(objects)
        .merge(collection::<ServiceDocument>(objects))
        .merge(collection::<PolicyDocument>(objects))
        .merge(collection::<BaselineDocument>(objects))
        .merge(collection::<RouteDocument>(objects))
        .merge(collection::<GatewayDocument>(objects))
        .merge(collection::<ExternalDocument>(objects))
}

fn collection<D: Collected>(objects: &Objects) -> Documented {
    Documented::new()
        .serve(description::list(D::KIND), list::<D>)
        .serve(description::get::<D>(), get::<D>)
        .serve(description::put::<D>(), put::<D>)
        .serve(description::delete(D::KIND), delete::<D>)
        .with(objects.clone())
}

/// The end of an object's path.
#[derive(Debug, Deserialize)]
struct ObjectPath {
    /// In the paths of namespaced kinds only.
    namespace: Option<String>,
    name: String,
}

impl ObjectPath {
    fn key(&self, kind: Kind) -> Result<ObjectKey, Problem> {
        key(kind, self.namespace.as_deref(), &self.name)
    }
}

async fn list<D: Collected>(
    State(objects): State<Objects>,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Json<ObjectList>, Problem> {
    objects.list(D::KIND, &query)
}

async fn get<D: Collected>(
    State(objects): State<Objects>,
    Segments(path): Segments<ObjectPath>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    objects.get(&path.key(D::KIND)?, &conditions)
}

async fn put<D: Collected>(
    State(objects): State<Objects>,
    Segments(path): Segments<ObjectPath>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
    body: Body,
) -> Result<Response, Problem> {
    let key = path.key(D::KIND)?;
    objects.put(key, &conditions, query, &author, &body).await
}

async fn delete<D: Collected>(
    State(objects): State<Objects>,
    Segments(path): Segments<ObjectPath>,
    conditions: Conditions,
    Parameters(query): Parameters<WriteQuery>,
    author: Administrator,
) -> Result<StatusCode, Problem> {
    let key = path.key(D::KIND)?;
    objects.delete(key, &conditions, query, &author).await
}
