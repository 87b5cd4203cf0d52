//! What attestors said of agents when they last believed them, as far as this replica knows.
//!
//! Invariant: what an agent has proven here is never replaced by what was read of the store before;
//! what the store says of it later, by the word of another replica, counts again.

use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::Arc;

use identity::SpiffeId;
use policy::resource::AgentSelectors;
use tokio::sync::{Mutex, MutexGuard, watch};

/// By agent; without those of which nothing is said. Cloning shares it.
pub(crate) type KnownSelectors = imbl::HashMap<SpiffeId, Arc<AgentSelectors>>;

/// Agents are told apart by this many groups when they are counted and woken.
const GROUPS: usize = 256;

/// Kept beside the set of those that are admitted.
#[derive(Debug)]
pub(super) struct SelectorTable {
    known: watch::Sender<Known>,
    changed: watch::Sender<()>,
    groups: Vec<Group>,
}

#[derive(Debug, Default)]
struct Known {
    selectors: KnownSelectors,
    /// How often agents of each group were judged here.
    judged: Vec<u64>,
}

#[derive(Debug, Default)]
struct Group {
    changed: watch::Sender<()>,
    turn: Mutex<()>,
}

/// Tells when what is said of one agent changes.
#[derive(Debug)]
pub(crate) struct SelectorWatch {
    known: watch::Receiver<Known>,
    group: watch::Receiver<()>,
    agent: SpiffeId,
    seen: Option<Arc<AgentSelectors>>,
}

/// Of when something was read of the store.
#[derive(Debug)]
pub(crate) struct AsOf(Vec<u64>);

impl Default for SelectorTable {
    fn default() -> Self {
        let known = Known {
            judged: vec![0; GROUPS],
            ..Known::default()
        };
        Self {
            known: watch::Sender::new(known),
            changed: watch::Sender::default(),
            groups: (0..GROUPS).map(|_| Group::default()).collect(),
        }
    }
}

impl SelectorTable {
    pub(super) fn now(&self) -> AsOf {
        AsOf(self.known.borrow().judged.clone())
    }

    /// By proof, or because the agent was forgotten here.
    pub(super) fn judged(&self, agent: &SpiffeId, selectors: AgentSelectors) {
        self.change(agent, |known, group| {
            known.judged[group] += 1;
            known.set(agent, selectors)
        });
    }

    /// As the store says, unless more is known by now.
    pub(super) fn read(&self, agent: &SpiffeId, selectors: AgentSelectors, as_of: &AsOf) {
        self.change(agent, |known, group| {
            known.judged[group] == as_of.0[group] && known.set(agent, selectors)
        });
    }

    fn change(&self, agent: &SpiffeId, change: impl FnOnce(&mut Known, usize) -> bool) {
        let group = group_of(agent);
        let changed = self.known.send_if_modified(|known| change(known, group));
        if changed {
            self.changed.send_replace(());
            self.groups[group].changed.send_replace(());
        }
    }

    pub(super) fn known(&self) -> KnownSelectors {
        self.known.borrow().selectors.clone()
    }

    /// Wakes when those of any agent have changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn watch(&self, agent: &SpiffeId) -> SelectorWatch {
        let group = self.groups[group_of(agent)].changed.subscribe();
        let known = self.known.subscribe();
        let seen = known.borrow().selectors.get(agent).cloned();
        SelectorWatch {
            known,
            group,
            agent: agent.clone(),
            seen,
        }
    }

    /// Held while the agent's proof is recorded, so that what is remembered last is what was written
    /// last.
    pub(super) async fn turn(&self, agent: &SpiffeId) -> MutexGuard<'_, ()> {
        self.groups[group_of(agent)].turn.lock().await
    }
}

impl SelectorWatch {
    /// Resolves when something else is said than when this was made, or resolved last. Never when
    /// the replica is going.
    pub(crate) async fn changed(&mut self) {
        loop {
            if self.group.changed().await.is_err() {
                return std::future::pending().await;
            }
            let now = self.known.borrow().selectors.get(&self.agent).cloned();
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

impl Known {
    /// Answers whether that was news.
    fn set(&mut self, agent: &SpiffeId, selectors: AgentSelectors) -> bool {
        let before = self.selectors.get(agent);
        if before.map_or(selectors.is_empty(), |before| **before == selectors) {
            return false;
        }
        match selectors.is_empty() {
            true => self.selectors.remove(agent),
            false => self.selectors.insert(agent.clone(), Arc::new(selectors)),
        };
        true
    }
}

fn group_of(agent: &SpiffeId) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(agent);
    usize::try_from(hash % GROUPS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(name: &str) -> SpiffeId {
        format!("spiffe://td/countersign/agent/k8s/{name}")
            .parse()
            .unwrap()
    }

    fn cluster(name: &str) -> AgentSelectors {
        format!(r#"{{"cluster": "{name}"}}"#).parse().unwrap()
    }

    #[track_caller]
    fn holds(table: &SelectorTable, name: &str, expected: Option<&str>) {
        let known = table.known();
        let held = known.get(&agent(name)).map(|held| held.to_string());
        assert_eq!(held, expected.map(|value| format!("cluster={value}")));
    }

    #[test]
    fn what_was_read_before_an_agent_proved_more_is_left_aside() {
        let table = SelectorTable::default();
        let read = table.now();
        table.judged(&agent("a"), cluster("dev"));
        table.read(&agent("a"), cluster("prod"), &read);
        holds(&table, "a", Some("dev"));
    }

    #[test]
    fn what_another_replica_has_written_since_counts() {
        let table = SelectorTable::default();
        table.judged(&agent("a"), cluster("prod"));
        table.read(&agent("a"), cluster("dev"), &table.now());
        holds(&table, "a", Some("dev"));
        table.read(&agent("a"), AgentSelectors::default(), &table.now());
        holds(&table, "a", None);
    }

    #[tokio::test]
    async fn a_watch_wakes_when_something_else_is_said_of_its_agent_and_of_no_other() {
        let table = SelectorTable::default();
        table.judged(&agent("a"), cluster("prod"));
        let mut watch = table.watch(&agent("a"));
        let same = (0..).map(|number| agent(&format!("b{number}")));
        let neighbour = same
            .into_iter()
            .find(|other| group_of(other) == group_of(&agent("a")));
        table.judged(&neighbour.unwrap(), cluster("dev"));
        table.judged(&agent("a"), cluster("prod"));
        assert!(futures_util::poll!(std::pin::pin!(watch.changed())).is_pending());
        table.judged(&agent("a"), cluster("dev"));
        watch.changed().await;
        assert!(futures_util::poll!(std::pin::pin!(watch.changed())).is_pending());
    }
}
