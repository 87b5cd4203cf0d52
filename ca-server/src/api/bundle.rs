//! The trust domain's bundle as SPIFFE wants it published (SPIFFE Trust Domain and Bundle,
//! section 4).

use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use identity::x509::Bundle;

use super::documented::Documented;
use super::problem::Problem;

/// How often those who use the bundle should look again.
const REFRESH_HINT: Duration = Duration::from_secs(5 * 60);

pub(super) fn operations(bundle: Bundle) -> Documented {
    Documented::new()
        .on(&__path_bundle_document, bundle_document)
        .with(bundle)
}

/// The roots, as a SPIFFE bundle (a JWK set). Public.
#[utoipa::path(get, path = "/v1/bundle", tag = "bundle", operation_id = "bundle", security(()),
    responses((status = 200, body = serde_json::Value, content_type = "application/json")))]
async fn bundle_document(State(bundle): State<Bundle>) -> Result<Response, Problem> {
    let document = bundle.to_jwks(Some(REFRESH_HINT)).map_err(|error| {
        tracing::error!(%error, "cannot write the bundle");
        Problem::internal()
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}
