//! The store as a whole: whether it holds everything that was seen of it, and the way on when not.

use axum::Json;
use axum::extract::State;
use policy::{ObjectKey, Revision};
use runtime::Clock;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Administrator;
use super::body::{Fields, JsonBody};
use super::documented::Documented;
use super::problem::Problem;
use crate::registry::{Behind, Registry};
use crate::store::{Authorship, InForce, Store};

const LONGEST_REASON: usize = 500;

/// Compares what was seen with what is held.
#[derive(Clone, Debug)]
pub(super) struct Stores {
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) clock: Clock,
}

pub(super) fn operations(stores: Stores) -> Documented {
    Documented::new()
        .on(&__path_show_store, show_store)
        .on(&__path_accept_loss, accept_loss)
        .with(stores)
}

/// What the store holds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StoreView {
    /// `sqlite` or `postgres`.
    kind: &'static str,
    /// The newest revision that it holds.
    head: String,
    /// Absent unless somebody has seen a later one.
    behind: Option<BehindView>,
}

/// Evidence that revisions were lost.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BehindView {
    /// The highest that was seen.
    seen: String,
    /// Numbers of the first and the last revision that are lost.
    lost: [u64; 2],
    /// Whether the replica that answers has seen them itself, so that it knows the objects.
    seen_here: bool,
    /// Agents that hold later revisions than the store.
    agents: Vec<WitnessView>,
    /// What the lost revisions had changed, as far as this replica knows.
    objects: Vec<LostView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WitnessView {
    agent_id: String,
    revision: String,
}

/// One object that is not in the store as it was in force.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LostView {
    object: String,
    /// The revision that had last changed it; absent when it had been deleted.
    was: Option<String>,
    /// The one that the store holds; absent when it holds none.
    is: Option<String>,
}

/// On top of what to go on.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct AcceptLossRequest {
    /// The `head` that the loss was judged by.
    head: String,
    /// For people; 1 to 500 bytes.
    reason: String,
}

impl Fields for AcceptLossRequest {
    const FIELDS: &'static [&'static str] = &["head", "reason"];
}

/// The first revision of the new epoch, and what was given up.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AcceptedView {
    revision: String,
    lost: Option<BehindView>,
}

/// Says whether the store holds everything that was seen of it.
#[utoipa::path(get, path = "/v1/store", tag = "store", responses((status = 200, body = StoreView)))]
async fn show_store(State(stores): State<Stores>) -> Result<Json<StoreView>, Problem> {
    let (head, behind) = stores.compare().await?;
    Ok(Json(StoreView {
        kind: stores.store.backend_name(),
        head: head.to_string(),
        behind,
    }))
}

/// Gives up the revisions that the store has lost: begins a new epoch with what it holds. Agents
/// that hold more get a fresh snapshot.
#[utoipa::path(post, path = "/v1/store/accept-loss", tag = "store",
    request_body = AcceptLossRequest, responses((status = 200, body = AcceptedView)))]
async fn accept_loss(
    State(stores): State<Stores>,
    author: Administrator,
    JsonBody(request): JsonBody<AcceptLossRequest>,
) -> Result<Json<AcceptedView>, Problem> {
    let head: Revision = request.head.parse().map_err(|_| {
        let rule = "is no revision; say the `head` that GET /v1/store shows";
        Problem::invalid("invalid-value", rule).at("/head")
    })?;
    let authorship = Authorship {
        author: author.author(),
        reason: reason(&request.reason)?,
        at: stores.clock.now(),
    };
    let (_, lost) = stores.compare().await?;
    let revision = stores.registry.accept_loss(head, authorship).await?;
    Ok(Json(AcceptedView {
        revision: revision.to_string(),
        lost,
    }))
}

impl Stores {
    async fn compare(&self) -> Result<(Revision, Option<BehindView>), Problem> {
        let head = self.store.head().await?;
        self.registry.look().await?;
        let Some(behind) = self.registry.behind() else {
            return Ok((head, None));
        };
        let objects = match behind.own {
            Some(_) => self.lost().await?,
            None => Vec::new(),
        };
        Ok((head, Some(view(&behind, objects))))
    }

    async fn lost(&self) -> Result<Vec<LostView>, Problem> {
        let held = self.store.in_force().await.map_err(|error| {
            tracing::error!(%error, "what the store holds cannot be read");
            Problem::internal()
        })?;
        let snapshot = self.registry.snapshot();
        Ok(differences(snapshot.in_force(), &held))
    }
}

fn differences(was: &InForce, is: &InForce) -> Vec<LostView> {
    let of = |whole: &InForce, key: &ObjectKey| {
        let found = whole.get(key);
        found.map(|(_, _, revision)| revision.to_string())
    };
    let changed = was.iter().filter(|(key, _, revision)| {
        let held = is.get(key);
        held.is_none_or(|(_, _, held)| held != *revision)
    });
    let deleted = is.iter().filter(|(key, ..)| was.get(key).is_none());
    let keys = changed.chain(deleted).map(|(key, ..)| key);
    keys.map(|key| LostView {
        object: key.to_string(),
        was: of(was, key),
        is: of(is, key),
    })
    .collect()
}

fn view(behind: &Behind, objects: Vec<LostView>) -> BehindView {
    let agents = behind.agents.iter().map(|(agent, revision)| WitnessView {
        agent_id: agent.to_string(),
        revision: revision.to_string(),
    });
    BehindView {
        seen: behind.seen.to_string(),
        lost: [behind.head.number + 1, behind.seen.number],
        seen_here: behind.own.is_some(),
        agents: agents.collect(),
        objects,
    }
}

fn reason(text: &str) -> Result<String, Problem> {
    let empty = text.trim().is_empty();
    if empty || text.len() > LONGEST_REASON || text.chars().any(char::is_control) {
        let rule = format!("a reason has 1 to {LONGEST_REASON} bytes, and no control characters");
        return Err(Problem::invalid("invalid-value", rule).at("/reason"));
    }
    Ok(text.to_owned())
}
