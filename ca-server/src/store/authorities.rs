//! What the store keeps of authorities: the state of each kind, which it changes only for who saw
//! the state before; the intermediates that signed leaves; and which agents have which bundle.

use std::collections::BTreeMap;

use identity::SpiffeId;
use policy::Revision;
use time::OffsetDateTime;

use super::{Authorship, Backend, KeyPurpose, SealedKeyRow, Store, StoreError};

/// The state of all authorities of one kind, as its owner writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityState {
    /// 1 for the first; each step adds one.
    pub version: u64,
    pub json: String,
}

/// One step of a kind, which makes one revision.
#[derive(Clone, Debug)]
pub struct AuthorityStep {
    pub purpose: KeyPurpose,
    /// The version of the state that the step begins at.
    pub from: u64,
    pub json: String,
    /// A key that is kept from now on.
    pub made: Option<SealedKeyRow>,
    /// Versions of keys that are destroyed.
    pub destroyed: Vec<u32>,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthorityStepError {
    /// Somebody else made a step first; this one has changed nothing.
    #[error("the authorities have moved on")]
    Moved,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An authority that signs leaves, for as long as a replica lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntermediateRow {
    pub key_id: String,
    /// Version of the sealed key that signed it.
    pub generation: u32,
    pub replica: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// An agent that holds an unexpired SVID, its own or a workload's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveAgent {
    pub spiffe_id: SpiffeId,
    /// Of the newest bundle that it has acknowledged; 0 for none.
    pub bundle_sequence: u64,
}

impl Store {
    /// The state of a kind; `None` before the first start.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn authority_state(
        &self,
        purpose: KeyPurpose,
    ) -> Result<Option<AuthorityState>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.authority_state(purpose).await,
        }
    }

    /// Keeps a first state unless there is one, and answers with the one kept.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn insert_authority_state_if_absent(
        &self,
        purpose: KeyPurpose,
        json: &str,
    ) -> Result<AuthorityState, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.insert_authority_state_if_absent(purpose, json).await,
        }
    }

    /// Makes a step, and with it one revision: all of it, or nothing when the state has moved on.
    ///
    /// # Errors
    /// See [`AuthorityStepError`].
    pub async fn step_authority(
        &self,
        step: &AuthorityStep,
        authorship: &Authorship,
    ) -> Result<Revision, AuthorityStepError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.step_authority(self.epoch(), step, authorship).await,
        }
    }

    /// Remembers an intermediate, before it signs.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn record_intermediate(&self, row: &IntermediateRow) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.record_intermediate(row).await,
        }
    }

    /// The intermediates that have not ended, by replica and beginning.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn intermediates(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<IntermediateRow>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.intermediates(now).await,
        }
    }

    /// For each authority the end of the last recorded leaf that leads to it. An issuer that was
    /// recorded before issuers were is the first's.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn leaves_until(
        &self,
        now: OffsetDateTime,
    ) -> Result<BTreeMap<u32, OffsetDateTime>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.leaves_until(now).await,
        }
    }

    /// The agents that were not forgotten and hold an unexpired SVID, by ID.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn live_agents(&self, now: OffsetDateTime) -> Result<Vec<LiveAgent>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.live_agents(now).await,
        }
    }

    /// Notes that agents have acknowledged a bundle; never goes back.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn note_bundle(&self, agents: &[SpiffeId], sequence: u64) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.note_bundle(agents, sequence).await,
        }
    }
}
