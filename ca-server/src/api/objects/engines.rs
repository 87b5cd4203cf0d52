//! A write is refused while a live proxy has an older policy engine than it needs: told of it, that
//! proxy could only deny every call.
//!
//! What this cannot hold up: a proxy that comes later, or that came to another replica some seconds
//! ago. It meets what it cannot obey, and denies.

use super::super::elsewhere::Other;
use super::super::problem::Problem;
use crate::watch::ConnectedAgent;

/// So many are named; more are counted.
const MOST_NAMED: usize = 20;

/// Who is in the way of a write.
#[derive(Debug, Default)]
struct InTheWay {
    named: Vec<String>,
    count: u64,
}

pub(super) fn require(
    needed: u32,
    connected: &[ConnectedAgent],
    others: &[Other],
) -> Result<(), Problem> {
    let mut behind = InTheWay::default();
    for agent in connected {
        let old = agent.engines().filter(|proxy| proxy.engine < needed);
        old.for_each(|proxy| behind.add(proxy.to_string()));
    }
    for other in others {
        if let Some(told) = &other.hold_ups {
            let (some, count) = told.behind(needed);
            behind.add_at(&other.name, some, count);
        }
    }
    let Some(who) = behind.in_words() else {
        return Ok(());
    };
    let detail = format!(
        "this write needs policy engine {needed}, and these have an older one, so that they would \
         deny every call: {who}"
    );
    Err(Problem::conflict("engine-too-old", detail)
        .suggest("upgrade these proxies first; GET /v1/agents lists the engine of each"))
}

/// The same for deny-lists, of which an older agent does not tell its proxies either.
pub(in crate::api) fn require_deny_lists(
    connected: &[ConnectedAgent],
    others: &[Other],
) -> Result<(), Problem> {
    require(policy::DENY_LIST_ENGINE, connected, others).map_err(forced)?;
    let mut deaf = InTheWay::default();
    for agent in connected {
        if !agent.introduction.obeys_deny_lists {
            deaf.add(agent.agent.to_string());
        }
    }
    for other in others {
        if let Some(told) = &other.hold_ups {
            let (some, count) = told.deaf();
            deaf.add_at(&other.name, some, count);
        }
    }
    let Some(who) = deaf.in_words() else {
        return Ok(());
    };
    let detail = format!(
        "these agents are too old to tell their proxies of revocations, so that whoever is revoked \
         could go on there: {who}"
    );
    Err(forced(Problem::conflict("agent-too-old", detail)))
}

fn forced(problem: Problem) -> Problem {
    problem.suggest("upgrade these first, or say `force` if it cannot wait")
}

impl InTheWay {
    fn add(&mut self, name: String) {
        self.count += 1;
        if self.named.len() < MOST_NAMED {
            self.named.push(name);
        }
    }

    /// What another replica told, which names some of them.
    fn add_at(
        &mut self,
        replica: &str,
        some: impl IntoIterator<Item: std::fmt::Display>,
        count: u64,
    ) {
        self.count += count;
        let room = MOST_NAMED - self.named.len();
        let some = some.into_iter().take(room);
        self.named
            .extend(some.map(|name| format!("{name}, connected to {replica}")));
    }

    /// `None`: nobody is.
    fn in_words(&self) -> Option<String> {
        let named = self.named.join("; ");
        let more = self.count.saturating_sub(self.named.len() as u64);
        match (self.named.is_empty(), more) {
            (true, 0) => None,
            (true, more) => Some(format!("{more} at other replicas")),
            (false, 0) => Some(named),
            (false, more) => Some(format!("{named} and {more} more")),
        }
    }
}
