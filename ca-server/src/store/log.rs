//! The transparency log as it is kept: what is to become a leaf, and the one step that makes leaves.
//!
//! Invariant: a step is one transaction that first moves the log's size from what it began at. Of
//! two that began at the same, one changes nothing; so no record becomes two leaves, and no two
//! trees of one size are signed.

mod pending;
mod served;

use identity::SerialNumber;
use serde_json::json;
use time::OffsetDateTime;
use tlog::GrownTile;

use super::database::{Statement, Transaction};
use super::{Store, StoreError};

pub use pending::{PendingAuthority, PendingLeaves, PendingRecord, Settling};

/// Where the log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    pub size: u64,
    /// Every record up to this sequence is a leaf.
    pub settled: u64,
    /// A signed note; absent before the first step.
    pub checkpoint: Option<String>,
}

/// The next leaves, and all that changes by them.
#[derive(Clone, Debug)]
pub struct LogStep {
    /// The size that the step begins at.
    pub from: u64,
    pub to: u64,
    pub settled: u64,
    pub checkpoint: String,
    /// Whole: what each held before is its beginning.
    pub tiles: Vec<GrownTile>,
    /// Whole, as the tiles.
    pub bundles: Vec<LogBundle>,
    pub runs: Vec<LogRun>,
    pub authorities: Vec<LoggedAuthority>,
}

/// A [`PendingAuthority`] that became a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedAuthority {
    pub id: i64,
    pub leaf: u64,
    /// If it has one that can be read.
    pub serial: Option<SerialNumber>,
}

/// The entries of 256 leaves, or of the last fewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBundle {
    pub number: u64,
    pub count: u16,
    pub entries: Vec<u8>,
    /// When the last of their certificates ends.
    pub last_end: OffsetDateTime,
}

/// Neighbouring records that became neighbouring leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRun {
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub first_leaf: u64,
}

/// A certificate that may sign others, to be logged.
#[derive(Clone, Copy, Debug)]
pub struct AuthorityCertificate<'a> {
    pub der: &'a [u8],
    /// Key id of the root that it leads to.
    pub issuer: &'a str,
    pub recorded_at: OffsetDateTime,
}

#[derive(Debug, thiserror::Error)]
pub enum LogStepError {
    /// Somebody else made a step first; this one has changed nothing.
    #[error("the log has moved on")]
    Moved,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn log_state(&self) -> Result<LogState, StoreError> {
        let state = Statement::new("SELECT size, settled, checkpoint FROM log_state");
        let row = self.database.fetch_one(state).await?;
        Ok(LogState {
            size: row.unsigned("size")?,
            settled: row.unsigned("settled")?,
            checkpoint: row.plain("checkpoint")?,
        })
    }

    /// Makes a step: all of it, or nothing when the log has moved on.
    ///
    /// # Errors
    /// See [`LogStepError`].
    pub async fn step_log(&self, step: &LogStep) -> Result<(), LogStepError> {
        let mut transaction = self.database.begin().await?;
        // The update is the comparison, and makes whoever is second wait.
        let state = Statement::new(
            "UPDATE log_state
             SET size = $2, checkpoint = $4,
                 settled = CASE WHEN settled > $3 THEN settled ELSE $3 END
             WHERE size = $1",
        )
        .bind(column(step.from))
        .bind(column(step.to))
        .bind(column(step.settled))
        .bind(step.checkpoint.as_str());
        if transaction.execute(state).await? != 1 {
            return Err(LogStepError::Moved);
        }
        for tile in &step.tiles {
            transaction.execute(put_tile(tile)).await?;
        }
        for bundle in &step.bundles {
            transaction.execute(put_bundle(bundle)).await?;
        }
        insert_runs(&mut transaction, &step.runs).await?;
        for logged in &step.authorities {
            let authority = Statement::new(
                "UPDATE log_authorities SET leaf = $2, serial = $3 WHERE id = $1 AND leaf IS NULL",
            );
            let authority = authority
                .bind(logged.id)
                .bind(column(logged.leaf))
                .bind(logged.serial.map(|serial| serial.to_string()));
            if transaction.execute(authority).await? != 1 {
                return Err(LogStepError::Moved);
            }
        }
        Ok(transaction.commit().await?)
    }

    /// Notes that no record up to `settled` will become a leaf any more, unless leaves were added
    /// meanwhile.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn settle_log(&self, size: u64, settled: u64) -> Result<(), StoreError> {
        let settle =
            Statement::new("UPDATE log_state SET settled = $2 WHERE size = $1 AND settled < $2");
        let settle = settle.bind(column(size)).bind(column(settled));
        self.database.execute(settle).await.map(drop)
    }
}

pub(super) async fn insert_authority(
    transaction: &mut Transaction,
    certificate: AuthorityCertificate<'_>,
) -> Result<(), StoreError> {
    let insert = Statement::new(
        "INSERT INTO log_authorities (certificate, issuer, recorded_at) VALUES ($1, $2, $3)",
    )
    .bind(certificate.der.to_vec())
    .bind(certificate.issuer)
    .bind(certificate.recorded_at);
    transaction.execute(insert).await.map(drop)
}

/// Full bundles whose certificates have all ended before `before` go, and what is known of records
/// that are no more.
pub(super) async fn prune(
    transaction: &mut Transaction,
    before: OffsetDateTime,
) -> Result<(), StoreError> {
    let bundles = Statement::new("DELETE FROM log_bundles WHERE count = 256 AND last_end < $1");
    transaction.execute(bundles.bind(before)).await?;
    let runs = Statement::new(
        "DELETE FROM log_runs WHERE last_sequence < (SELECT MIN(sequence) FROM issued)",
    );
    transaction.execute(runs).await.map(drop)
}

fn put_tile(tile: &GrownTile) -> Statement {
    let hashes: Vec<u8> = tile
        .hashes
        .iter()
        .flat_map(|hash| *hash.as_bytes())
        .collect();
    Statement::new(
        "INSERT INTO log_tiles (level, number, hashes) VALUES ($1, $2, $3)
         ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes",
    )
    .bind(i64::from(tile.level))
    .bind(column(tile.number))
    .bind(hashes)
}

fn put_bundle(bundle: &LogBundle) -> Statement {
    Statement::new(
        "INSERT INTO log_bundles (number, count, entries, last_end) VALUES ($1, $2, $3, $4)
         ON CONFLICT (number) DO UPDATE
             SET count = excluded.count, entries = excluded.entries, last_end = excluded.last_end",
    )
    .bind(column(bundle.number))
    .bind(i64::from(bundle.count))
    .bind(bundle.entries.clone())
    .bind(bundle.last_end)
}

/// The first goes on with the last of the step before where it can, so that a log without gaps has
/// one run.
async fn insert_runs(transaction: &mut Transaction, runs: &[LogRun]) -> Result<(), StoreError> {
    let Some((first, mut rest)) = runs.split_first() else {
        return Ok(());
    };
    let longer = Statement::new(
        "UPDATE log_runs SET last_sequence = $2
         WHERE last_sequence = $1 - 1 AND first_leaf + last_sequence - first_sequence = $3 - 1",
    )
    .bind(column(first.first_sequence))
    .bind(column(first.last_sequence))
    .bind(column(first.first_leaf));
    if transaction.execute(longer).await? != 1 {
        rest = runs;
    }
    let rows = rest.iter().map(|run| {
        json!({
            "first_sequence": run.first_sequence,
            "last_sequence": run.last_sequence,
            "first_leaf": run.first_leaf,
        })
    });
    let insert = Statement::by_engine(
        "INSERT INTO log_runs (first_sequence, last_sequence, first_leaf)
         SELECT value ->> 'first_sequence', value ->> 'last_sequence', value ->> 'first_leaf'
         FROM json_each($1)",
        "INSERT INTO log_runs (first_sequence, last_sequence, first_leaf)
         SELECT first_sequence, last_sequence, first_leaf
         FROM json_to_recordset($1::json) AS runs (
             first_sequence bigint, last_sequence bigint, first_leaf bigint)",
    );
    let rows = serde_json::Value::from_iter(rows).to_string();
    transaction.execute(insert.bind(rows)).await.map(drop)
}

/// Sizes, sequences and leaves count rows.
fn column(number: u64) -> i64 {
    i64::try_from(number).expect("a log has fewer than 2^63 leaves")
}
