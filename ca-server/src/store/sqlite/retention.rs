//! What is let go, by when it ended. Configuration history is not among it.

use time::OffsetDateTime;

use super::Sqlite;
use super::columns::millis;
use crate::store::StoreError;

impl Sqlite {
    pub(in crate::store) async fn prune(&self, before: OffsetDateTime) -> Result<u64, StoreError> {
        let before = millis(before);
        let mut transaction = self.begin().await?;
        let pruned = sqlx::query("DELETE FROM issued WHERE not_after < $1")
            .bind(before)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        sqlx::query("DELETE FROM join_tokens WHERE expires_at < $1")
            .bind(before)
            .execute(&mut *transaction)
            .await?;
        // The newest stays, so that "was there ever one" keeps its answer.
        sqlx::query(
            "DELETE FROM admin_credentials WHERE expires_at < $1
             AND id != (SELECT id FROM admin_credentials ORDER BY created_at DESC, id LIMIT 1)",
        )
        .bind(before)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(pruned)
    }
}
