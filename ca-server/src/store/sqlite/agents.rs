//! Agents. "Newer" is by order of issuance, since serial numbers are random.

use identity::{SerialNumber, SpiffeId};
use sqlx::sqlite::SqliteRow;
use time::OffsetDateTime;

use super::Sqlite;
use super::columns::{instant, millis, parsed};
use crate::store::{AgentRow, StoreError};

impl Sqlite {
    pub(in crate::store) async fn record_agent(&self, row: AgentRow) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO agents (spiffe_id, attested_at, serial, not_after)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (spiffe_id) DO UPDATE SET
                 attested_at = excluded.attested_at,
                 serial = excluded.serial,
                 not_after = excluded.not_after",
        )
        .bind(row.spiffe_id.to_string())
        .bind(millis(row.attested_at))
        .bind(row.serial.to_string())
        .bind(millis(row.not_after))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    pub(in crate::store) async fn renew_agent(
        &self,
        id: &SpiffeId,
        serial: SerialNumber,
        not_after: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let done =
            sqlx::query("UPDATE agents SET serial = $2, not_after = $3 WHERE spiffe_id = $1")
                .bind(id.to_string())
                .bind(serial.to_string())
                .bind(millis(not_after))
                .execute(&self.writer)
                .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn agents(&self) -> Result<Vec<AgentRow>, StoreError> {
        sqlx::query("SELECT * FROM agents ORDER BY spiffe_id")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(agent)
            .collect()
    }

    pub(in crate::store) async fn agent(
        &self,
        id: &SpiffeId,
    ) -> Result<Option<AgentRow>, StoreError> {
        sqlx::query("SELECT * FROM agents WHERE spiffe_id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await?
            .as_ref()
            .map(agent)
            .transpose()
    }

    pub(in crate::store) async fn forget_agent(&self, id: &SpiffeId) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query("DELETE FROM agents WHERE spiffe_id = $1")
            .bind(id.to_string())
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query("DELETE FROM join_tokens WHERE agent_id = $1")
            .bind(id.to_string())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    pub(in crate::store) async fn note_seen_serial(
        &self,
        agent: &SpiffeId,
        serial: SerialNumber,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE agents SET seen_serial = $2
             WHERE spiffe_id = $1
               AND seen_serial IS NOT $2
               AND EXISTS (SELECT 1 FROM issued WHERE serial = $2 AND spiffe_id = $1)
               AND COALESCE((SELECT sequence FROM issued WHERE serial = seen_serial), -1)
                   < (SELECT sequence FROM issued WHERE serial = $2)",
        )
        .bind(agent.to_string())
        .bind(serial.to_string())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    pub(in crate::store) async fn newer_serial_seen(
        &self,
        agent: &SpiffeId,
        than: SerialNumber,
    ) -> Result<bool, StoreError> {
        let newer: bool = sqlx::query_scalar(
            "SELECT EXISTS (
                 SELECT 1 FROM agents JOIN issued ON issued.serial = agents.seen_serial
                 WHERE agents.spiffe_id = $1
                   AND issued.sequence
                       > COALESCE((SELECT sequence FROM issued WHERE serial = $2), -1))",
        )
        .bind(agent.to_string())
        .bind(than.to_string())
        .fetch_one(&self.readers)
        .await?;
        Ok(newer)
    }
}

fn agent(row: &SqliteRow) -> Result<AgentRow, StoreError> {
    Ok(AgentRow {
        spiffe_id: parsed(row, "spiffe_id")?,
        attested_at: instant(row, "attested_at")?,
        serial: parsed(row, "serial")?,
        not_after: instant(row, "not_after")?,
    })
}
