//! A write is refused while a live proxy has an older policy engine than it needs: told of it, that
//! proxy could only deny every call.
//!
//! What this cannot hold up: a proxy that comes later, or that is connected to another replica. It
//! meets what it cannot obey, and denies.

use super::super::problem::Problem;
use crate::watch::ConnectedAgent;

/// So many are named; more are counted.
const MOST_NAMED: usize = 20;

pub(super) fn require(needed: u32, connected: &[ConnectedAgent]) -> Result<(), Problem> {
    let behind: Vec<String> = connected
        .iter()
        .flat_map(|agent| behind(agent, needed))
        .collect();
    if behind.is_empty() {
        return Ok(());
    }
    let mut named = behind[..behind.len().min(MOST_NAMED)].join(", ");
    if behind.len() > MOST_NAMED {
        named = format!("{named} and {} more", behind.len() - MOST_NAMED);
    }
    let detail = format!(
        "this write needs policy engine {needed}, and these have an older one, so that they would \
         deny every call: {named}"
    );
    Err(Problem::conflict("engine-too-old", detail)
        .suggest("upgrade these proxies first; GET /v1/agents lists the engine of each"))
}

/// The same for deny-lists, of which an older agent does not tell its proxies either.
pub(in crate::api) fn require_deny_lists(connected: &[ConnectedAgent]) -> Result<(), Problem> {
    require(policy::DENY_LIST_ENGINE, connected).map_err(forced)?;
    let deaf = connected
        .iter()
        .filter(|agent| !agent.introduction.obeys_deny_lists);
    let deaf: Vec<_> = deaf.map(|agent| agent.agent.to_string()).collect();
    if deaf.is_empty() {
        return Ok(());
    }
    let named = deaf[..deaf.len().min(MOST_NAMED)].join(", ");
    let detail = format!(
        "these agents are too old to tell their proxies of revocations, so that whoever is revoked \
         could go on there: {named}"
    );
    Err(forced(Problem::conflict("agent-too-old", detail)))
}

fn forced(problem: Problem) -> Problem {
    problem.suggest("upgrade these first, or say `force` if it cannot wait")
}

/// The proxies of an agent that have an older engine, in words.
fn behind(agent: &ConnectedAgent, needed: u32) -> Vec<String> {
    let id = &agent.agent;
    let Some(proxies) = &agent.proxies else {
        // 0: it has no proxy.
        let engine = agent.introduction.engine_version;
        let is_old = engine != 0 && engine < needed;
        return is_old
            .then(|| format!("proxies of {id} (engine {engine})"))
            .into_iter()
            .collect();
    };
    let old = proxies.iter().filter(|proxy| proxy.engine_version < needed);
    let words = old.map(|proxy| {
        let (workload, engine) = (&proxy.workload, proxy.engine_version);
        format!(
            "the proxy of {workload} at {id} (engine {engine}, {})",
            proxy.product
        )
    });
    words.collect()
}
