//! Ending agents: bans, eviction, and purging of those that have been over for long.
//!
//! Invariant: the store says it first and this replica's memory follows, so that an attempt which
//! ended between the two can be repeated. An answer says what goes on all the same: certificates
//! that were issued already are not called back.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use identity::AgentId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Agents;
use crate::api::auth::Administrator;
use crate::api::body::{Fields, JsonBody};
use crate::api::problem::Problem;
use crate::api::query::Segments;
use crate::api::timestamp::Timestamp;
use crate::store::{AgentBan, LiveSvids};

const LONGEST_REASON: usize = 500;
const LONGEST_AGE: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);
const STILL_VALID: &str = "certificates issued already stay valid until they end: proxies do not \
                           judge by bans yet";

/// Why an agent is banned.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct BanRequest {
    /// For people; 1 to 500 bytes.
    reason: String,
}

/// A ban, and what goes on in spite of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BanAnswer {
    agent_id: String,
    ban: BanView,
    /// X.509-SVIDs issued through the agent that have not ended.
    live_svids: u64,
    /// When the last of them ends.
    live_until: Option<Timestamp>,
    /// What they can still be used for.
    note: String,
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
    const FIELDS: &'static [&'static str] = &["reason"];
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

/// Bans an agent: it neither attests nor renews nor is issued anything, its join tokens are deleted
/// and its connections end. Certificates that it has already stay valid until they end.
#[utoipa::path(post, path = "/v1/agents/{attestor}/{name}/ban", tag = "agents",
    params(("attestor" = String, Path), ("name" = String, Path)), request_body = BanRequest,
    responses((status = 200, body = BanAnswer)))]
pub(super) async fn ban_agent(
    State(agents): State<Agents>,
    author: Administrator,
    Segments((attestor, name)): Segments<(String, String)>,
    JsonBody(request): JsonBody<BanRequest>,
) -> Result<Json<BanAnswer>, Problem> {
    let agent = agents.id(&attestor, &name)?;
    let ban = AgentBan {
        spiffe_id: agent.spiffe_id().clone(),
        reason: reason(request.reason)?,
        author: author.author(),
        banned_at: agents.clock.now(),
    };
    agents.store.ban_agent(ban.clone()).await?;
    agents.presence.ban(agent.spiffe_id());
    tracing::warn!(agent = %agent, author = ban.author, reason = ban.reason, "agent banned");
    let now = agents.clock.now();
    let live = agents.store.live_svids(agent.spiffe_id(), now).await?;
    Ok(Json(answer(&agent, &ban, live)))
}

/// Lifts an agent's ban. What the ban deleted does not come back.
#[utoipa::path(delete, path = "/v1/agents/{attestor}/{name}/ban", tag = "agents",
    params(("attestor" = String, Path), ("name" = String, Path)), responses((status = 204)))]
pub(super) async fn lift_ban(
    State(agents): State<Agents>,
    Segments((attestor, name)): Segments<(String, String)>,
) -> Result<StatusCode, Problem> {
    let agent = agents.id(&attestor, &name)?;
    let known = agents.store.lift_ban(agent.spiffe_id()).await?;
    agents.presence.lift_ban(agent.spiffe_id());
    match known {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found(format!("ban of agent {agent}"))),
    }
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

fn answer(agent: &AgentId, ban: &AgentBan, live: LiveSvids) -> BanAnswer {
    BanAnswer {
        agent_id: agent.to_string(),
        ban: ban.into(),
        live_svids: live.count,
        live_until: live.until.map(Into::into),
        note: STILL_VALID.to_owned(),
    }
}

fn reason(text: String) -> Result<String, Problem> {
    let empty = text.trim().is_empty();
    if empty || text.len() > LONGEST_REASON || text.chars().any(char::is_control) {
        let rule = format!("a reason has 1 to {LONGEST_REASON} bytes, and no control characters");
        return Err(Problem::invalid("invalid-value", rule).at("/reason"));
    }
    Ok(text)
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
