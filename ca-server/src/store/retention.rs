//! What is let go when it has been over for long enough.

use time::OffsetDateTime;

use super::{Backend, Store, StoreError};

impl Store {
    /// Drops issuance records, join tokens and admin credentials that ended before `before`.
    /// Answers how many records of issuance went.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn prune(&self, before: OffsetDateTime) -> Result<u64, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.prune(before).await,
        }
    }
}
