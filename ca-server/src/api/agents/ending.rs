//! Ending agents: bans, eviction, and purging of those that have been over for long.
//!
//! Invariant: of an eviction the store says it first and this replica's memory follows, so that an
//! attempt which ended between the two can be repeated. A ban is a revocation of kind `agent`, and is
//! made and lifted as one.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Agents;
use crate::api::auth::Administrator;
use crate::api::body::{Fields, JsonBody};
use crate::api::preconditions::Conditions;
use crate::api::problem::Problem;
use crate::api::query::Segments;
use crate::api::revocations::{Revoked, SpooledView, Wish, reason};
use crate::api::timestamp::Timestamp;
use crate::store::{AgentBan, RevocationSubject};

const LONGEST_AGE: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
/// Why an agent is banned.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct BanRequest {
    /// For people; 1 to 500 bytes.
    reason: String,
    /// As of a revocation.
    #[serde(default)]
    force: bool,
}

/// A ban, and what it hits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BanAnswer {
    agent_id: String,
    ban: BanView,
    /// X.509-SVIDs issued through the agent that have not ended; from this revision on proxies refuse
    /// them.
    live_svids: u64,
    /// When the last of them ends.
    live_until: Option<Timestamp>,
    /// That of the ban.
    revision: String,
}

/// Who banned an agent, and why.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BanView {
    reason: String,
    author: String,
    banned_at: Timestamp,
}

/// Which agents go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PurgeRequest {
    /// How long ago the agent's last SVID must have ended, such as `30d`.
    expired_for: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Purged {
    /// IDs of the agents that went.
    agents: Vec<String>,
}

impl Fields for BanRequest {
    const FIELDS: &'static [&'static str] = &["reason", "force"];
}

impl Fields for PurgeRequest {
    const FIELDS: &'static [&'static str] = &["expiredFor"];
}

impl From<&AgentBan> for BanView {
    fn from(ban: &AgentBan) -> Self {
        Self {
            reason: ban.reason.clone(),
            author: ban.author.clone(),
            banned_at: ban.banned_at.into(),
        }
    }
}

/// Bans an agent: it neither attests nor renews nor is issued anything, its join tokens are deleted,
/// its connections end, and what was issued through it is refused everywhere. The same as a
/// revocation of kind `agent`, also while the store is away (202).
#[utoipa::path(post, path = "/v1/agents/{attestor}/{name}/ban", tag = "agents",
    params(("attestor" = String, Path), ("name" = String, Path)), request_body = BanRequest,
    responses((status = 200, body = BanAnswer), (status = 202, body = SpooledView)))]
pub(super) async fn ban_agent(
    State(agents): State<Agents>,
    author: Administrator,
    conditions: Conditions,
    Segments((attestor, name)): Segments<(String, String)>,
    JsonBody(request): JsonBody<BanRequest>,
) -> Result<Response, Problem> {
    let agent = agents.id(&attestor, &name)?;
    let subject = RevocationSubject::Agent(agent.spiffe_id().clone());
    let wish = Wish {
        subject: subject.clone(),
        reason: reason(request.reason)?,
        force: request.force,
        conditions,
    };
    let banned = match agents.revocations.revoke(wish, &author).await? {
        Revoked::Recorded(banned) => banned,
        Revoked::Spooled(spooled) => return Ok(spooled.into_response()),
    };
    let bans = agents.store.agent_bans().await?;
    let ban = bans.iter().find(|ban| ban.spiffe_id == *agent.spiffe_id());
    let ban = ban.ok_or_else(|| Problem::not_found(format!("ban of agent {agent}")))?;
    let live = agents.revocations.hits(&subject).await?;
    let answer = Json(BanAnswer {
        agent_id: agent.to_string(),
        ban: ban.into(),
        live_svids: live.count,
        live_until: live.until.map(Into::into),
        revision: banned.revision.to_string(),
    });
    Ok(answer.into_response())
}

/// Lifts an agent's ban. What the ban deleted does not come back.
#[utoipa::path(delete, path = "/v1/agents/{attestor}/{name}/ban", tag = "agents",
    params(("attestor" = String, Path), ("name" = String, Path)), responses((status = 204)))]
pub(super) async fn lift_ban(
    State(agents): State<Agents>,
    author: Administrator,
    conditions: Conditions,
    Segments((attestor, name)): Segments<(String, String)>,
) -> Result<StatusCode, Problem> {
    let agent = agents.id(&attestor, &name)?;
    let subject = RevocationSubject::Agent(agent.spiffe_id().clone());
    let lifted = agents.revocations.lift(subject, None, &conditions, &author);
    lifted.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Evicts an agent: its SVID is not renewed, its stream ends, and it must attest again by a fresh
/// proof. A join token that it used is none.
#[utoipa::path(delete, path = "/v1/agents/{attestor}/{name}", tag = "agents",
    params(("attestor" = String, Path), ("name" = String, Path)), responses((status = 204)))]
pub(super) async fn forget_agent(
    State(agents): State<Agents>,
    Segments((attestor, name)): Segments<(String, String)>,
) -> Result<StatusCode, Problem> {
    let agent = agents.id(&attestor, &name)?;
    let known = agents.store.forget_agent(agent.spiffe_id()).await;
    // Whatever came of it: an earlier attempt may have ended between the two.
    agents.presence.disconnect(agent.spiffe_id());
    match known? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found(format!("agent {agent}"))),
    }
}

/// Forgets the agents whose last SVID ended long ago. Bans stay.
#[utoipa::path(post, path = "/v1/agents/purge", tag = "agents", request_body = PurgeRequest,
    responses((status = 200, body = Purged)))]
pub(super) async fn purge_agents(
    State(agents): State<Agents>,
    JsonBody(request): JsonBody<PurgeRequest>,
) -> Result<Json<Purged>, Problem> {
    let age = age(&request.expired_for)?;
    let gone = agents.store.purge_agents(agents.clock.now() - age).await?;
    for agent in &gone {
        // One that has attested again since keeps its place.
        if agents.store.agent(agent).await?.is_none() {
            agents.presence.disconnect(agent);
        }
    }
    Ok(Json(Purged {
        agents: gone.iter().map(ToString::to_string).collect(),
    }))
}

fn age(text: &str) -> Result<Duration, Problem> {
    let invalid = |rule: String| Problem::invalid("invalid-value", rule).at("/expiredFor");
    let age = humantime::parse_duration(text).map_err(|error| invalid(error.to_string()))?;
    if age > LONGEST_AGE {
        return Err(invalid(
            "agents are purged after ten years at most".to_owned(),
        ));
    }
    Ok(age)
}
