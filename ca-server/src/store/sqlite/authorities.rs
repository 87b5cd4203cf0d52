//! Authorities. The update of the state is the comparison: it finds no row of another version.

use std::collections::BTreeMap;

use crypto::digest::Sha256;
use identity::SpiffeId;
use policy::Revision;
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite as Engine, Transaction};
use time::OffsetDateTime;

use super::Sqlite;
use super::columns::{instant, millis, parsed, plain, unsigned};
use super::configuration::{head, new_revision};
use super::keys::insert_sealed_key;
use crate::store::{
    AuthorityState, AuthorityStep, AuthorityStepError, Authorship, IntermediateRow, KeyPurpose,
    LiveAgent, StoreError,
};

impl Sqlite {
    pub(in crate::store) async fn authority_state(
        &self,
        purpose: KeyPurpose,
    ) -> Result<Option<AuthorityState>, StoreError> {
        sqlx::query("SELECT version, json FROM authority_states WHERE purpose = $1")
            .bind(purpose.as_str())
            .fetch_optional(&self.readers)
            .await?
            .as_ref()
            .map(state)
            .transpose()
    }

    pub(in crate::store) async fn insert_authority_state_if_absent(
        &self,
        purpose: KeyPurpose,
        json: &str,
    ) -> Result<AuthorityState, StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "INSERT INTO authority_states (purpose, version, json) VALUES ($1, 1, $2)
             ON CONFLICT DO NOTHING",
        )
        .bind(purpose.as_str())
        .bind(json)
        .execute(&mut *transaction)
        .await?;
        let kept = sqlx::query("SELECT version, json FROM authority_states WHERE purpose = $1")
            .bind(purpose.as_str())
            .fetch_one(&mut *transaction)
            .await?;
        let kept = state(&kept)?;
        transaction.commit().await?;
        Ok(kept)
    }

    pub(in crate::store) async fn step_authority(
        &self,
        epoch: u64,
        step: &AuthorityStep,
        authorship: &Authorship,
    ) -> Result<Revision, AuthorityStepError> {
        let mut transaction = self.begin().await?;
        let from = i64::try_from(step.from).map_err(|_| AuthorityStepError::Moved)?;
        let moved = sqlx::query(
            "UPDATE authority_states SET version = $2 + 1, json = $3
             WHERE purpose = $1 AND version = $2",
        )
        .bind(step.purpose.as_str())
        .bind(from)
        .bind(&step.json)
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::from)?;
        if moved.rows_affected() != 1 {
            return Err(AuthorityStepError::Moved);
        }
        change_keys(&mut transaction, step).await?;
        let number = head(&mut transaction, epoch).await?.number + 1;
        let content = last_content(&mut transaction).await?;
        new_revision(&mut transaction, number, authorship, content).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(Revision { epoch, number })
    }

    pub(in crate::store) async fn record_intermediate(
        &self,
        row: &IntermediateRow,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO intermediates (key_id, generation, replica, not_before, not_after)
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(&row.key_id)
        .bind(row.generation)
        .bind(&row.replica)
        .bind(millis(row.not_before))
        .bind(millis(row.not_after))
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    pub(in crate::store) async fn intermediates(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<IntermediateRow>, StoreError> {
        sqlx::query("SELECT * FROM intermediates WHERE not_after > $1 ORDER BY replica, not_before")
            .bind(millis(now))
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(intermediate)
            .collect()
    }

    pub(in crate::store) async fn leaves_until(
        &self,
        now: OffsetDateTime,
    ) -> Result<BTreeMap<u32, OffsetDateTime>, StoreError> {
        sqlx::query(
            "SELECT COALESCE(intermediates.generation, 1) AS generation,
                    MAX(issued.not_after) AS until
             FROM issued LEFT JOIN intermediates ON intermediates.key_id = issued.issuer
             WHERE issued.not_after > $1 GROUP BY 1",
        )
        .bind(millis(now))
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| Ok((plain(row, "generation")?, instant(row, "until")?)))
        .collect()
    }

    pub(in crate::store) async fn live_agents(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<LiveAgent>, StoreError> {
        sqlx::query(
            "SELECT spiffe_id, bundle_sequence FROM agents
             WHERE not_after > $1
                OR spiffe_id IN (SELECT agent_id FROM issued WHERE not_after > $1)
             ORDER BY spiffe_id",
        )
        .bind(millis(now))
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(|row| {
            Ok(LiveAgent {
                spiffe_id: parsed(row, "spiffe_id")?,
                bundle_sequence: unsigned(row, "bundle_sequence")?,
            })
        })
        .collect()
    }

    pub(in crate::store) async fn note_bundle(
        &self,
        agents: &[SpiffeId],
        sequence: u64,
    ) -> Result<(), StoreError> {
        let agents: Vec<_> = agents.iter().map(ToString::to_string).collect();
        let sequence = i64::try_from(sequence).unwrap_or(i64::MAX);
        sqlx::query(
            "UPDATE agents SET bundle_sequence = $2
             WHERE bundle_sequence < $2 AND spiffe_id IN (SELECT value FROM json_each($1))",
        )
        .bind(serde_json::Value::from(agents).to_string())
        .bind(sequence)
        .execute(&self.writer)
        .await?;
        Ok(())
    }
}

async fn change_keys(
    transaction: &mut Transaction<'static, Engine>,
    step: &AuthorityStep,
) -> Result<(), StoreError> {
    if let Some(made) = &step.made {
        insert_sealed_key(transaction, made).await?;
    }
    for version in &step.destroyed {
        sqlx::query("DELETE FROM sealed_keys WHERE purpose = $1 AND version = $2")
            .bind(step.purpose.as_str())
            .bind(*version)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

/// The objects in force stay as they were.
async fn last_content(
    transaction: &mut Transaction<'static, Engine>,
) -> Result<Sha256, StoreError> {
    let row = sqlx::query("SELECT content_sha256 FROM revisions ORDER BY number DESC LIMIT 1")
        .fetch_optional(&mut **transaction)
        .await?;
    row.map_or_else(
        || Ok(Sha256::of(b"")),
        |row| super::columns::digest(&row, "content_sha256"),
    )
}

fn state(row: &SqliteRow) -> Result<AuthorityState, StoreError> {
    Ok(AuthorityState {
        version: unsigned(row, "version")?,
        json: plain(row, "json")?,
    })
}

fn intermediate(row: &SqliteRow) -> Result<IntermediateRow, StoreError> {
    Ok(IntermediateRow {
        key_id: plain(row, "key_id")?,
        generation: plain(row, "generation")?,
        replica: plain(row, "replica")?,
        not_before: instant(row, "not_before")?,
        not_after: instant(row, "not_after")?,
    })
}
