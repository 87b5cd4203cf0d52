//! Revisions: what was written, by whom and why, and whether the mesh enforces it yet.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use identity::SpiffeId;
use policy::Revision;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;

use super::documented::Documented;
use super::elsewhere::{Elsewhere, Other};
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
    pub(super) store: Store,
    pub(super) presence: Presence,
    pub(super) elsewhere: Elsewhere,
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
    enforcement: EnforcementView,
}

/// How far a revision has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EnforcementView {
    enforced_at: Option<Timestamp>,
    /// From the commit to the last acknowledgement at any replica: by the database's clock where
    /// replicas share one, else by the CA's.
    milliseconds: Option<u64>,
    /// Connected agents that have not acknowledged it; of those at other replicas up to a hundred
    /// each, as these told some seconds ago. Lists leave it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<Vec<String>>,
    /// Other live replicas that have not said that all their agents have it. Lists leave it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_replicas: Option<Vec<PendingReplica>>,
}

/// A replica some of whose agents lack a revision.
#[derive(Debug, Serialize, ToSchema)]
struct PendingReplica {
    replica: String,
    /// How many; null until it says so.
    agents: Option<u64>,
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
    let row = match row.enforced_at {
        None if pending.is_empty() && waited => revisions.noted(revision, deadline).await?,
        _ => row,
    };
    let mut pending = Pending::of(&pending);
    if row.enforced_at.is_none() {
        pending.add(&revisions.elsewhere.others().await?, revision.number);
    }
    Ok(Json(view(&row, Some(pending))))
}

/// Who lacks a revision.
#[derive(Debug)]
struct Pending {
    agents: Vec<String>,
    replicas: Vec<PendingReplica>,
}

impl Pending {
    fn of(agents: &[SpiffeId]) -> Self {
        Self {
            agents: agents.iter().map(ToString::to_string).collect(),
            replicas: Vec::new(),
        }
    }

    fn add(&mut self, others: &[Other], number: u64) {
        for other in others.iter().filter(|other| other.enforced < number) {
            let told = other.hold_ups.as_ref();
            let told = told.and_then(|told| told.pending(number));
            let (named, agents) = told.unzip();
            let named = named.into_iter().flatten();
            self.agents.extend(named.map(ToString::to_string));
            self.replicas.push(PendingReplica {
                replica: other.name.clone(),
                agents,
            });
        }
    }
}

impl Revisions {
    async fn find(&self, revision: Revision) -> Result<RevisionRow, Problem> {
        let found = match self.store.epoch() == revision.epoch {
            true => self.store.revision(revision.number).await?,
            false => None,
        };
        found.ok_or_else(|| Problem::not_found(format!("revision {revision}")))
    }

    /// With the note that the revision is enforced. The agents of this replica have it; those of
    /// others may still be about to.
    async fn noted(&self, revision: Revision, deadline: Instant) -> Result<RevisionRow, Problem> {
        if !self.store.is_shared() {
            let (replica, now) = (&self.elsewhere.replica, self.elsewhere.clock.now());
            self.store.note_enforced(replica, revision, now).await?;
        }
        loop {
            let row = self.find(revision).await?;
            if row.enforced_at.is_some() || Instant::now() >= deadline {
                return Ok(row);
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

fn view(row: &RevisionRow, pending: Option<Pending>) -> RevisionView {
    let millis = row.enforced_after.map(|after| after.as_millis());
    let (agents, replicas) = pending.map(|it| (it.agents, it.replicas)).unzip();
    RevisionView {
        revision: row.revision.to_string(),
        number: row.revision.number,
        author: row.author.clone(),
        reason: row.reason.clone(),
        committed_at: row.committed_at.into(),
        content_sha256: row.content_sha256.to_string(),
        enforcement: EnforcementView {
            enforced_at: row.enforced_at.map(Timestamp::from),
            milliseconds: millis.and_then(|millis| millis.try_into().ok()),
            pending: agents,
            pending_replicas: replicas,
        },
    }
}
