//! The trust domain's bundle as SPIFFE wants it published (SPIFFE Trust Domain and Bundle,
//! section 4).

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::documented::Documented;
use super::problem::Problem;
use crate::registry::Registry;

/// Publishes the bundle.
#[derive(Clone, Debug)]
pub(super) struct Bundles {
    pub(super) registry: Registry,
    /// How often those who use the bundle should look again.
    pub(super) refresh_hint: Duration,
}

pub(super) fn operations(bundles: Bundles) -> Documented {
    Documented::new()
        .on(&__path_bundle_document, bundle_document)
        .with(bundles)
}

/// The roots, as a SPIFFE bundle (a JWK set). Public.
#[utoipa::path(get, path = "/v1/bundle", tag = "bundle", operation_id = "bundle", security(()),
    responses((status = 200, body = serde_json::Value, content_type = "application/json")))]
async fn bundle_document(State(bundles): State<Bundles>) -> Result<Response, Problem> {
    let roots = bundles.registry.snapshot().roots().clone();
    let document = roots.bundle().to_jwks(Some(bundles.refresh_hint));
    let document = document.map_err(|error| {
        tracing::error!(%error, "cannot write the bundle");
        Problem::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}
