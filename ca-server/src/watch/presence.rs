//! Which agents are connected, what they have acknowledged, and what they report: a synchronous
//! table behind a cheap handle. It is what this replica has heard, never a ground for a decision
//! about an identity. Of agents at other replicas it knows that they are there, and no more.

mod engines;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use identity::{QualifiedName, SpiffeId};
use policy::Revision;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::hold_ups::HoldUps;
use crate::issue::AdmittedAgents;

/// Orders the streams of this process; a later stream of an agent replaces the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId(pub(super) u64);

/// What an agent says first.
#[derive(Debug, Clone)]
pub struct Introduction {
    pub product: String,
    /// The lowest policy engine among its proxies then; 0 without any.
    pub engine_version: u32,
    /// The agent's clock − ours.
    pub clock_offset: time::Duration,
    /// Whether its proxies hear of deny-lists.
    pub obeys_deny_lists: bool,
}

/// What a proxy reports through its agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyReport {
    /// Application ports that are reachable around the proxy.
    pub bypassable: Vec<Bypassable>,
    /// What its configuration asks for and it cannot do, for people.
    pub problems: Vec<String>,
    pub calls_allowed: u64,
    pub calls_denied: u64,
    pub calls_failed: u64,
    pub draining: bool,
}

/// One application port that is reachable around the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bypassable {
    pub service: String,
    pub port: String,
    pub application_port: u16,
    /// `network` or `local-users`.
    pub reach: String,
}

/// One proxy on the feed of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedProxy {
    pub workload: QualifiedName,
    pub product: String,
    /// The newest policy engine that it has.
    pub engine_version: u32,
}

/// One connected agent.
#[derive(Debug, Clone)]
pub struct ConnectedAgent {
    pub agent: SpiffeId,
    pub introduction: Introduction,
    /// What every counted proxy of the agent decides by.
    pub acknowledged: Option<Revision>,
    pub reports: BTreeMap<QualifiedName, ProxyReport>,
    /// `None` until the agent says so, and of an agent that cannot.
    pub proxies: Option<Vec<AttachedProxy>>,
    stream: StreamId,
    ended: CancellationToken,
}

/// Which agents have not acknowledged a revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Enforcement {
    pub pending: Vec<SpiffeId>,
}

/// Cheap to clone; all clones show the same table.
#[derive(Clone)]
pub struct Presence {
    table: Arc<Mutex<PresenceTable>>,
    /// Whose stream another replica holds, and which.
    elsewhere: watch::Sender<BTreeMap<SpiffeId, String>>,
    changed: watch::Sender<u64>,
    admitted: AdmittedAgents,
}

/// One stream's place in the table; the agent leaves with it.
#[derive(Debug)]
pub(crate) struct Session {
    presence: Presence,
    agent: SpiffeId,
    stream: StreamId,
    ended: CancellationToken,
}

impl Presence {
    pub(crate) fn new(admitted: AdmittedAgents) -> Self {
        Self {
            table: Arc::default(),
            elsewhere: watch::Sender::default(),
            changed: watch::Sender::new(0),
            admitted,
        }
    }

    /// Every connected agent, by ID.
    pub fn connected(&self) -> Vec<ConnectedAgent> {
        self.table().agents.values().cloned().collect()
    }

    /// The agent, if it is connected.
    pub fn agent(&self, agent: &SpiffeId) -> Option<ConnectedAgent> {
        self.table().agents.get(agent).cloned()
    }

    /// The other replica that the agent is connected to.
    pub fn held_by(&self, agent: &SpiffeId) -> Option<String> {
        self.elsewhere.borrow().get(agent).cloned()
    }

    /// Replaces what is known of other replicas.
    pub(super) fn connect_elsewhere(&self, agents: BTreeMap<SpiffeId, String>) {
        self.elsewhere.send_replace(agents);
    }

    /// The connected agents that have not acknowledged `revision`.
    pub fn enforcement(&self, revision: Revision) -> Enforcement {
        Enforcement {
            pending: self.table().pending(revision),
        }
    }

    /// Whom writes are to wait for here.
    pub(super) fn hold_ups(&self, head: Revision) -> HoldUps {
        HoldUps::of(self.table().agents.values(), head)
    }

    /// How many agents are connected.
    pub(super) fn count(&self) -> usize {
        self.table().agents.len()
    }

    /// Whether every connected agent has acknowledged `revision`; asked at each acknowledgement.
    pub(super) fn is_enforced(&self, revision: Revision) -> bool {
        self.table().is_enforced(revision)
    }

    /// The connected agents that have acknowledged `revision` or a later one.
    pub(super) fn acknowledged_by(&self, revision: Revision) -> Vec<(SpiffeId, StreamId)> {
        let table = self.table();
        let agents = table.agents.values().filter(|known| known.has(revision));
        agents
            .map(|known| (known.agent.clone(), known.stream))
            .collect()
    }

    /// Waits until every connected agent has acknowledged `revision`, at most for `timeout`.
    pub async fn wait_enforced(&self, revision: Revision, timeout: Duration) -> Enforcement {
        let deadline = Instant::now() + timeout;
        let mut changes = self.subscribe();
        while !self.is_enforced(revision) {
            if !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                break;
            }
        }
        self.enforcement(revision)
    }

    /// The agent has been forgotten: nothing more is issued to it, and its stream ends.
    pub fn disconnect(&self, agent: &SpiffeId) {
        self.admitted.forget(agent);
        self.disconnect_stream(agent);
    }

    /// The agent has been banned, and the store does not hold it yet: as [`Presence::disconnect`],
    /// until the ban is lifted.
    pub(crate) fn ban_unrecorded(&self, agent: &SpiffeId) {
        self.admitted.ban_unrecorded(agent);
        self.disconnect_stream(agent);
    }

    pub(crate) fn ban_is_recorded(&self, agent: &SpiffeId) {
        self.admitted.ban_is_recorded(agent);
    }

    fn disconnect_stream(&self, agent: &SpiffeId) {
        if let Some(known) = self.table().agents.get(agent) {
            known.ended.cancel();
        }
    }

    /// Wakes at each change of the table.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn connect(&self, agent: &SpiffeId, introduction: Introduction) -> Session {
        let ended = CancellationToken::new();
        let stream = self.table().connect(agent, introduction, ended.clone());
        self.announce_change();
        Session {
            presence: self.clone(),
            agent: agent.clone(),
            stream,
            ended,
        }
    }

    fn table(&self) -> MutexGuard<'_, PresenceTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce_change(&self) {
        self.changed
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("connected", &self.table().agents.len())
            .finish()
    }
}

impl Session {
    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    /// Resolves when a newer stream took this agent's place, or the agent was ended; `dismissed`
    /// knows of those whom the deny-list in force bans.
    pub(super) async fn ended(&self, dismissed: impl Future<Output = ()>) {
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = dismissed => {}
        }
    }

    pub(super) fn acknowledged(&self, revision: Revision) {
        if self
            .presence
            .table()
            .acknowledged(&self.agent, self.stream, revision)
        {
            self.presence.announce_change();
        }
    }

    pub(super) fn reported(&self, workload: QualifiedName, report: ProxyReport) {
        self.presence
            .table()
            .reported(&self.agent, self.stream, workload, report);
    }

    pub(crate) fn attached(&self, proxies: Vec<AttachedProxy>) {
        let mut table = self.presence.table();
        if let Some(known) = table.current(&self.agent, self.stream) {
            known.proxies = Some(proxies);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.presence.table().disconnect(&self.agent, self.stream) {
            self.presence.announce_change();
        }
    }
}

impl ConnectedAgent {
    pub(super) fn has(&self, revision: Revision) -> bool {
        self.acknowledged
            .is_some_and(|acknowledged| reaches(acknowledged, revision))
    }
}

/// The table itself.
#[derive(Debug, Default)]
pub(super) struct PresenceTable {
    agents: BTreeMap<SpiffeId, ConnectedAgent>,
    /// How many agents have acknowledged what: few values, however many agents.
    levels: HashMap<Option<Revision>, usize>,
    last_stream: u64,
}

impl PresenceTable {
    fn connect(
        &mut self,
        agent: &SpiffeId,
        introduction: Introduction,
        ended: CancellationToken,
    ) -> StreamId {
        self.last_stream += 1;
        let stream = StreamId(self.last_stream);
        let connected = ConnectedAgent {
            agent: agent.clone(),
            introduction,
            acknowledged: None,
            reports: BTreeMap::new(),
            proxies: None,
            stream,
            ended,
        };
        *self.levels.entry(None).or_default() += 1;
        if let Some(replaced) = self.agents.insert(agent.clone(), connected) {
            replaced.ended.cancel();
            self.leaves(replaced.acknowledged);
        }
        stream
    }

    fn leaves(&mut self, level: Option<Revision>) {
        if let Some(count) = self.levels.get_mut(&level) {
            *count -= 1;
            if *count == 0 {
                self.levels.remove(&level);
            }
        }
    }

    fn is_enforced(&self, revision: Revision) -> bool {
        let mut levels = self.levels.keys();
        levels.all(|level| level.is_some_and(|acknowledged| reaches(acknowledged, revision)))
    }

    fn current(&mut self, agent: &SpiffeId, stream: StreamId) -> Option<&mut ConnectedAgent> {
        self.agents
            .get_mut(agent)
            .filter(|known| known.stream == stream)
    }

    /// Whether that is news: acknowledgements never go back within an epoch.
    fn acknowledged(&mut self, agent: &SpiffeId, stream: StreamId, revision: Revision) -> bool {
        let Some(known) = self.current(agent, stream) else {
            return false;
        };
        if known
            .acknowledged
            .is_some_and(|before| reaches(before, revision))
        {
            return false;
        }
        let before = known.acknowledged.replace(revision);
        self.leaves(before);
        *self.levels.entry(Some(revision)).or_default() += 1;
        true
    }

    fn reported(
        &mut self,
        agent: &SpiffeId,
        stream: StreamId,
        workload: QualifiedName,
        report: ProxyReport,
    ) {
        if let Some(known) = self.current(agent, stream) {
            known.reports.insert(workload, report);
        }
    }

    fn disconnect(&mut self, agent: &SpiffeId, stream: StreamId) -> bool {
        if self.current(agent, stream).is_none() {
            return false;
        }
        let left = self.agents.remove(agent);
        if let Some(left) = &left {
            self.leaves(left.acknowledged);
        }
        left.is_some()
    }

    fn pending(&self, revision: Revision) -> Vec<SpiffeId> {
        self.agents
            .values()
            .filter(|known| !known.has(revision))
            .map(|known| known.agent.clone())
            .collect()
    }
}

fn reaches(acknowledged: Revision, wanted: Revision) -> bool {
    acknowledged.epoch == wanted.epoch && acknowledged.number >= wanted.number
}

#[cfg(test)]
#[path = "presence/tests.rs"]
mod tests;
