//! Revisions: what was written, by whom and why, and whether the mesh enforces it yet.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use policy::Revision;
use runtime::Clock;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use super::documented::Documented;
use super::problem::Problem;
use super::query::{Parameters, Segments, limit, parse};
use super::timestamp::Timestamp;
use crate::store::{RevisionRow, Store};
use crate::watch::Presence;

const PAGE: u32 = 500;
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// For what another replica notes.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Reads revisions.
#[derive(Clone, Debug)]
pub(super) struct Revisions {
    pub(super) replica: String,
    pub(super) store: Store,
    pub(super) presence: Presence,
    pub(super) clock: Clock,
}

pub(super) fn operations(revisions: Revisions) -> Documented {
    Documented::new()
        .on(&__path_list_revisions, list_revisions)
        .on(&__path_get_revision, get_revision)
        .with(revisions)
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RevisionsQuery {
    /// At most so many, 1 to 500 (500 when left out), the newest first.
    limit: Option<u32>,
    /// Only those with a number below this one.
    before: Option<u64>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// `enforced`: answer when every connected agent has acknowledged it, or the time is over.
    wait: Option<String>,
    /// At most so long, up to 30000 (10000 when left out).
    timeout_ms: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct RevisionList {
    items: Vec<RevisionView>,
}

/// One configuration write.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RevisionView {
    revision: String,
    number: u64,
    author: String,
    reason: String,
    committed_at: Timestamp,
    /// SHA-256 of the whole configuration that came to be in force, in hex.
    content_sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    enforcement: Option<EnforcementView>,
}

/// How far a revision has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EnforcementView {
    /// Connected agents that have not acknowledged it.
    pending: Vec<String>,
    enforced_at: Option<Timestamp>,
    /// From commit to the last acknowledgement, by the CA's clock.
    milliseconds: Option<u64>,
}

/// Lists revisions.
#[utoipa::path(get, path = "/v1/revisions", tag = "revisions", params(RevisionsQuery),
    responses((status = 200, body = RevisionList)))]
async fn list_revisions(
    State(revisions): State<Revisions>,
    Parameters(query): Parameters<RevisionsQuery>,
) -> Result<Json<RevisionList>, Problem> {
    let limit = limit(query.limit, PAGE)?;
    let rows = revisions.store.revisions(limit, query.before).await?;
    Ok(Json(RevisionList {
        items: rows.iter().map(|row| view(row, None)).collect(),
    }))
}

/// Reads one revision; with `?wait=enforced`, when it is enforced.
#[utoipa::path(get, path = "/v1/revisions/{revision}", tag = "revisions",
    params(("revision" = String, Path), WaitQuery),
    responses((status = 200, body = RevisionView)))]
async fn get_revision(
    State(revisions): State<Revisions>,
    Segments(text): Segments<String>,
    Parameters(query): Parameters<WaitQuery>,
) -> Result<Json<RevisionView>, Problem> {
    let revision: Revision = parse("revision", &text)?;
    let wait = wait(&query)?;
    let deadline = Instant::now() + wait.unwrap_or_default();
    revisions.find(revision).await?;
    let waited = wait.is_some();
    let pending = match wait {
        Some(timeout) => {
            revisions
                .presence
                .wait_enforced(revision, timeout)
                .await
                .pending
        }
        None => revisions.presence.enforcement(revision).pending,
    };
    // Read once more: the acknowledgement that was waited for is noted meanwhile.
    let row = revisions.find(revision).await?;
    let enforced_at = match row.enforced_at {
        None if pending.is_empty() && waited => revisions.noted(revision, deadline).await?,
        noted => noted,
    };
    let enforcement = EnforcementView {
        pending: pending.iter().map(ToString::to_string).collect(),
        enforced_at: enforced_at.map(Timestamp::from),
        milliseconds: enforced_at
            .and_then(|at| (at - row.committed_at).whole_milliseconds().try_into().ok()),
    };
    Ok(Json(view(&row, Some(enforcement))))
}

impl Revisions {
    async fn find(&self, revision: Revision) -> Result<RevisionRow, Problem> {
        let found = match self.store.epoch() == revision.epoch {
            true => self.store.revision(revision.number).await?,
            false => None,
        };
        found.ok_or_else(|| Problem::not_found(format!("revision {revision}")))
    }

    /// When it was noted that the revision is enforced. The agents of this replica have it; those
    /// of others may still be about to.
    async fn noted(
        &self,
        revision: Revision,
        deadline: Instant,
    ) -> Result<Option<OffsetDateTime>, Problem> {
        if !self.store.is_shared() {
            let now = self.clock.now();
            self.store
                .note_enforced(&self.replica, revision, now)
                .await?;
            return Ok(Some(now));
        }
        loop {
            let noted = self.find(revision).await?.enforced_at;
            if noted.is_some() || Instant::now() >= deadline {
                return Ok(noted);
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn wait(query: &WaitQuery) -> Result<Option<Duration>, Problem> {
    let timeout = Duration::from_millis(query.timeout_ms.unwrap_or(10_000));
    match query.wait.as_deref() {
        None => Ok(None),
        Some("enforced") if timeout <= LONGEST_WAIT => Ok(Some(timeout)),
        Some("enforced") => {
            let detail = format!("timeoutMs is at most {}", LONGEST_WAIT.as_millis());
            Err(Problem::bad_request("bad-query", detail))
        }
        Some(other) => {
            let detail = format!("wait={other} is not known");
            Err(Problem::bad_request("bad-query", detail).suggest("wait=enforced"))
        }
    }
}

fn view(row: &RevisionRow, enforcement: Option<EnforcementView>) -> RevisionView {
    RevisionView {
        revision: row.revision.to_string(),
        number: row.revision.number,
        author: row.author.clone(),
        reason: row.reason.clone(),
        committed_at: row.committed_at.into(),
        content_sha256: row.content_sha256.to_string(),
        enforcement,
    }
}
