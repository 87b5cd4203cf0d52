//! What the store keeps of authorities: the state of each kind, which it changes only for who saw
//! the state before; the intermediates that signed leaves; and which agents have which bundle.

use std::collections::BTreeMap;

use crypto::digest::Sha256;
use identity::{SerialNumber, SpiffeId};
use policy::Revision;
use time::OffsetDateTime;

use super::database::{Row, Statement, Transaction, Turn};
use super::{
    AuthorityCertificate, Authorship, KeyPurpose, SealedKeyRow, Store, StoreError, keys, log, write,
};

/// The state of all authorities of one kind, as its owner writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityState {
    /// 1 for the first; each step adds one.
    pub version: u64,
    pub json: String,
}

/// One step of a kind, which makes one revision.
#[derive(Clone, Debug)]
pub struct AuthorityStep {
    pub purpose: KeyPurpose,
    /// The version of the state that the step begins at.
    pub from: u64,
    pub json: String,
    /// A key that is kept from now on.
    pub made: Option<SealedKeyRow>,
    /// Versions of keys that are destroyed.
    pub destroyed: Vec<u32>,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthorityStepError {
    /// Somebody else made a step first, or gave the store another key-encryption key than the one
    /// under which the new key is; nothing has changed.
    #[error("the authorities have moved on")]
    Moved,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An authority that signs leaves, for as long as a replica lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntermediateRow {
    pub key_id: String,
    /// Version of the sealed key that signed it.
    pub generation: u32,
    pub replica: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    /// None of those that older builds made.
    pub serial: Option<SerialNumber>,
    /// Nobody can sign a revocation list with it any more, and its leaves are to be replaced.
    pub is_superseded: bool,
}

/// An agent that holds an unexpired SVID, its own or a workload's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveAgent {
    pub spiffe_id: SpiffeId,
    /// Of the newest bundle that it has acknowledged; 0 for none.
    pub bundle_sequence: u64,
}

impl Store {
    /// The state of a kind; `None` before the first start.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn authority_state(
        &self,
        purpose: KeyPurpose,
    ) -> Result<Option<AuthorityState>, StoreError> {
        let row = self.database.fetch_optional(state_of(purpose)).await?;
        row.as_ref().map(state).transpose()
    }

    /// Keeps a first state unless there is one, and answers with the one kept.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn insert_authority_state_if_absent(
        &self,
        purpose: KeyPurpose,
        json: &str,
    ) -> Result<AuthorityState, StoreError> {
        let mut transaction = self.database.begin().await?;
        let insert = Statement::new(
            "INSERT INTO authority_states (purpose, version, json) VALUES ($1, 1, $2)
             ON CONFLICT DO NOTHING",
        );
        let insert = insert.bind(purpose.as_str()).bind(json);
        transaction.execute(insert).await?;
        let kept = state(&transaction.fetch_one(state_of(purpose)).await?)?;
        transaction.commit().await?;
        Ok(kept)
    }

    /// Makes a step, and with it one revision: all of it, or nothing when the state has moved on.
    ///
    /// # Errors
    /// See [`AuthorityStepError`].
    pub async fn step_authority(
        &self,
        step: &AuthorityStep,
        authorship: &Authorship,
    ) -> Result<Revision, AuthorityStepError> {
        let from = i64::try_from(step.from).map_err(|_| AuthorityStepError::Moved)?;
        let mut transaction = self.database.begin_alone(Turn::Configuration).await?;
        // The update is the comparison: it finds no row of another version.
        let update = Statement::new(
            "UPDATE authority_states SET version = $2 + 1, json = $3
             WHERE purpose = $1 AND version = $2",
        )
        .bind(step.purpose.as_str())
        .bind(from)
        .bind(step.json.as_str());
        if transaction.execute(update).await? != 1 {
            return Err(AuthorityStepError::Moved);
        }
        if !change_keys(&mut transaction, step).await? {
            return Err(AuthorityStepError::Moved);
        }
        let head = write::head_of(&transaction.fetch_one(write::head()).await?)?;
        let content = last_content(&mut transaction).await?;
        write::new_revision(&mut transaction, head.number + 1, authorship, content).await?;
        transaction.commit().await?;
        Ok(Revision {
            number: head.number + 1,
            ..head
        })
    }

    /// Remembers an intermediate, before it signs.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn record_intermediate(
        &self,
        row: &IntermediateRow,
        certificate: AuthorityCertificate<'_>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        let insert = Statement::new(
            "INSERT INTO intermediates
                 (key_id, generation, replica, not_before, not_after, serial, issuer)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(row.key_id.as_str())
        .bind(row.generation)
        .bind(row.replica.as_str())
        .bind(row.not_before)
        .bind(row.not_after)
        .bind(row.serial.map(|it| it.to_string()))
        .bind(certificate.issuer);
        transaction.execute(insert).await?;
        log::insert_authority(&mut transaction, certificate).await?;
        transaction.commit().await
    }

    /// The intermediates that have not ended, by replica and beginning.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn intermediates(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<IntermediateRow>, StoreError> {
        let live = Statement::new(
            "SELECT key_id, generation, replica, not_before, not_after, serial,
                    superseded_at
             FROM intermediates WHERE not_after > $1 ORDER BY replica, not_before",
        );
        let rows = self.database.fetch_all(live.bind(now)).await?;
        rows.iter().map(intermediate).collect()
    }

    /// For each authority the end of the last recorded leaf, or of the last authority of another
    /// instance, that leads to it. An issuer that was recorded before issuers were is the first's.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn leaves_until(
        &self,
        now: OffsetDateTime,
    ) -> Result<BTreeMap<u32, OffsetDateTime>, StoreError> {
        let ends = Statement::new(
            "SELECT generation, MAX(not_after) AS until FROM (
                 SELECT COALESCE(intermediates.generation, 1) AS generation,
                        MAX(issued.not_after) AS not_after
                 FROM issued LEFT JOIN intermediates ON intermediates.key_id = issued.issuer
                 WHERE issued.not_after > $1 GROUP BY 1
                 UNION ALL
                 SELECT generation, not_after FROM downstream_authorities WHERE not_after > $1
             ) AS below GROUP BY generation",
        );
        let rows = self.database.fetch_all(ends.bind(now)).await?;
        rows.iter()
            .map(|row| Ok((row.unsigned("generation")?, row.instant("until")?)))
            .collect()
    }

    /// The agents that were not forgotten and hold an unexpired SVID, by ID.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn live_agents(&self, now: OffsetDateTime) -> Result<Vec<LiveAgent>, StoreError> {
        let live = Statement::new(
            "SELECT spiffe_id, bundle_sequence FROM agents
             WHERE not_after > $1
                OR spiffe_id IN (SELECT agent_id FROM issued WHERE not_after > $1)
             ORDER BY spiffe_id",
        );
        let rows = self.database.fetch_all(live.bind(now)).await?;
        rows.iter()
            .map(|row| {
                Ok(LiveAgent {
                    spiffe_id: row.parsed("spiffe_id")?,
                    bundle_sequence: row.unsigned("bundle_sequence")?,
                })
            })
            .collect()
    }

    /// Notes that agents have acknowledged a bundle; never goes back.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn note_bundle(&self, agents: &[SpiffeId], sequence: u64) -> Result<(), StoreError> {
        let agents: Vec<_> = agents.iter().map(ToString::to_string).collect();
        let note = Statement::by_engine(
            "UPDATE agents SET bundle_sequence = $2
             WHERE bundle_sequence < $2 AND spiffe_id IN (SELECT value FROM json_each($1))",
            "UPDATE agents SET bundle_sequence = $2
             WHERE bundle_sequence < $2
               AND spiffe_id IN (SELECT json_array_elements_text($1::json))",
        )
        .bind(serde_json::Value::from(agents).to_string())
        .bind(i64::try_from(sequence).unwrap_or(i64::MAX));
        self.database.execute(note).await.map(drop)
    }
}

fn state_of(purpose: KeyPurpose) -> Statement {
    Statement::new("SELECT version, json FROM authority_states WHERE purpose = $1")
        .bind(purpose.as_str())
}

/// `false`: the new key cannot be kept.
async fn change_keys(
    transaction: &mut Transaction,
    step: &AuthorityStep,
) -> Result<bool, StoreError> {
    if let Some(made) = &step.made
        && !keys::insert(transaction, made).await?
    {
        return Ok(false);
    }
    for version in &step.destroyed {
        let delete = Statement::new("DELETE FROM sealed_keys WHERE purpose = $1 AND version = $2");
        let delete = delete.bind(step.purpose.as_str()).bind(*version);
        transaction.execute(delete).await?;
    }
    Ok(true)
}

/// The objects in force stay as they were.
pub(super) async fn last_content(transaction: &mut Transaction) -> Result<Sha256, StoreError> {
    let last = Statement::new("SELECT content_sha256 FROM revisions ORDER BY number DESC LIMIT 1");
    let row = transaction.fetch_optional(last).await?;
    row.map_or_else(|| Ok(Sha256::of(b"")), |row| row.digest("content_sha256"))
}

fn state(row: &Row) -> Result<AuthorityState, StoreError> {
    Ok(AuthorityState {
        version: row.unsigned("version")?,
        json: row.plain("json")?,
    })
}

fn intermediate(row: &Row) -> Result<IntermediateRow, StoreError> {
    Ok(IntermediateRow {
        key_id: row.plain("key_id")?,
        generation: row.unsigned("generation")?,
        replica: row.plain("replica")?,
        not_before: row.instant("not_before")?,
        not_after: row.instant("not_after")?,
        serial: row.parsed_if_any("serial")?,
        is_superseded: row.plain::<i64>("superseded_at")? != 0,
    })
}
