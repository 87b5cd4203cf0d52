//! Which agents have attested and were neither forgotten nor banned: the store's tables, kept in
//! memory so that an issuance asks no database. Where replicas share the store, an agent that
//! attested to another one is looked up when it comes.
//!
//! Invariant: a ban outweighs everything; admitting an agent does not lift it.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use identity::{AgentId, SpiffeId};
use tokio::sync::watch;

use super::refusal::IssueError;
use crate::spool::StoreStanding;
use crate::store::{Store, StoreError};

/// Cheap to clone; all clones show the same sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdmittedAgents(Arc<Shared>);

/// How an agent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Admitted,
    /// Never attested, or forgotten since.
    Forgotten,
    Banned,
}

#[derive(Debug, Default)]
struct Shared {
    sets: RwLock<Sets>,
    /// Wakes when an agent was dismissed.
    dismissals: watch::Sender<()>,
    standing: StoreStanding,
}

#[derive(Debug, Default)]
struct Sets {
    admitted: HashSet<SpiffeId>,
    banned: HashSet<SpiffeId>,
    /// Banned here, while the store could not be told.
    unrecorded: HashSet<SpiffeId>,
    /// How many were forgotten: what was read of the store before the last may no longer hold.
    forgotten: u64,
}

impl AdmittedAgents {
    /// While the store is away, who is unknown here may be known there.
    pub(crate) fn new(
        admitted: impl IntoIterator<Item = SpiffeId>,
        banned: impl IntoIterator<Item = SpiffeId>,
        standing: StoreStanding,
    ) -> Self {
        let sets = Sets {
            admitted: admitted.into_iter().collect(),
            banned: banned.into_iter().collect(),
            unrecorded: HashSet::new(),
            forgotten: 0,
        };
        Self(Arc::new(Shared {
            sets: RwLock::new(sets),
            dismissals: watch::Sender::default(),
            standing,
        }))
    }

    pub(crate) fn admit(&self, agent: &AgentId) {
        self.write().admitted.insert(agent.spiffe_id().clone());
    }

    pub(crate) fn forget(&self, agent: &SpiffeId) {
        {
            let mut sets = self.write();
            sets.admitted.remove(agent);
            sets.forgotten += 1;
        }
        self.0.dismissals.send_replace(());
    }

    pub(crate) fn ban(&self, agent: &SpiffeId) {
        self.write().banned.insert(agent.clone());
        self.0.dismissals.send_replace(());
    }

    /// Until [`Self::ban_is_recorded`], whatever the store says of it.
    pub(crate) fn ban_unrecorded(&self, agent: &SpiffeId) {
        self.write().unrecorded.insert(agent.clone());
        self.0.dismissals.send_replace(());
    }

    pub(crate) fn ban_is_recorded(&self, agent: &SpiffeId) {
        let mut sets = self.write();
        if sets.unrecorded.remove(agent) {
            sets.banned.insert(agent.clone());
        }
    }

    pub(crate) fn lift_ban(&self, agent: &SpiffeId) {
        self.write().banned.remove(agent);
    }

    pub(crate) fn standing(&self, agent: &SpiffeId) -> Standing {
        let sets = self.read();
        if sets.banned.contains(agent) || sets.unrecorded.contains(agent) {
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
            if !store.is_shared()
                || self.0.standing.is_away()
                || store.agent(agent).await?.is_none()
            {
                return Ok(false);
            }
            let mut sets = self.write();
            if sets.forgotten == forgotten {
                sets.admitted.insert(agent.clone());
            }
        }
    }

    /// Who is admitted, and who is banned.
    pub(crate) fn sets(&self) -> (HashSet<SpiffeId>, HashSet<SpiffeId>) {
        let sets = self.read();
        (sets.admitted.clone(), sets.banned.clone())
    }

    /// Resolves when the agent, which is admitted now, is so no more. One that is not admitted is
    /// not dismissed either: each of its calls is told why.
    pub(crate) async fn dismissed(&self, agent: &SpiffeId) {
        let mut dismissals = self.0.dismissals.subscribe();
        if !self.contains(agent) {
            return std::future::pending().await;
        }
        while dismissals.changed().await.is_ok() {
            if !self.contains(agent) {
                return;
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
mod tests {
    use super::*;

    fn agent(name: &str) -> AgentId {
        AgentId::new(&"td.test".parse().unwrap(), "x509pop", name).unwrap()
    }

    #[test]
    fn an_agent_that_attests_stays_banned() {
        let (agents, web) = (AdmittedAgents::default(), agent("web-7"));
        agents.ban(web.spiffe_id());
        agents.admit(&web);
        assert_eq!(agents.standing(web.spiffe_id()), Standing::Banned);
        agents.lift_ban(web.spiffe_id());
        assert_eq!(agents.standing(web.spiffe_id()), Standing::Admitted);
    }

    #[test]
    fn a_ban_that_the_store_has_not_heard_of_is_not_lifted_by_what_it_says() {
        let (agents, web) = (AdmittedAgents::default(), agent("web-7"));
        agents.admit(&web);
        agents.ban_unrecorded(web.spiffe_id());
        agents.lift_ban(web.spiffe_id());
        assert_eq!(agents.standing(web.spiffe_id()), Standing::Banned);
        agents.ban_is_recorded(web.spiffe_id());
        assert_eq!(agents.standing(web.spiffe_id()), Standing::Banned);
        agents.lift_ban(web.spiffe_id());
        assert_eq!(agents.standing(web.spiffe_id()), Standing::Admitted);
    }

    #[tokio::test]
    async fn an_agent_is_dismissed_when_it_is_banned_and_not_when_another_is() {
        let (agents, web) = (AdmittedAgents::default(), agent("web-7"));
        agents.admit(&web);
        let mut dismissed = std::pin::pin!(agents.dismissed(web.spiffe_id()));
        assert!(futures_util::poll!(&mut dismissed).is_pending());
        agents.forget(agent("web-8").spiffe_id());
        assert!(futures_util::poll!(&mut dismissed).is_pending());
        agents.ban(web.spiffe_id());
        dismissed.await;
    }
}
