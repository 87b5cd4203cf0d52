//! The OpenAPI 3.1 document, made of what is served.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use utoipa::openapi::path::Paths;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Info, OpenApi};
use utoipa::{PartialSchema, ToSchema};

use super::documented::Documented;
use super::problem::ProblemDetails;

const DESCRIPTION: &str = "Workload identities, and who may call whom. Errors are problem+json \
                           (RFC 9457); an object's ETag is the revision that last changed it.";

/// The document as it is sent.
#[derive(Clone)]
pub(super) struct Document(Bytes);

/// Serves the document on `groups` of operations, and on itself.
pub(super) fn document(groups: &[&Documented]) -> Documented {
    let own = Documented::new().on(&__path_openapi_document, openapi_document);
    let mut info = Info::new("Countersign", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.to_owned());
    let mut document = OpenApi::new(info, Paths::new());
    let mut schemas = vec![(
        ProblemDetails::name().into_owned(),
        ProblemDetails::schema(),
    )];
    ProblemDetails::schemas(&mut schemas);
    let components = document.components.get_or_insert_with(Components::new);
    components.schemas.extend(schemas);
    components.add_security_scheme("admin", bearer("The secret of the admin file."));
    let below = "The secret of an instance below this one.";
    components.add_security_scheme("downstream", bearer(below));
    for group in groups {
        document.paths.merge(group.paths().clone());
        components.schemas.extend(group.schemas().iter().cloned());
    }
    document.paths.merge(own.paths().clone());
    document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(
        "admin",
        [],
    )]);
    let json = serde_json::to_vec(&document).expect("an OpenAPI document is plain data");
    own.with(Document(json.into()))
}

/// This document. Public.
#[utoipa::path(get, path = "/openapi.json", tag = "about", security(()),
    responses((status = 200, body = serde_json::Value, content_type = "application/json")))]
async fn openapi_document(State(Document(json)): State<Document>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}

fn bearer(description: &str) -> SecurityScheme {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(description));
    SecurityScheme::Http(bearer.build())
}
