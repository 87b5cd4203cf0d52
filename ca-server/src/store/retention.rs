//! What is let go when it has been over for long enough. Configuration history is not among it.

use time::OffsetDateTime;

use super::database::Statement;
use super::{Store, StoreError, log};

impl Store {
    /// Drops issuance records, entries of the log, tokens and admin credentials that ended before `before`.
    /// Answers how many records of issuance went.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn prune(&self, before: OffsetDateTime) -> Result<u64, StoreError> {
        let mut transaction = self.database.begin().await?;
        // What is not in the log yet stays, as does the last: on SQLite the next follows on it.
        let issued = Statement::new(
            "DELETE FROM issued WHERE not_after < $1
             AND sequence <= (SELECT settled FROM log_state)
             AND sequence < (SELECT MAX(sequence) FROM issued)",
        );
        let pruned = transaction.execute(issued.bind(before)).await?;
        let tokens = Statement::new("DELETE FROM join_tokens WHERE expires_at < $1");
        transaction.execute(tokens.bind(before)).await?;
        let tokens = Statement::new("DELETE FROM issuers_tokens WHERE expires_at < $1");
        transaction.execute(tokens.bind(before)).await?;
        // The newest stays, so that "was there ever one" keeps its answer.
        let credentials = Statement::new(
            "DELETE FROM admin_credentials WHERE expires_at < $1
             AND id != (SELECT id FROM admin_credentials ORDER BY created_at DESC, id LIMIT 1)",
        );
        transaction.execute(credentials.bind(before)).await?;
        let downstream = Statement::new("DELETE FROM downstream_authorities WHERE not_after < $1");
        transaction.execute(downstream.bind(before)).await?;
        log::prune(&mut transaction, before).await?;
        let unlogged = Statement::new("DELETE FROM unlogged_leaves WHERE last_seen < $1");
        transaction.execute(unlogged.bind(before)).await?;
        transaction.commit().await?;
        Ok(pruned)
    }
}
