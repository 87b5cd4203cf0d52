//! Revocations: who is refused although the certificate verifies, since when, and why.
//!
//! Invariant: the CA refuses to revoke what would cut off its operators unawares: its own identities
//! and the root that signs. Who is banned follows from the revision in force, and from
//! nothing that a request does after its commit.

mod judge;
mod without_store;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use policy::Revision;
use runtime::Clock;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::WithoutStore;
use super::auth::Administrator;
use super::body::{Fields, JsonBody};
use super::documented::Documented;
use super::elsewhere::Elsewhere;
use super::objects::require_deny_lists;
use super::preconditions::{Conditions, etag};
use super::problem::Problem;
use super::query::{Parameters, Segments};
use super::timestamp::Timestamp;
use crate::registry::{Registry, RevokeError};
use crate::store::{
    Authorship, LiveSvids, NewRevocation, Revocation, RevocationChange, RevocationChanged,
    RevocationError, RevocationSubject, Store,
};
use crate::watch::Presence;
pub(super) use without_store::SpooledView;

/// A store that takes longer counts as away, where there is a spool.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);
const LONGEST_REASON: usize = 500;

/// Makes, shows and lifts revocations.
#[derive(Clone, Debug)]
pub(super) struct Revocations {
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) presence: Presence,
    pub(super) elsewhere: Elsewhere,
    pub(super) clock: Clock,
    pub(super) without_store: Option<WithoutStore>,
}

pub(super) fn operations(revocations: Revocations) -> Documented {
    Documented::new()
        .on(&__path_create_revocation, create_revocation)
        .on(&__path_list_revocations, list_revocations)
        .on(&__path_show_revocation, show_revocation)
        .on(&__path_lift_revocation, lift_revocation)
        .with(revocations)
}

/// What is revoked, and why.
#[derive(Debug, Deserialize, ToSchema)]
struct RevocationRequest {
    /// `agent`, `identity`, `serial` or `authority`.
    kind: String,
    /// A SPIFFE ID of an agent or of a workload, a serial number in hex, or the SHA-256 of an
    /// authority's public key in hex.
    subject: String,
    /// For people; 1 to 500 bytes.
    reason: String,
    /// Also where live proxies are too old to obey: those of an older policy engine then deny every
    /// call, and those behind an older agent go on as if nothing was revoked.
    #[serde(default)]
    force: bool,
}

impl Fields for RevocationRequest {
    const FIELDS: &'static [&'static str] = &["kind", "subject", "reason", "force"];
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LiftQuery {
    /// Why, for the revision; at most 500 bytes.
    reason: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RevocationList {
    items: Vec<RevocationView>,
}

/// One revocation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RevocationView {
    kind: &'static str,
    subject: String,
    reason: String,
    author: String,
    created_at: Timestamp,
    /// When it leaves by itself; none of one that stays until it is lifted.
    expires_at: Option<Timestamp>,
    /// The revision that last changed it; `GET /v1/revisions/{revision}?wait=enforced` says when all
    /// connected agents have it.
    revision: String,
    /// X.509-SVIDs that have not ended and that it hits.
    live_svids: u64,
    /// When the last of them ends.
    live_until: Option<Timestamp>,
}

/// What became of a revocation that was lifted.
#[derive(Debug, Serialize, ToSchema)]
struct LiftedView {
    revision: String,
}

/// Revokes an agent, an identity, a certificate or an authority. The same again changes nothing.
/// While the store is away agents, identities and roots are revoked all the same (202), where the
/// replica has a spool.
#[utoipa::path(post, path = "/v1/revocations", tag = "revocations",
    request_body = RevocationRequest,
    responses((status = 200, body = RevocationView), (status = 201, body = RevocationView),
        (status = 202, body = SpooledView)))]
async fn create_revocation(
    State(revocations): State<Revocations>,
    author: Administrator,
    conditions: Conditions,
    JsonBody(request): JsonBody<RevocationRequest>,
) -> Result<Response, Problem> {
    let subject = RevocationSubject::parse(&request.kind, &request.subject);
    let subject = subject
        .map_err(|error| Problem::invalid("invalid-value", error.to_string()).at("/subject"))?;
    let wish = Wish {
        subject: subject.clone(),
        reason: reason(request.reason)?,
        force: request.force,
        conditions,
    };
    let changed = match revocations.revoke(wish, &author).await? {
        Revoked::Recorded(changed) => changed,
        Revoked::Spooled(spooled) => return Ok(spooled.into_response()),
    };
    let status = match changed.changed {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    let view = revocations.find(&subject).await?;
    Ok((status, tagged(changed.revision), Json(view)).into_response())
}

/// Lists the revocations in force.
#[utoipa::path(get, path = "/v1/revocations", tag = "revocations",
    responses((status = 200, body = RevocationList)))]
async fn list_revocations(
    State(revocations): State<Revocations>,
) -> Result<Json<RevocationList>, Problem> {
    let now = revocations.clock.now();
    let live = revocations.store.live_svids_of_revoked(now).await?;
    let all = revocations.store.revocations(now).await?;
    let items = all.iter().map(|it| view(it, live.get(&it.subject)));
    Ok(Json(RevocationList {
        items: items.collect(),
    }))
}

/// Shows one revocation.
#[utoipa::path(get, path = "/v1/revocations/{kind}/{subject}", tag = "revocations",
    params(("kind" = String, Path), ("subject" = String, Path)),
    responses((status = 200, body = RevocationView)))]
async fn show_revocation(
    State(revocations): State<Revocations>,
    Segments((kind, subject)): Segments<(String, String)>,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let subject = subject_of(&kind, &subject)?;
    let found = revocations
        .store
        .revocation(&subject, revocations.clock.now());
    let found = found.await?.ok_or_else(|| none(&subject))?;
    let tag = tagged(found.revision);
    if conditions.not_modified(found.revision) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, Json(revocations.view(&found).await?)).into_response())
}

/// Lifts a revocation. What a ban deleted does not come back.
#[utoipa::path(delete, path = "/v1/revocations/{kind}/{subject}", tag = "revocations",
    params(("kind" = String, Path), ("subject" = String, Path), LiftQuery),
    responses((status = 200, body = LiftedView)))]
async fn lift_revocation(
    State(revocations): State<Revocations>,
    Segments((kind, subject)): Segments<(String, String)>,
    conditions: Conditions,
    Parameters(query): Parameters<LiftQuery>,
    author: Administrator,
) -> Result<Json<LiftedView>, Problem> {
    let subject = subject_of(&kind, &subject)?;
    let why = query.reason.map(reason).transpose()?;
    let lifted = revocations.lift(subject, why, &conditions, &author).await?;
    Ok(Json(LiftedView {
        revision: lifted.revision.to_string(),
    }))
}

/// How far a revocation has come.
#[derive(Debug)]
pub(super) enum Revoked {
    Recorded(RevocationChanged),
    /// It is obeyed here, and waits for the store.
    Spooled(SpooledView),
}

/// Somebody's wish that something be revoked.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) subject: RevocationSubject,
    pub(super) reason: String,
    pub(super) force: bool,
    pub(super) conditions: Conditions,
}

impl Revocations {
    pub(super) async fn revoke(
        &self,
        wish: Wish,
        author: &Administrator,
    ) -> Result<Revoked, Problem> {
        let Some(without) = &self.without_store else {
            return self
                .revoke_recorded(wish, author)
                .await
                .map(Revoked::Recorded);
        };
        if !author.store_is_away() {
            let recorded = self.revoke_recorded(wish.clone(), author);
            match timeout(RECORDED_WITHIN, recorded).await {
                Ok(Err(problem)) if problem.is_store_away() => {}
                // It may still come to be recorded; twice is as good as once.
                Err(_) => {}
                Ok(recorded) => return recorded.map(Revoked::Recorded),
            }
        }
        let spooled = self.revoke_without(without, wish, author).await?;
        Ok(Revoked::Spooled(spooled))
    }

    async fn revoke_recorded(
        &self,
        wish: Wish,
        author: &Administrator,
    ) -> Result<RevocationChanged, Problem> {
        let expires_at = self.judge(&wish.subject).await?;
        if !wish.force {
            let others = self.elsewhere.others().await?;
            require_deny_lists(&self.presence.connected(), &others)?;
        }
        let new = NewRevocation {
            subject: wish.subject.clone(),
            expires_at,
        };
        let change = RevocationChange::Revoke(new);
        let changed = self
            .change(change, wish.reason, &wish.conditions, author)
            .await?;
        let (kind, subject) = (wish.subject.kind(), &wish.subject);
        tracing::warn!(kind, %subject, author = author.author(), "revoked");
        Ok(changed)
    }

    pub(super) async fn lift(
        &self,
        subject: RevocationSubject,
        reason: Option<String>,
        conditions: &Conditions,
        author: &Administrator,
    ) -> Result<RevocationChanged, Problem> {
        let reason = reason.unwrap_or_else(|| format!("lift {} {subject}", subject.kind()));
        let lift = RevocationChange::Lift(subject.clone());
        let lifted = self.change(lift, reason, conditions, author).await;
        lifted.map_err(|problem| match problem.is_not_found() {
            true => none(&subject),
            false => problem,
        })
    }

    async fn change(
        &self,
        change: RevocationChange,
        reason: String,
        conditions: &Conditions,
        author: &Administrator,
    ) -> Result<RevocationChanged, Problem> {
        let authorship = Authorship {
            author: author.author(),
            reason,
            at: self.clock.now(),
        };
        let changed = self
            .registry
            .change_revocation(change, conditions.expected()?, authorship);
        Ok(changed.await?)
    }

    pub(super) async fn hits(&self, subject: &RevocationSubject) -> Result<LiveSvids, Problem> {
        let now = self.clock.now();
        Ok(self.store.live_svids_of(subject, now).await?)
    }

    async fn find(&self, subject: &RevocationSubject) -> Result<RevocationView, Problem> {
        let found = self.store.revocation(subject, self.clock.now()).await?;
        self.view(&found.ok_or_else(|| none(subject))?).await
    }

    async fn view(&self, revocation: &Revocation) -> Result<RevocationView, Problem> {
        let live = self.hits(&revocation.subject).await?;
        Ok(view(revocation, Some(&live)))
    }
}

/// `live`: what it hits, if anything.
fn view(revocation: &Revocation, live: Option<&LiveSvids>) -> RevocationView {
    RevocationView {
        kind: revocation.subject.kind(),
        subject: revocation.subject.to_string(),
        reason: revocation.reason.clone(),
        author: revocation.author.clone(),
        created_at: revocation.created_at.into(),
        expires_at: revocation.expires_at.map(Into::into),
        revision: revocation.revision.to_string(),
        live_svids: live.map_or(0, |live| live.count),
        live_until: live.and_then(|live| live.until).map(Into::into),
    }
}

impl From<RevokeError> for Problem {
    fn from(error: RevokeError) -> Self {
        let detail = error.to_string();
        match error {
            RevokeError::Apply(error) => error.into(),
            RevokeError::Refused(RevocationError::NotFound) => Self::not_found("such revocation"),
            RevokeError::Refused(RevocationError::PreconditionFailed { .. }) => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "precondition-failed",
                detail,
            )
            .suggest("read the revocation again and repeat the change on top of it"),
            RevokeError::Refused(RevocationError::TooMany) => {
                Self::conflict("too-many-revoked", detail)
                    .suggest("revoke the identities or the authority instead")
            }
            RevokeError::Refused(RevocationError::Store(error)) => error.into(),
        }
    }
}

pub(super) fn reason(text: String) -> Result<String, Problem> {
    let empty = text.trim().is_empty();
    if empty || text.len() > LONGEST_REASON || text.chars().any(char::is_control) {
        let rule = format!("a reason has 1 to {LONGEST_REASON} bytes, and no control characters");
        return Err(Problem::invalid("invalid-value", rule).at("/reason"));
    }
    Ok(text)
}

fn subject_of(kind: &str, text: &str) -> Result<RevocationSubject, Problem> {
    RevocationSubject::parse(kind, text)
        .map_err(|error| Problem::bad_request("invalid-value", error.to_string()))
}

fn none(subject: &RevocationSubject) -> Problem {
    Problem::not_found(format!("revocation of {} {subject}", subject.kind()))
}

fn tagged(revision: Revision) -> [(header::HeaderName, HeaderValue); 1] {
    [(header::ETAG, etag(revision))]
}
