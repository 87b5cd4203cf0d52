//! Issuance records. A batch is one statement over `json_each`, hence one commit and one sync.

use crypto::digest::Sha256;
use identity::{SerialNumber, SpiffeId};
use serde_json::json;
use sqlx::sqlite::SqliteRow;

use super::Sqlite;
use super::columns::{digest, instant, millis, parsed, plain};
use crate::store::{IssuedFilter, IssuedRow, StoreError};

impl Sqlite {
    pub(in crate::store) async fn record_issued(
        &self,
        rows: &[IssuedRow],
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let batch: Vec<_> = rows.iter().map(row_as_json).collect();
        sqlx::query(
            "INSERT INTO issued (serial, spiffe_id, agent_id, issuer, not_before, not_after,
                                 issued_at, leaf_sha256)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
                    value ->> 6, unhex(value ->> 7)
             FROM json_each($1) ORDER BY key",
        )
        .bind(serde_json::Value::from(batch).to_string())
        .execute(&self.writer)
        .await
        .map_err(|error| match StoreError::from(error) {
            StoreError::Duplicate { .. } => StoreError::Duplicate {
                what: "serial number",
            },
            other => other,
        })?;
        Ok(())
    }

    pub(in crate::store) async fn issued(
        &self,
        filter: &IssuedFilter,
        limit: u32,
    ) -> Result<Vec<IssuedRow>, StoreError> {
        sqlx::query(
            "SELECT * FROM issued
             WHERE ($1 IS NULL OR spiffe_id = $1) AND ($2 IS NULL OR agent_id = $2)
             ORDER BY sequence DESC LIMIT $3",
        )
        .bind(filter.spiffe_id.as_ref().map(ToString::to_string))
        .bind(filter.agent_id.as_ref().map(ToString::to_string))
        .bind(limit)
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(issued)
        .collect()
    }

    pub(in crate::store) async fn is_recorded(
        &self,
        id: &SpiffeId,
        serial: SerialNumber,
        leaf_sha256: Sha256,
    ) -> Result<bool, StoreError> {
        let known = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM issued
                            WHERE serial = $1 AND spiffe_id = $2 AND leaf_sha256 = $3)",
        )
        .bind(serial.to_string())
        .bind(id.to_string())
        .bind(leaf_sha256.as_bytes().to_vec())
        .fetch_one(&self.readers)
        .await?;
        Ok(known)
    }

    pub(in crate::store) async fn latest_serial(
        &self,
        agent: &SpiffeId,
    ) -> Result<Option<SerialNumber>, StoreError> {
        sqlx::query(
            "SELECT serial FROM issued WHERE spiffe_id = $1 AND agent_id = $1
             ORDER BY sequence DESC LIMIT 1",
        )
        .bind(agent.to_string())
        .fetch_optional(&self.readers)
        .await?
        .map(|row| parsed(&row, "serial"))
        .transpose()
    }
}

fn row_as_json(row: &IssuedRow) -> serde_json::Value {
    json!([
        row.serial.to_string(),
        row.spiffe_id.as_str(),
        row.agent_id.as_str(),
        row.issuer,
        millis(row.not_before),
        millis(row.not_after),
        millis(row.issued_at),
        row.leaf_sha256.to_string(),
    ])
}

fn issued(row: &SqliteRow) -> Result<IssuedRow, StoreError> {
    Ok(IssuedRow {
        serial: parsed(row, "serial")?,
        spiffe_id: parsed(row, "spiffe_id")?,
        agent_id: parsed(row, "agent_id")?,
        issuer: plain(row, "issuer")?,
        not_before: instant(row, "not_before")?,
        not_after: instant(row, "not_after")?,
        issued_at: instant(row, "issued_at")?,
        leaf_sha256: digest(row, "leaf_sha256")?,
    })
}
