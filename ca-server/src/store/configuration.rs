//! Configuration: the objects in force, the revisions that made them so, and their history.

use crypto::digest::Sha256;
use policy::{ObjectKey, Revision};
use serde_json::Value;
use time::OffsetDateTime;

use super::{Backend, Staged, Store, StoreError};

/// One object in force.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredObject {
    pub key: ObjectKey,
    /// The revision that last changed this object.
    pub revision: Revision,
    pub json: Value,
}

/// One configuration write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionRow {
    pub revision: Revision,
    pub author: String,
    pub reason: String,
    pub committed_at: OffsetDateTime,
    /// Of the whole that came to be in force.
    pub content_sha256: Sha256,
    /// When the last live agent acknowledged it.
    pub enforced_at: Option<OffsetDateTime>,
}

/// Who writes, why, and when.
#[derive(Clone, Debug)]
pub struct Authorship {
    pub author: String,
    pub reason: String,
    pub at: OffsetDateTime,
}

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another write came first; judge the change again on top of it.
    #[error("the configuration has moved on to revision {head}")]
    Moved { head: Revision },
    #[error("a precondition on {key} does not hold")]
    PreconditionFailed {
        key: ObjectKey,
        found: Option<Revision>,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// The newest revision; number 0 when nothing was ever written.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn head(&self) -> Result<Revision, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.head(self.epoch()).await,
        }
    }

    /// The newest revision and all objects in force at it, in key order.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn objects(&self) -> Result<(Revision, Vec<StoredObject>), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.objects(self.epoch()).await,
        }
    }

    /// Writes a judged change as one revision; without changes it makes none and answers with the
    /// base. Preconditions are checked in the same transaction.
    ///
    /// # Errors
    /// See [`CommitError`]; nothing has changed then.
    pub async fn commit(
        &self,
        staged: &Staged,
        authorship: &Authorship,
    ) -> Result<Revision, CommitError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.commit(self.epoch(), staged, authorship).await,
        }
    }

    /// What [`Self::commit`] would refuse now, without writing.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn rehearse(&self, staged: &Staged) -> Result<(), CommitError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.rehearse(self.epoch(), staged).await,
        }
    }

    /// At most `limit` revisions, the newest first, those below number `before` only.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn revisions(
        &self,
        limit: u32,
        before: Option<u64>,
    ) -> Result<Vec<RevisionRow>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.revisions(self.epoch(), limit, before).await,
        }
    }

    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn revision(&self, number: u64) -> Result<Option<RevisionRow>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.revision(self.epoch(), number).await,
        }
    }

    /// Notes when the last live agent acknowledged a revision. The first note stays.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn mark_enforced(
        &self,
        revision: Revision,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.mark_enforced(revision.number, at).await,
        }
    }
}
