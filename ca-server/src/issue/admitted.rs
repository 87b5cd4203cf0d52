//! Which agents have attested and were neither forgotten nor banned: the store's tables, kept in
//! memory so that an issuance asks no database. Where replicas share the store, an agent that
//! attested to another one is looked up when it comes. Beside them stands what attestors said of them.
//!
//! Invariant: a ban outweighs everything; admitting an agent does not lift it. Bans are those of the
//! deny-list in force: nobody but who puts revisions in force, one after the other, makes or lifts one.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use identity::{AgentId, SpiffeId};
use policy::resource::AgentSelectors;
use tokio::sync::{MutexGuard, watch};

use super::refusal::IssueError;
use crate::registry::PublishedDenials;
use crate::spool::StoreStanding;
use crate::store::{AgentRow, Store, StoreError};
use selectors::SelectorTable;
pub(crate) use selectors::{AsOf, KnownSelectors, SelectorWatch};

mod selectors;

/// Cheap to clone; all clones show the same sets.
#[derive(Debug, Clone)]
pub(crate) struct AdmittedAgents(Arc<Shared>);

/// How an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Admitted,
    /// Never attested, or forgotten since.
    Forgotten,
    Banned,
}

#[derive(Debug)]
struct Shared {
    sets: RwLock<Sets>,
    /// With the bans in force.
    denials: watch::Receiver<Arc<PublishedDenials>>,
    /// Wakes when an agent was forgotten, or banned without the store.
    dismissals: watch::Sender<()>,
    selectors: SelectorTable,
    standing: StoreStanding,
}

#[derive(Debug, Default)]
struct Sets {
    admitted: HashSet<SpiffeId>,
    /// Banned here, while the store could not be told.
    unrecorded: HashSet<SpiffeId>,
    /// How many were forgotten: what was read of the store before the last may no longer hold.
    forgotten: u64,
}

impl AdmittedAgents {
    /// While the store is away, who is unknown here may be known there.
    pub(crate) fn new(
        admitted: impl IntoIterator<Item = SpiffeId>,
        denials: watch::Receiver<Arc<PublishedDenials>>,
        standing: StoreStanding,
    ) -> Self {
        let sets = Sets {
            admitted: admitted.into_iter().collect(),
            unrecorded: HashSet::new(),
            forgotten: 0,
        };
        Self(Arc::new(Shared {
            sets: RwLock::new(sets),
            denials,
            dismissals: watch::Sender::default(),
            selectors: SelectorTable::default(),
            standing,
        }))
    }

    /// By a fresh proof, which said this of it.
    pub(crate) fn admit(&self, agent: &AgentId, selectors: AgentSelectors) {
        self.write().admitted.insert(agent.spiffe_id().clone());
        self.0.selectors.judged(agent.spiffe_id(), selectors);
    }

    /// Once more what it was admitted with, now that it is recorded; of one that was forgotten
    /// meanwhile, nothing.
    pub(crate) fn remember(&self, agent: &SpiffeId, selectors: AgentSelectors) {
        let sets = self.read();
        if sets.admitted.contains(agent) {
            self.0.selectors.judged(agent, selectors);
        }
    }

    /// Held while the proof of an agent is recorded: of two proofs at once, the one that is written
    /// last is remembered.
    pub(crate) async fn turn(&self, agent: &SpiffeId) -> MutexGuard<'_, ()> {
        self.0.selectors.turn(agent).await
    }

    pub(crate) fn forget(&self, agent: &SpiffeId) {
        {
            let mut sets = self.write();
            sets.admitted.remove(agent);
            sets.forgotten += 1;
        }
        self.0.selectors.judged(agent, AgentSelectors::none());
        self.0.dismissals.send_replace(());
    }

    /// Before the store holds it, until [`Self::ban_is_recorded`].
    pub(crate) fn ban_unrecorded(&self, agent: &SpiffeId) {
        self.write().unrecorded.insert(agent.clone());
        self.0.dismissals.send_replace(());
    }

    pub(crate) fn ban_is_recorded(&self, agent: &SpiffeId) {
        self.write().unrecorded.remove(agent);
    }

    pub(crate) fn standing(&self, agent: &SpiffeId) -> Standing {
        let sets = self.read();
        if self.0.denials.borrow().bans(agent) || sets.unrecorded.contains(agent) {
            Standing::Banned
        } else if sets.admitted.contains(agent) {
            Standing::Admitted
        } else {
            Standing::Forgotten
        }
    }

    /// Why an agent that is not admitted gets nothing.
    pub(crate) fn require(&self, agent: &SpiffeId) -> Result<(), IssueError> {
        match self.standing(agent) {
            Standing::Admitted => Ok(()),
            Standing::Forgotten if self.0.standing.is_away() => Err(IssueError::Unknown),
            Standing::Forgotten => Err(IssueError::Forgotten),
            Standing::Banned => Err(IssueError::Banned),
        }
    }

    pub(crate) fn contains(&self, agent: &SpiffeId) -> bool {
        self.standing(agent) == Standing::Admitted
    }

    /// As [`Self::contains`], after a look into the store if others write to it too.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub(crate) async fn look_up(
        &self,
        agent: &SpiffeId,
        store: &Store,
    ) -> Result<bool, StoreError> {
        loop {
            let forgotten = self.read().forgotten;
            match self.standing(agent) {
                Standing::Admitted => return Ok(true),
                Standing::Banned => return Ok(false),
                Standing::Forgotten => {}
            }
            if !store.is_shared() || self.0.standing.is_away() {
                return Ok(false);
            }
            let as_of = self.as_of();
            let Some(row) = store.agent(agent).await? else {
                return Ok(false);
            };
            self.learn(agent, Some(&row), &as_of);
            let mut sets = self.write();
            if sets.forgotten == forgotten {
                sets.admitted.insert(agent.clone());
            }
        }
    }

    /// To be asked before the store is read.
    pub(crate) fn as_of(&self) -> AsOf {
        self.0.selectors.now()
    }

    /// What the store said of an agent's selectors at that time; `None`: it has no such agent.
    pub(crate) fn learn(&self, agent: &SpiffeId, row: Option<&AgentRow>, as_of: &AsOf) {
        let selectors = row.map(|row| row.selectors.clone()).unwrap_or_default();
        self.0.selectors.read(agent, selectors, as_of);
    }

    /// As [`Self::learn`], of all agents that there are.
    pub(crate) fn learn_all(&self, rows: &[AgentRow], as_of: &AsOf) {
        for row in rows {
            self.learn(&row.spiffe_id, Some(row), as_of);
        }
        let there: HashSet<_> = rows.iter().map(|row| &row.spiffe_id).collect();
        let known = self.selectors();
        for agent in known.keys().filter(|agent| !there.contains(agent)) {
            self.learn(agent, None, as_of);
        }
    }

    /// What is known of agents' selectors now.
    pub(crate) fn selectors(&self) -> KnownSelectors {
        self.0.selectors.known()
    }

    /// Wakes when those of any agent have changed.
    pub(crate) fn selector_changes(&self) -> watch::Receiver<()> {
        self.0.selectors.changes()
    }

    /// As [`Self::selector_changes`], of one agent.
    pub(crate) fn watch_selectors(&self, agent: &SpiffeId) -> SelectorWatch {
        self.0.selectors.watch(agent)
    }

    /// Who is admitted, but for bans.
    pub(crate) fn attested(&self) -> HashSet<SpiffeId> {
        self.read().admitted.clone()
    }

    /// Resolves when the agent, which is admitted now, is so no more. One that is not admitted is
    /// not dismissed either: each of its calls is told why.
    pub(crate) async fn dismissed(&self, agent: &SpiffeId) {
        if !self.contains(agent) {
            return std::future::pending().await;
        }
        self.not_admitted(agent).await;
    }

    /// Resolves as soon as the agent is not admitted; at once if it is not.
    pub(crate) async fn not_admitted(&self, agent: &SpiffeId) {
        let mut dismissals = self.0.dismissals.subscribe();
        let mut denials = self.0.denials.clone();
        loop {
            denials.mark_unchanged();
            if !self.contains(agent) {
                return;
            }
            tokio::select! {
                // Ends never: its sender is here.
                _ = dismissals.changed() => {}
                Ok(()) = denials.changed() => {}
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Sets> {
        self.0.sets.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sets> {
        self.0.sets.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Default for AdmittedAgents {
    fn default() -> Self {
        let nobody_banned = watch::Sender::default().subscribe();
        Self::new([], nobody_banned, StoreStanding::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Bans = watch::Sender<Arc<PublishedDenials>>;

    fn agent(name: &str) -> AgentId {
        AgentId::new(&"td.test".parse().unwrap(), "x509pop", name).unwrap()
    }

    fn agents() -> (AdmittedAgents, Bans) {
        let bans = Bans::default();
        let agents = AdmittedAgents::new([], bans.subscribe(), StoreStanding::default());
        (agents, bans)
    }

    fn ban(bans: &Bans, agents: &[&AgentId]) {
        let banned = agents.iter().map(|agent| agent.spiffe_id().clone());
        bans.send_replace(Arc::new(PublishedDenials::of_banned(banned)));
    }

    #[test]
    fn an_agent_that_attests_stays_banned() {
        let ((agents, bans), web) = (agents(), agent("web-7"));
        ban(&bans, &[&web]);
        agents.admit(&web, AgentSelectors::none());
        assert_eq!(agents.standing(web.spiffe_id()), Standing::Banned);
        ban(&bans, &[]);
        assert_eq!(agents.standing(web.spiffe_id()), Standing::Admitted);
    }

    #[test]
    fn a_ban_that_the_store_has_not_heard_of_is_not_lifted_by_what_it_says() {
        let ((agents, bans), web) = (agents(), agent("web-7"));
        agents.admit(&web, AgentSelectors::none());
        agents.ban_unrecorded(web.spiffe_id());
        ban(&bans, &[]);
        assert_eq!(agents.standing(web.spiffe_id()), Standing::Banned);
        ban(&bans, &[&web]);
        agents.ban_is_recorded(web.spiffe_id());
        assert_eq!(agents.standing(web.spiffe_id()), Standing::Banned);
        ban(&bans, &[]);
        assert_eq!(agents.standing(web.spiffe_id()), Standing::Admitted);
    }

    #[tokio::test]
    async fn an_agent_is_dismissed_when_it_is_banned_and_not_when_another_is() {
        let ((agents, bans), web) = (agents(), agent("web-7"));
        agents.admit(&web, AgentSelectors::none());
        let mut dismissed = std::pin::pin!(agents.dismissed(web.spiffe_id()));
        assert!(futures_util::poll!(&mut dismissed).is_pending());
        agents.forget(agent("web-8").spiffe_id());
        ban(&bans, &[&agent("web-9")]);
        assert!(futures_util::poll!(&mut dismissed).is_pending());
        ban(&bans, &[&agent("web-9"), &web]);
        dismissed.await;
    }
}
