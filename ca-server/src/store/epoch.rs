//! The epoch of a mesh: which line of revisions its store holds. A store that was restored, or failed
//! over to an older state, goes on in a new one once an administrator says so.
//!
//! Invariant: a replica follows the epoch that the store holds, with the revision that it belongs to.

use std::sync::atomic::Ordering;

use crypto::random::{Random, SystemRandom};
use policy::Revision;

use super::authorities::last_content;
use super::database::{Row, Statement, Turn};
use super::{Authorship, CommitError, Store, StoreError, write};

impl Store {
    /// Of the store as it was read last.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.mesh.epoch.load(Ordering::Acquire)
    }

    /// The newest revision; number 0 when nothing was ever written.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn head(&self) -> Result<Revision, StoreError> {
        let row = self.database.fetch_one(write::head()).await?;
        self.head_in(&row)
    }

    /// Begins a new epoch on top of `head`, which the store must hold; it is a revision of its own.
    ///
    /// # Errors
    /// See [`CommitError`]; nothing has changed then.
    pub async fn accept_loss(
        &self,
        head: Revision,
        authorship: &Authorship,
    ) -> Result<Revision, CommitError> {
        let mut transaction = self.database.begin_alone(Turn::Configuration).await?;
        let found = write::head_of(&transaction.fetch_one(write::head()).await?)?;
        if found != head {
            return Err(CommitError::Moved { head: found });
        }
        let next = Revision {
            epoch: another(head.epoch),
            number: head.number + 1,
        };
        let begin = Statement::new("UPDATE mesh SET epoch = $1").bind(next.epoch.cast_signed());
        transaction.execute(begin).await?;
        let content = last_content(&mut transaction).await?;
        write::new_revision(&mut transaction, next.number, authorship, content).await?;
        transaction.commit().await?;
        self.mesh.epoch.store(next.epoch, Ordering::Release);
        Ok(next)
    }

    pub(super) fn head_in(&self, row: &Row) -> Result<Revision, StoreError> {
        let head = write::head_of(row)?;
        self.database.note_min_reader(row.plain("min_reader")?);
        self.mesh.epoch.store(head.epoch, Ordering::Release);
        Ok(head)
    }
}

/// 32 random bits, never zero: what older builds read too.
pub(super) fn random() -> u64 {
    u64::from(u32::from_be_bytes(SystemRandom.bytes()).max(1))
}

fn another(epoch: u64) -> u64 {
    let drawn = random();
    if drawn == epoch { drawn ^ 2 } else { drawn }
}
