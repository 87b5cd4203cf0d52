//! Sealed keys: the first insert wins, and everybody reads the winner.

use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite as Engine, Transaction};

use super::Sqlite;
use super::columns::{bytes, instant, millis, parsed, plain};
use crate::store::{SealedKeyRow, StoreError};

impl Sqlite {
    pub(in crate::store) async fn sealed_keys(&self) -> Result<Vec<SealedKeyRow>, StoreError> {
        sqlx::query("SELECT * FROM sealed_keys ORDER BY created_at, purpose, version")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(sealed_key)
            .collect()
    }

    pub(in crate::store) async fn insert_sealed_key_if_absent(
        &self,
        row: SealedKeyRow,
    ) -> Result<SealedKeyRow, StoreError> {
        let mut transaction = self.begin().await?;
        insert_sealed_key(&mut transaction, &row).await?;
        let kept = sqlx::query("SELECT * FROM sealed_keys WHERE purpose = $1 AND version = $2")
            .bind(row.purpose.as_str())
            .bind(row.version)
            .fetch_one(&mut *transaction)
            .await?;
        let kept = sealed_key(&kept)?;
        transaction.commit().await?;
        Ok(kept)
    }
}

/// Does nothing where there is one with its purpose and version.
pub(super) async fn insert_sealed_key(
    transaction: &mut Transaction<'static, Engine>,
    row: &SealedKeyRow,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sealed_keys (purpose, version, key_id, wrapped_data_key, sealed,
                                  kek_check, certificate, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    )
    .bind(row.purpose.as_str())
    .bind(row.version)
    .bind(&row.key_id)
    .bind(&row.wrapped_data_key)
    .bind(&row.sealed)
    .bind(row.kek_check.to_vec())
    .bind(&row.certificate)
    .bind(millis(row.created_at))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn sealed_key(row: &SqliteRow) -> Result<SealedKeyRow, StoreError> {
    Ok(SealedKeyRow {
        purpose: parsed(row, "purpose")?,
        key_id: plain(row, "key_id")?,
        version: plain(row, "version")?,
        wrapped_data_key: plain(row, "wrapped_data_key")?,
        sealed: plain(row, "sealed")?,
        kek_check: bytes(row, "kek_check")?,
        certificate: plain(row, "certificate")?,
        created_at: instant(row, "created_at")?,
    })
}
