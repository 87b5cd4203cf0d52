//! Tells whoever has shown a credential which roots are published, so that a credential's file
//! follows a rotation by being used.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

use crate::registry::Registry;

/// SHA-256 of each published root, in hex, separated by commas.
const HEADER: HeaderName = HeaderName::from_static("countersign-roots");

pub(super) fn tell(router: Router, registry: Registry) -> Router {
    router.route_layer(from_fn_with_state(registry, add_header))
}

async fn add_header(State(registry): State<Registry>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let snapshot = registry.snapshot();
    let roots = snapshot.roots().bundle().authorities().iter();
    let digests: Vec<_> = roots.map(|root| root.digest().to_string()).collect();
    let value = HeaderValue::try_from(digests.join(","));
    let value = value.expect("hexadecimal digits and commas make a header value");
    response.headers_mut().insert(HEADER, value);
    response
}
