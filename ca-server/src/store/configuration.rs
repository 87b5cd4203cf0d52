//! Configuration: the objects in force, the revisions that made them so, and their history.

use std::time::Duration;

use crypto::digest::Sha256;
use policy::{ObjectKey, Revision};
use time::OffsetDateTime;

use super::database::{Row, Statement, Turn};
use super::{Staged, Store, StoreError, write};

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
    /// From the commit to then, by one clock.
    pub enforced_after: Option<Duration>,
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
        let mut transaction = self.database.begin_alone(Turn::Configuration).await?;
        write::check(&mut transaction, staged).await?;
        if !staged.changes_anything() {
            return Ok(staged.base());
        }
        let number = staged.base().number + 1;
        write::write(&mut transaction, number, staged, authorship).await?;
        transaction.commit().await?;
        Ok(Revision {
            number,
            ..staged.base()
        })
    }

    /// What [`Self::commit`] would refuse now, without writing.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn rehearse(&self, staged: &Staged) -> Result<(), CommitError> {
        let mut transaction = self.database.begin_alone(Turn::Configuration).await?;
        write::check(&mut transaction, staged).await
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
        let before = before.map_or(i64::MAX, |number| i64::try_from(number).unwrap_or(i64::MAX));
        let some = Statement::new(
            "SELECT number, author, reason, committed_at, content_sha256, enforced_at,
                    enforced_after
             FROM revisions WHERE number < $1 ORDER BY number DESC LIMIT $2",
        );
        let rows = self
            .database
            .fetch_all(some.bind(before).bind(limit))
            .await?;
        rows.iter().map(|row| self.revision_row(row)).collect()
    }

    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn revision(&self, number: u64) -> Result<Option<RevisionRow>, StoreError> {
        let Ok(number) = i64::try_from(number) else {
            return Ok(None);
        };
        let one = Statement::new(
            "SELECT number, author, reason, committed_at, content_sha256, enforced_at,
                    enforced_after
             FROM revisions WHERE number = $1",
        );
        let row = self.database.fetch_optional(one.bind(number)).await?;
        row.map(|row| self.revision_row(&row)).transpose()
    }

    pub(super) fn revision_in(
        &self,
        row: &Row,
        column: &'static str,
    ) -> Result<Revision, StoreError> {
        Ok(Revision {
            epoch: self.epoch(),
            number: row.unsigned(column)?,
        })
    }

    fn revision_row(&self, row: &Row) -> Result<RevisionRow, StoreError> {
        let committed_at = row.instant("committed_at")?;
        let enforced_at = row.instant_if_any("enforced_at")?;
        let after: Option<i64> = row.plain("enforced_after")?;
        let counted = after.and_then(|millis| u64::try_from(millis).ok());
        // What an older build noted was not counted.
        let by_clocks = || Duration::try_from(enforced_at? - committed_at).ok();
        Ok(RevisionRow {
            revision: self.revision_in(row, "number")?,
            author: row.plain("author")?,
            reason: row.plain("reason")?,
            committed_at,
            content_sha256: row.digest("content_sha256")?,
            enforced_at,
            enforced_after: counted.map(Duration::from_millis).or_else(by_clocks),
        })
    }
}
