//! Agents that have attested.

use identity::{SerialNumber, SpiffeId};
use time::OffsetDateTime;

use super::{Backend, Store, StoreError};

/// One agent, and the SVID it was last given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    pub spiffe_id: SpiffeId,
    pub attested_at: OffsetDateTime,
    pub serial: SerialNumber,
    pub not_after: OffsetDateTime,
}

impl Store {
    /// Remembers an agent; replaces what was known of it, but for the serial it has shown.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn record_agent(&self, row: AgentRow) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.record_agent(row).await,
        }
    }

    /// Remembers the SVID that a renewal gave. `false`: the agent was forgotten meanwhile, and
    /// must not get it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn renew_agent(
        &self,
        id: &SpiffeId,
        serial: SerialNumber,
        not_after: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.renew_agent(id, serial, not_after).await,
        }
    }

    /// All agents, by name.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn agents(&self) -> Result<Vec<AgentRow>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.agents().await,
        }
    }

    /// `None`: it never attested, or was forgotten.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn agent(&self, id: &SpiffeId) -> Result<Option<AgentRow>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.agent(id).await,
        }
    }

    /// Stops an agent's renewals, and deletes its join tokens: the one that it joined with is still
    /// good for a repeated reply. Answers whether there was such an agent.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn forget_agent(&self, id: &SpiffeId) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.forget_agent(id).await,
        }
    }

    /// Notes the serial that an agent has shown in a handshake; never goes back to one issued
    /// earlier.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn note_seen_serial(
        &self,
        agent: &SpiffeId,
        serial: SerialNumber,
    ) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.note_seen_serial(agent, serial).await,
        }
    }

    /// Whether `agent` has shown a serial that was issued after `than`: then `than` is in the
    /// wrong hands, or a copy.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn newer_serial_seen(
        &self,
        agent: &SpiffeId,
        than: SerialNumber,
    ) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.newer_serial_seen(agent, than).await,
        }
    }
}
