//! Who may administer: the holder of a live bearer secret (RFC 6750).
//!
//! Invariant: an [`Administrator`] exists only after its secret's digest was found, in constant
//! time, among the live credentials; while the store is away, among those that were read last, and
//! then only to revoke. An instance below this one is known by a secret of another kind, which opens
//! nothing of an administrator's.

use std::time::Duration;

use axum::Router;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use crypto::digest::Sha256;
use runtime::Clock;
use tokio::time::timeout;

use super::WithoutStore;
use super::problem::Problem;
use crate::bearer::{Administration, BearerSecret, Nesting, Opening};
use crate::store::{AdminCredential, Downstream, Store, StoreError};

/// What goes on while the store is away.
const WITHOUT_STORE: [&str; 2] = ["/v1/revocations", "/v1/agents/{attestor}/{name}/ban"];
/// A store that takes longer counts as away, where that may be done without.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Checks bearer secrets.
#[derive(Clone, Debug)]
pub(super) struct Administrators {
    pub(super) store: Store,
    pub(super) clock: Clock,
    /// `None` where nothing is done while the store is away.
    pub(super) without_store: Option<WithoutStore>,
}

/// Evidence that the request carries a live credential.
#[derive(Clone, Debug)]
pub(super) struct Administrator {
    credential: AdminCredential,
    store_is_away: bool,
}

impl Administrators {
    async fn recognize(
        &self,
        headers: &HeaderMap,
        goes_on: bool,
    ) -> Result<Administrator, Problem> {
        let digest = bearer::<Administration>(headers)?.digest();
        let without_store = self.without_store.as_ref();
        let (credential, store_is_away) = match without_store.filter(|_| goes_on) {
            None => (self.ask_store(&digest).await?, false),
            Some(without) => self.recognize_without(without, &digest).await?,
        };
        let credential = credential.ok_or_else(|| {
            Problem::unauthorized("the credential is unknown, expired or revoked")
        })?;
        Ok(Administrator {
            credential,
            store_is_away,
        })
    }

    async fn ask_store(&self, digest: &Sha256) -> Result<Option<AdminCredential>, StoreError> {
        let now = self.clock.now();
        let Some(without) = &self.without_store else {
            return self.store.check_admin(digest, now).await;
        };
        let all = self.store.admin_credentials().await?;
        let found = AdminCredential::among(&all, digest, now);
        without.credentials.note(all);
        Ok(found)
    }

    /// By the store if it answers, and whether it did not.
    async fn recognize_without(
        &self,
        without: &WithoutStore,
        digest: &Sha256,
    ) -> Result<(Option<AdminCredential>, bool), Problem> {
        if !without.standing.is_away() {
            match timeout(ANSWERS_WITHIN, self.ask_store(digest)).await {
                Ok(Ok(found)) => return Ok((found, false)),
                Ok(Err(StoreError::Unavailable(_))) | Err(_) => {}
                Ok(Err(error)) => return Err(error.into()),
            }
        }
        let found = without.credentials.recognize(digest, self.clock.now());
        let found =
            found.map_err(|error| Problem::unavailable("store-unavailable", error.to_string()))?;
        Ok((found, true))
    }
}

fn goes_on(request: &Request) -> bool {
    let path = request.extensions().get::<MatchedPath>();
    request.method() == Method::POST && path.is_some_and(|it| WITHOUT_STORE.contains(&it.as_str()))
}

impl Administrator {
    /// How revisions name the author.
    pub(super) fn author(&self) -> String {
        format!("admin/{}", self.credential.id())
    }

    /// The store did not say who this is, and need not be asked for more.
    pub(super) fn store_is_away(&self) -> bool {
        self.store_is_away
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
    let goes_on = goes_on(&request);
    match administrators.recognize(request.headers(), goes_on).await {
        Ok(administrator) => {
            request.extensions_mut().insert(administrator);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Checks the secrets of instances below this one.
#[derive(Clone, Debug)]
pub(super) struct InstancesBelow {
    pub(super) store: Store,
    pub(super) clock: Clock,
}

/// Evidence that the request comes from an instance below this one.
#[derive(Clone, Debug)]
pub(super) struct BelowUs(pub(super) Downstream);

impl<S: Send + Sync> FromRequestParts<S> for BelowUs {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let found = parts.extensions.get::<Self>().cloned();
        found.ok_or_else(|| Problem::unauthorized("this request needs a downstream's credential"))
    }
}

/// Lets nothing reach the routes of `router` but for an instance below this one.
pub(super) fn require_downstream(router: Router, instances: InstancesBelow) -> Router {
    router.route_layer(from_fn_with_state(instances, admit_below))
}

async fn admit_below(
    State(instances): State<InstancesBelow>,
    mut request: Request,
    next: Next,
) -> Response {
    match instances.recognize(request.headers()).await {
        Ok(below) => {
            request.extensions_mut().insert(below);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

impl InstancesBelow {
    async fn recognize(&self, headers: &HeaderMap) -> Result<BelowUs, Problem> {
        let digest = bearer::<Nesting>(headers)?.digest();
        let found = self.store.recognize_downstream(&digest, self.clock.now());
        let found = found.await?.map(BelowUs);
        found.ok_or_else(|| {
            Problem::unauthorized("no downstream has this credential")
                .suggest("`countersign downstream create` makes one")
        })
    }
}

fn bearer<O: Opening>(headers: &HeaderMap) -> Result<BearerSecret<O>, Problem> {
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
