//! Issuance records: nothing is issued that is not recorded.

use crypto::digest::Sha256;
use identity::{SerialNumber, SpiffeId};
use serde_json::json;
use time::OffsetDateTime;

use super::database::{Row, Statement, millis};
use super::{Store, StoreError};

/// One X.509-SVID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedRow {
    pub serial: SerialNumber,
    pub spiffe_id: SpiffeId,
    /// Through which it was issued; equals `spiffe_id` for an agent's own.
    pub agent_id: SpiffeId,
    /// Key id of the authority that signed.
    pub issuer: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    pub issued_at: OffsetDateTime,
    /// SHA-256 of the leaf's DER.
    pub leaf_sha256: Sha256,
}

/// Which records are wanted; what is `None` does not narrow.
#[derive(Clone, Debug, Default)]
pub struct IssuedFilter {
    pub spiffe_id: Option<SpiffeId>,
    pub agent_id: Option<SpiffeId>,
}

impl Store {
    /// Records all of `rows` or none, in one statement, hence one commit and one wait for the disk;
    /// durable on return.
    ///
    /// # Errors
    /// The store is unavailable, or has one of the serials already.
    pub async fn record_issued(&self, rows: &[IssuedRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let insert = insert(INSERT, rows);
        match self.database.execute(insert).await {
            Err(StoreError::Duplicate { .. }) => Err(StoreError::Duplicate {
                what: "serial number",
            }),
            outcome => outcome.map(drop),
        }
    }

    /// Records what was issued while the store was away, and what agents hold since then. What is
    /// recorded already stays as it is.
    ///
    /// # Errors
    /// The store is unavailable; nothing has changed.
    pub async fn record_spooled(&self, rows: &[IssuedRow]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        transaction.execute(insert(INSERT_UNKNOWN, rows)).await?;
        for row in rows.iter().filter(|row| row.spiffe_id == row.agent_id) {
            let renewed = Statement::new(
                "UPDATE agents SET serial = $2, not_after = $3
                 WHERE spiffe_id = $1 AND not_after < $3",
            );
            let renewed = renewed.bind(&row.spiffe_id).bind(row.serial);
            transaction.execute(renewed.bind(row.not_after)).await?;
        }
        transaction.commit().await
    }

    /// Whether records would be taken; changes nothing.
    ///
    /// # Errors
    /// The store is unavailable, or only to be read.
    pub async fn probe_write(&self) -> Result<(), StoreError> {
        let nothing = Statement::new("UPDATE agents SET serial = serial WHERE spiffe_id = $1");
        self.database.execute(nothing.bind("")).await.map(drop)
    }

    /// At most `limit` records, the newest first.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn issued(
        &self,
        filter: &IssuedFilter,
        limit: u32,
    ) -> Result<Vec<IssuedRow>, StoreError> {
        let some = Statement::new(
            "SELECT serial, spiffe_id, agent_id, issuer, not_before, not_after,
                    issued_at, leaf_sha256
             FROM issued
             WHERE ($1 IS NULL OR spiffe_id = $1) AND ($2 IS NULL OR agent_id = $2)
             ORDER BY sequence DESC LIMIT $3",
        )
        .bind(filter.spiffe_id.as_ref().map(ToString::to_string))
        .bind(filter.agent_id.as_ref().map(ToString::to_string))
        .bind(limit);
        let rows = self.database.fetch_all(some).await?;
        rows.iter().map(issued).collect()
    }

    /// The record of this serial number.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn issued_with(&self, serial: SerialNumber) -> Result<Option<IssuedRow>, StoreError> {
        let one = Statement::new(
            "SELECT serial, spiffe_id, agent_id, issuer, not_before, not_after,
                    issued_at, leaf_sha256
             FROM issued WHERE serial = $1",
        );
        let row = self.database.fetch_optional(one.bind(serial)).await?;
        row.as_ref().map(issued).transpose()
    }

    /// Whether this very certificate was issued here to this identity.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn is_recorded(
        &self,
        id: &SpiffeId,
        serial: SerialNumber,
        leaf_sha256: Sha256,
    ) -> Result<bool, StoreError> {
        let known = Statement::new(
            "SELECT serial FROM issued WHERE serial = $1 AND spiffe_id = $2 AND leaf_sha256 = $3",
        );
        let known = known.bind(serial).bind(id).bind(leaf_sha256);
        Ok(self.database.fetch_optional(known).await?.is_some())
    }

    /// The serial of the SVID that `agent` was last given for itself.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn latest_serial(
        &self,
        agent: &SpiffeId,
    ) -> Result<Option<SerialNumber>, StoreError> {
        let latest = Statement::new(
            "SELECT serial FROM issued WHERE spiffe_id = $1 AND agent_id = $1
             ORDER BY sequence DESC LIMIT 1",
        );
        let row = self.database.fetch_optional(latest.bind(agent)).await?;
        row.map(|row| row.parsed("serial")).transpose()
    }
}

/// For SQLite and for PostgreSQL.
type Texts = (&'static str, &'static str);

/// Fails where a serial is recorded already.
const INSERT: Texts = (
    "INSERT INTO issued (serial, spiffe_id, agent_id, issuer, not_before, not_after,
                         issued_at, leaf_sha256)
     SELECT value ->> 'serial', value ->> 'spiffe_id', value ->> 'agent_id',
            value ->> 'issuer', value ->> 'not_before', value ->> 'not_after',
            value ->> 'issued_at', unhex(value ->> 'leaf_sha256')
     FROM json_each($1) ORDER BY key",
    "INSERT INTO issued (serial, spiffe_id, agent_id, issuer, not_before, not_after,
                         issued_at, leaf_sha256)
     SELECT serial, spiffe_id, agent_id, issuer, not_before, not_after, issued_at,
            decode(leaf_sha256, 'hex')
     FROM json_to_recordset($1::json) AS batch (
         serial text, spiffe_id text, agent_id text, issuer text, not_before bigint,
         not_after bigint, issued_at bigint, leaf_sha256 text)",
);

/// Passes over a serial that is recorded already.
const INSERT_UNKNOWN: Texts = (
    "INSERT INTO issued (serial, spiffe_id, agent_id, issuer, not_before, not_after,
                         issued_at, leaf_sha256)
     SELECT value ->> 'serial', value ->> 'spiffe_id', value ->> 'agent_id',
            value ->> 'issuer', value ->> 'not_before', value ->> 'not_after',
            value ->> 'issued_at', unhex(value ->> 'leaf_sha256')
     FROM json_each($1) WHERE true ORDER BY key
     ON CONFLICT (serial) DO NOTHING",
    "INSERT INTO issued (serial, spiffe_id, agent_id, issuer, not_before, not_after,
                         issued_at, leaf_sha256)
     SELECT serial, spiffe_id, agent_id, issuer, not_before, not_after, issued_at,
            decode(leaf_sha256, 'hex')
     FROM json_to_recordset($1::json) AS batch (
         serial text, spiffe_id text, agent_id text, issuer text, not_before bigint,
         not_after bigint, issued_at bigint, leaf_sha256 text)
     ON CONFLICT (serial) DO NOTHING",
);

fn insert((sqlite, postgres): Texts, rows: &[IssuedRow]) -> Statement {
    let batch: Vec<_> = rows.iter().map(row_as_json).collect();
    let batch = serde_json::Value::from(batch).to_string();
    Statement::by_engine(sqlite, postgres).bind(batch)
}

fn row_as_json(row: &IssuedRow) -> serde_json::Value {
    json!({
        "serial": row.serial.to_string(),
        "spiffe_id": row.spiffe_id.as_str(),
        "agent_id": row.agent_id.as_str(),
        "issuer": row.issuer,
        "not_before": millis(row.not_before),
        "not_after": millis(row.not_after),
        "issued_at": millis(row.issued_at),
        "leaf_sha256": row.leaf_sha256.to_string(),
    })
}

pub(super) fn issued(row: &Row) -> Result<IssuedRow, StoreError> {
    Ok(IssuedRow {
        serial: row.parsed("serial")?,
        spiffe_id: row.parsed("spiffe_id")?,
        agent_id: row.parsed("agent_id")?,
        issuer: row.plain("issuer")?,
        not_before: row.instant("not_before")?,
        not_after: row.instant("not_after")?,
        issued_at: row.instant("issued_at")?,
        leaf_sha256: row.digest("leaf_sha256")?,
    })
}
