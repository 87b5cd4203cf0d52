//! Leaves that proxies saw, against what was recorded; and those that were not, for good.

use std::collections::HashSet;

use crypto::digest::Sha256;
use identity::{QualifiedName, SerialNumber, SpiffeId};
use time::OffsetDateTime;

use super::database::{Row, Statement};
use super::{Store, StoreError};

/// Whoever has a key of ours must not fill the store with it.
const MOST: i64 = 10_000;

/// A leaf that a proxy verified in a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLeaf {
    pub sha256: Sha256,
    pub serial: SerialNumber,
    pub spiffe_id: SpiffeId,
    /// Key ids of the authorities above it, as far as they were reported; not kept.
    pub authorities: Vec<Sha256>,
    /// Through which agent that was reported.
    pub agent_id: SpiffeId,
    /// Whose proxy saw it.
    pub workload: QualifiedName,
}

/// A leaf that was seen, and never recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnloggedLeaf {
    /// As it was reported first.
    pub seen: SeenLeaf,
    pub first_seen: OffsetDateTime,
    pub last_seen: OffsetDateTime,
}

impl Store {
    /// Which of these certificates are recorded and leaves of the log.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn logged_of(&self, seen: &[SeenLeaf]) -> Result<HashSet<Sha256>, StoreError> {
        let batch = seen.iter().map(|leaf| leaf.serial.to_string());
        let logged = Statement::by_engine(
            "SELECT leaf_sha256 FROM json_each($1) JOIN issued ON serial = value
             WHERE EXISTS (SELECT 1 FROM log_runs WHERE first_sequence =
                 (SELECT MAX(first_sequence) FROM log_runs WHERE first_sequence <= issued.sequence)
                 AND last_sequence >= issued.sequence)",
            "SELECT leaf_sha256 FROM json_array_elements_text($1::json) AS value
             JOIN issued ON serial = value
             WHERE EXISTS (SELECT 1 FROM log_runs WHERE first_sequence =
                 (SELECT MAX(first_sequence) FROM log_runs WHERE first_sequence <= issued.sequence)
                 AND last_sequence >= issued.sequence)",
        );
        let logged = logged.bind(serde_json::Value::from_iter(batch).to_string());
        let rows = self.database.fetch_all(logged).await?;
        rows.iter().map(|row| row.digest("leaf_sha256")).collect()
    }

    /// Keys of the authorities that were ever signed for instances below this one.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn keys_below(&self) -> Result<HashSet<Sha256>, StoreError> {
        self.keys("SELECT key_id FROM downstream_authorities").await
    }

    /// Keys of the authorities that an upstream has signed for this instance.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn mesh_authority_keys(&self) -> Result<HashSet<Sha256>, StoreError> {
        self.keys("SELECT key_id FROM sealed_keys WHERE purpose = 'mesh-authority'")
            .await
    }

    async fn keys(&self, of: &'static str) -> Result<HashSet<Sha256>, StoreError> {
        let rows = self.database.fetch_all(Statement::new(of)).await?;
        rows.iter().map(|row| row.parsed("key_id")).collect()
    }

    /// Keeps leaves that are not logged, and when they were last seen. Answers with those that were
    /// not known before; of more than ten thousand no more are kept.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn note_unlogged(
        &self,
        seen: &[SeenLeaf],
        at: OffsetDateTime,
    ) -> Result<Vec<UnloggedLeaf>, StoreError> {
        let mut transaction = self.database.begin().await?;
        let mut new = Vec::new();
        for leaf in seen {
            let insert = Statement::new(
                "INSERT INTO unlogged_leaves (sha256, serial, spiffe_id, agent_id, workload,
                                              first_seen, last_seen)
                 SELECT $1, $2, $3, $4, $5, $6, $6
                 WHERE (SELECT COUNT(*) FROM unlogged_leaves) < $7
                 ON CONFLICT (sha256) DO NOTHING",
            )
            .bind(leaf.sha256)
            .bind(leaf.serial)
            .bind(&leaf.spiffe_id)
            .bind(&leaf.agent_id)
            .bind(leaf.workload.to_string())
            .bind(at)
            .bind(MOST);
            if transaction.execute(insert).await? == 1 {
                new.push(UnloggedLeaf {
                    seen: leaf.clone(),
                    first_seen: at,
                    last_seen: at,
                });
                continue;
            }
            let again =
                Statement::new("UPDATE unlogged_leaves SET last_seen = $2 WHERE sha256 = $1");
            transaction
                .execute(again.bind(leaf.sha256).bind(at))
                .await?;
        }
        transaction.commit().await?;
        Ok(new)
    }

    /// At most `limit`, those that were found last first.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn unlogged_leaves(&self, limit: u32) -> Result<Vec<UnloggedLeaf>, StoreError> {
        let all = Statement::new(
            "SELECT sha256, serial, spiffe_id, agent_id, workload, first_seen, last_seen
             FROM unlogged_leaves ORDER BY first_seen DESC, sha256 LIMIT $1",
        );
        let rows = self.database.fetch_all(all.bind(limit)).await?;
        rows.iter().map(unlogged).collect()
    }
}

fn unlogged(row: &Row) -> Result<UnloggedLeaf, StoreError> {
    Ok(UnloggedLeaf {
        seen: SeenLeaf {
            sha256: row.digest("sha256")?,
            serial: row.parsed("serial")?,
            spiffe_id: row.parsed("spiffe_id")?,
            authorities: Vec::new(),
            agent_id: row.parsed("agent_id")?,
            workload: row.parsed("workload")?,
        },
        first_seen: row.instant("first_seen")?,
        last_seen: row.instant("last_seen")?,
    })
}
