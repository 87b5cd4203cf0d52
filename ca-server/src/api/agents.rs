//! Agents: which have attested, which are connected, what they have acknowledged and report, and
//! why one may not hold a workload.

mod ending;
mod entitlement;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use identity::AgentId;
use policy::resource::{SelectorName, SelectorValue};
use runtime::Clock;
use serde::Serialize;
use utoipa::ToSchema;

use super::documented::Documented;
use super::problem::Problem;
use super::query::Segments;
use super::revocations::Revocations;
use super::timestamp::Timestamp;
use crate::issue::Directory;
use crate::store::{AgentBan, AgentRow, Store};
use crate::watch::{ConnectedAgent, Presence};
use ending::BanView;

/// Shows agents, and ends them.
#[derive(Clone, Debug)]
pub(super) struct Agents {
    pub(super) store: Store,
    pub(super) directory: Directory,
    pub(super) presence: Presence,
    pub(super) clock: Clock,
    pub(super) revocations: Revocations,
}

pub(super) fn operations(agents: Agents) -> Documented {
    Documented::new()
        .on(&__path_list_agents, list_agents)
        .on(&__path_show_agent, show_agent)
        .on(
            &entitlement::__path_show_entitlement,
            entitlement::show_entitlement,
        )
        .on(&ending::__path_ban_agent, ending::ban_agent)
        .on(&ending::__path_lift_ban, ending::lift_ban)
        .on(&ending::__path_forget_agent, ending::forget_agent)
        .on(&ending::__path_purge_agents, ending::purge_agents)
        .with(agents)
}

#[derive(Debug, Serialize, ToSchema)]
struct AgentList {
    items: Vec<AgentView>,
    /// Of agents that attested, and of others.
    bans: Vec<BannedAgent>,
}

/// An agent that may not attest.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BannedAgent {
    agent_id: String,
    ban: BanView,
}

/// One agent.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AgentView {
    spiffe_id: String,
    attested_at: Timestamp,
    /// Of the SVID that it was last given, in hex.
    serial: String,
    not_after: Timestamp,
    connected: bool,
    /// The replica that holds its stream, if that is another one than answers: only that one knows
    /// what the agent has acknowledged and reports.
    connected_to: Option<String>,
    /// Absent unless it is banned.
    ban: Option<BanView>,
    /// What all its counted proxies decide by.
    acknowledged: Option<String>,
    product: Option<String>,
    /// What its attestor said of it when it attested last; entries may name it by that.
    selectors: BTreeMap<String, String>,
    /// `namespace/name` of the identities that it may hold.
    workloads: Vec<String>,
    /// Its clock minus ours, when it connected.
    clock_offset_ms: Option<i64>,
    /// The proxies on its feed; none when it is not connected, or too old to say.
    proxies: Vec<ProxyView>,
    reports: Vec<ReportView>,
}

/// One proxy on an agent's feed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ProxyView {
    workload: String,
    product: String,
    /// The newest policy engine that it has.
    engine_version: u32,
}

/// What one proxy reports.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReportView {
    workload: String,
    /// Application ports that can be reached around the proxy.
    bypassable: Vec<BypassableView>,
    /// What its configuration asks for and it cannot do, such as a Gateway's port that is taken.
    problems: Vec<String>,
    calls_allowed: u64,
    calls_denied: u64,
    calls_failed: u64,
    draining: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BypassableView {
    service: String,
    port: String,
    application_port: u16,
    /// `network` or `local-users`.
    reach: String,
}

/// Lists the agents.
#[utoipa::path(get, path = "/v1/agents", tag = "agents",
    responses((status = 200, body = AgentList)))]
async fn list_agents(State(agents): State<Agents>) -> Result<Json<AgentList>, Problem> {
    let rows = agents.store.agents().await?;
    let bans = agents.store.agent_bans().await?;
    let listed = bans.iter().map(|ban| BannedAgent {
        agent_id: ban.spiffe_id.to_string(),
        ban: ban.into(),
    });
    Ok(Json(AgentList {
        items: rows.iter().map(|row| agents.view(row, &bans)).collect(),
        bans: listed.collect(),
    }))
}

/// Shows one agent.
#[utoipa::path(get, path = "/v1/agents/{attestor}/{name}", tag = "agents",
    params(("attestor" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = AgentView)))]
async fn show_agent(
    State(agents): State<Agents>,
    Segments((attestor, name)): Segments<(String, String)>,
) -> Result<Json<AgentView>, Problem> {
    let agent = agents.id(&attestor, &name)?;
    let row = agents.store.agent(agent.spiffe_id()).await?;
    let row = row.ok_or_else(|| Problem::not_found(format!("agent {agent}")))?;
    let bans = agents.store.agent_bans().await?;
    Ok(Json(agents.view(&row, &bans)))
}

impl Agents {
    fn id(&self, attestor: &str, name: &str) -> Result<AgentId, Problem> {
        AgentId::new(self.store.trust_domain(), attestor, name)
            .map_err(|error| Problem::bad_request("invalid-value", error.to_string()))
    }

    fn view(&self, row: &AgentRow, bans: &[AgentBan]) -> AgentView {
        let id = &row.spiffe_id;
        let ban = bans.iter().find(|ban| ban.spiffe_id == *id);
        let assignments = self.directory.current();
        let workloads = assignments.workloads_of(id).into_iter();
        let workloads = workloads.map(ToString::to_string).collect();
        let mut view = view(row, self.presence.agent(id).as_ref(), workloads);
        if !view.connected {
            view.connected_to = self.presence.held_by(id);
            view.connected = view.connected_to.is_some();
        }
        view.ban = ban.map(BanView::from);
        view
    }
}

fn view(row: &AgentRow, connected: Option<&ConnectedAgent>, workloads: Vec<String>) -> AgentView {
    let introduction = connected.map(|agent| &agent.introduction);
    AgentView {
        spiffe_id: row.spiffe_id.to_string(),
        attested_at: row.attested_at.into(),
        serial: row.serial.to_string(),
        not_after: row.not_after.into(),
        connected: connected.is_some(),
        connected_to: None,
        ban: None,
        acknowledged: connected
            .and_then(|agent| agent.acknowledged)
            .map(|revision| revision.to_string()),
        product: introduction.map(|introduction| introduction.product.clone()),
        selectors: row.selectors.iter().map(texts).collect(),
        workloads,
        clock_offset_ms: introduction.and_then(|introduction| {
            introduction
                .clock_offset
                .whole_milliseconds()
                .try_into()
                .ok()
        }),
        proxies: connected.map(proxies).unwrap_or_default(),
        reports: connected.map(reports).unwrap_or_default(),
    }
}

fn texts((name, value): (&SelectorName, &SelectorValue)) -> (String, String) {
    (name.to_string(), value.to_string())
}

fn proxies(agent: &ConnectedAgent) -> Vec<ProxyView> {
    let view = agent.proxies.iter().flatten().map(|proxy| ProxyView {
        workload: proxy.workload.to_string(),
        product: proxy.product.clone(),
        engine_version: proxy.engine_version,
    });
    view.collect()
}

fn reports(agent: &ConnectedAgent) -> Vec<ReportView> {
    let view = agent.reports.iter().map(|(workload, report)| ReportView {
        workload: workload.to_string(),
        bypassable: report
            .bypassable
            .iter()
            .map(|port| BypassableView {
                service: port.service.clone(),
                port: port.port.clone(),
                application_port: port.application_port,
                reach: port.reach.clone(),
            })
            .collect(),
        problems: report.problems.clone(),
        calls_allowed: report.calls_allowed,
        calls_denied: report.calls_denied,
        calls_failed: report.calls_failed,
        draining: report.draining,
    });
    view.collect()
}
