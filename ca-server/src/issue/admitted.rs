//! Which agents have attested and were not forgotten: the store's table, kept in memory so that an
//! issuance asks no database.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use identity::{AgentId, SpiffeId};

/// Cheap to clone; all clones show the same set.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdmittedAgents(Arc<RwLock<HashSet<SpiffeId>>>);

impl AdmittedAgents {
    pub(crate) fn new(agents: impl IntoIterator<Item = SpiffeId>) -> Self {
        Self(Arc::new(RwLock::new(agents.into_iter().collect())))
    }

    pub(crate) fn admit(&self, agent: &AgentId) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(agent.spiffe_id().clone());
    }

    pub(crate) fn forget(&self, agent: &SpiffeId) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(agent);
    }

    pub(crate) fn contains(&self, agent: &SpiffeId) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(agent)
    }
}
