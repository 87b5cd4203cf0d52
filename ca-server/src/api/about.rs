//! What answers here.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::documented::Documented;
use crate::registry::Registry;
use crate::store::Store;

/// What `/v1/about` tells of.
#[derive(Clone, Debug)]
pub(super) struct Mesh {
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) replica: String,
}

pub(super) fn operations(mesh: Mesh) -> Documented {
    Documented::new().on(&__path_about, about).with(mesh)
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct About {
    product: &'static str,
    version: &'static str,
    trust_domain: String,
    id_template: String,
    replica: String,
    /// What is in force.
    revision: String,
    /// Where the CA remembers: `sqlite` or `postgres`.
    store: &'static str,
    /// Which cryptography this build uses: `aws-lc-rs` or `ring`.
    backend: &'static str,
    engine_version: u32,
}

/// Says what answers here.
#[utoipa::path(get, path = "/v1/about", tag = "about", responses((status = 200, body = About)))]
async fn about(State(mesh): State<Mesh>) -> Json<About> {
    Json(About {
        product: "countersign-ca",
        version: env!("CARGO_PKG_VERSION"),
        trust_domain: mesh.store.trust_domain().to_string(),
        id_template: mesh.store.id_template().to_string(),
        replica: mesh.replica,
        revision: mesh.registry.snapshot().revision().to_string(),
        store: mesh.store.backend_name(),
        backend: crypto::BACKEND,
        engine_version: policy::ENGINE_VERSION,
    })
}
