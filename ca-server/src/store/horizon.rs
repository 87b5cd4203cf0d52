//! What ends when: the newest record of each identity at each agent, what live replicas sign with,
//! and the clock that replicas have in common.

use identity::SpiffeId;
use time::OffsetDateTime;

use super::database::{Database, Row, Statement};
use super::replicas::HEARD_WITHIN;
use super::{Store, StoreError};

/// The newest certificate that one agent was given for one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatestSvid {
    pub spiffe_id: SpiffeId,
    /// Through which it was issued; equals `spiffe_id` for an agent's own.
    pub agent_id: SpiffeId,
    pub issued_at: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

/// The newest intermediate of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaEnd {
    pub replica: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl Store {
    /// At most `limit` of those that have not ended, the first to end first, beginning after
    /// `after`.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn latest_svids(
        &self,
        now: OffsetDateTime,
        after: Option<&LatestSvid>,
        limit: u32,
    ) -> Result<Vec<LatestSvid>, StoreError> {
        let page = Statement::new(
            "SELECT spiffe_id, agent_id, issued_at, ends FROM (
                 SELECT spiffe_id, agent_id, MAX(issued_at) AS issued_at, MAX(not_after) AS ends
                 FROM issued WHERE not_after > $1 GROUP BY spiffe_id, agent_id
             ) AS latest
             WHERE (ends, spiffe_id, agent_id) > ($2, $3, $4)
             ORDER BY ends, spiffe_id, agent_id LIMIT $5",
        )
        .bind(now)
        .bind(after.map_or(now, |last| last.not_after))
        .bind(after.map_or("", |last| last.spiffe_id.as_str()))
        .bind(after.map_or("", |last| last.agent_id.as_str()))
        .bind(limit);
        let rows = self.database.fetch_all(page).await?;
        rows.iter().map(latest).collect()
    }

    /// The newest intermediate of each replica that was heard of lately, ended or not.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn replica_ends(&self, now: OffsetDateTime) -> Result<Vec<ReplicaEnd>, StoreError> {
        let ends = Statement::new(
            "SELECT replica, MAX(not_before) AS not_before, MAX(not_after) AS not_after
             FROM intermediates JOIN replicas ON replicas.name = intermediates.replica
             WHERE replicas.seen_at >= $1 GROUP BY replica ORDER BY replica",
        );
        let ends = ends.bind(now - HEARD_WITHIN);
        let rows = self.database.fetch_all(ends).await?;
        rows.iter().map(replica_end).collect()
    }

    /// What the database's clock says. `None` where it is this host's.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn database_time(&self) -> Result<Option<OffsetDateTime>, StoreError> {
        if let Database::Sqlite(_) = &*self.database {
            return Ok(None);
        }
        let now = Statement::new(
            "SELECT floor(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint AS now",
        );
        let row = self.database.fetch_one(now).await?;
        row.instant("now").map(Some)
    }
}

fn latest(row: &Row) -> Result<LatestSvid, StoreError> {
    Ok(LatestSvid {
        spiffe_id: row.parsed("spiffe_id")?,
        agent_id: row.parsed("agent_id")?,
        issued_at: row.instant("issued_at")?,
        not_after: row.instant("ends")?,
    })
}

fn replica_end(row: &Row) -> Result<ReplicaEnd, StoreError> {
    Ok(ReplicaEnd {
        replica: row.plain("replica")?,
        not_before: row.instant("not_before")?,
        not_after: row.instant("not_after")?,
    })
}
