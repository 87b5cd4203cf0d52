//! Admin credentials.

use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite as Engine, Transaction};
use time::OffsetDateTime;

use super::Sqlite;
use super::columns::{digest, instant, instant_if_any, millis, plain};
use crate::store::{AdminCredentialRow, StoreError};

impl Sqlite {
    pub(in crate::store) async fn put_admin_credential(
        &self,
        row: AdminCredentialRow,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        insert(&mut transaction, row).await?;
        Ok(transaction.commit().await?)
    }

    pub(in crate::store) async fn put_first_admin_credential(
        &self,
        row: AdminCredentialRow,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let any: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM admin_credentials)")
            .fetch_one(&mut *transaction)
            .await?;
        if any {
            return Ok(false);
        }
        insert(&mut transaction, row).await?;
        transaction.commit().await?;
        Ok(true)
    }

    pub(in crate::store) async fn admin_credentials(
        &self,
    ) -> Result<Vec<AdminCredentialRow>, StoreError> {
        sqlx::query("SELECT * FROM admin_credentials ORDER BY created_at, id")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(credential)
            .collect()
    }

    pub(in crate::store) async fn revoke_admin_credential(
        &self,
        id: &str,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE admin_credentials SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
        )
        .bind(id)
        .bind(millis(now))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn replace_admin_credentials(
        &self,
        row: AdminCredentialRow,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("UPDATE admin_credentials SET revoked_at = $1 WHERE revoked_at IS NULL")
            .bind(millis(row.created_at))
            .execute(&mut *transaction)
            .await?;
        insert(&mut transaction, row).await?;
        Ok(transaction.commit().await?)
    }
}

async fn insert(
    transaction: &mut Transaction<'static, Engine>,
    row: AdminCredentialRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO admin_credentials (id, secret_sha256, created_at, expires_at, revoked_at)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(row.id)
    .bind(row.secret_sha256.as_bytes().to_vec())
    .bind(millis(row.created_at))
    .bind(millis(row.expires_at))
    .bind(row.revoked_at.map(millis))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn credential(row: &SqliteRow) -> Result<AdminCredentialRow, StoreError> {
    Ok(AdminCredentialRow {
        id: plain(row, "id")?,
        secret_sha256: digest(row, "secret_sha256")?,
        created_at: instant(row, "created_at")?,
        expires_at: instant(row, "expires_at")?,
        revoked_at: instant_if_any(row, "revoked_at")?,
    })
}
