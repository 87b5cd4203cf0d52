//! Whether the process runs, and whether it can serve. Public, and tells nothing else.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::documented::Documented;
use super::problem::Problem;
use crate::store::Store;

pub(super) fn operations(store: Store) -> Documented {
    Documented::new()
        .on(&__path_healthz, healthz)
        .on(&__path_readyz, readyz)
        .with(store)
}

#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
}

/// The process runs. Public.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, body = Health)))]
async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The store can be read. Public.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = Health)))]
async fn readyz(State(store): State<Store>) -> Result<Json<Health>, Problem> {
    store.head().await?;
    Ok(Json(Health { status: "ok" }))
}
