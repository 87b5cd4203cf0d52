//! Who may administer: the holder of a live bearer secret (RFC 6750).
//!
//! Invariant: an [`Administrator`] exists only after its secret's digest was found, in constant
//! time, among the live credentials.

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use runtime::Clock;

use super::problem::Problem;
use crate::admin::AdminSecret;
use crate::store::{AdminCredential, Store};

/// Checks bearer secrets.
#[derive(Clone, Debug)]
pub(super) struct Administrators {
    store: Store,
    clock: Clock,
}

/// Evidence that the request carries a live credential.
#[derive(Clone, Debug)]
pub(super) struct Administrator(AdminCredential);

impl Administrators {
    pub(super) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    async fn recognize(&self, headers: &HeaderMap) -> Result<Administrator, Problem> {
        let secret = bearer(headers)?;
        let found = self
            .store
            .check_admin(&secret.digest(), self.clock.now())
            .await?;
        found
            .map(Administrator)
            .ok_or_else(|| Problem::unauthorized("the credential is unknown, expired or revoked"))
    }
}

impl Administrator {
    /// How revisions name the author.
    pub(super) fn author(&self) -> String {
        format!("admin/{}", self.0.id())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let found = parts.extensions.get::<Self>().cloned();
        found.ok_or_else(|| Problem::unauthorized("this request needs a credential"))
    }
}

/// Lets nothing reach the routes of `router` without a credential.
pub(super) fn require_administrator(router: Router, administrators: Administrators) -> Router {
    router.route_layer(from_fn_with_state(administrators, admit))
}

async fn admit(
    State(administrators): State<Administrators>,
    mut request: Request,
    next: Next,
) -> Response {
    match administrators.recognize(request.headers()).await {
        Ok(administrator) => {
            request.extensions_mut().insert(administrator);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn bearer(headers: &HeaderMap) -> Result<AdminSecret, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Problem::unauthorized(
            "this request needs one Authorization header",
        ));
    };
    let malformed = || Problem::unauthorized("the Authorization header is not a bearer secret");
    let text = value.to_str().map_err(|_| malformed())?;
    let (scheme, secret) = text.split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed());
    }
    secret
        .trim_start_matches(' ')
        .parse()
        .map_err(|_| malformed())
}
