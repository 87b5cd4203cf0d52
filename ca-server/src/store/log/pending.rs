//! What is recorded and no leaf yet.
//!
//! On PostgreSQL a record may become visible after one with a higher sequence. So a record is
//! pending when no run covers it, and the log's `settled` moves past a sequence only when nobody
//! can bring a record below it any more: every transaction that was writing records when the
//! sequence was known has ended. Their locks on the table, taken before they draw a sequence, tell.
//!
//! A standby that was promoted, and a back-up, hand out again sequences that were known before: what
//! was known of one line of the database's history says nothing of another.

use std::collections::BTreeSet;

use time::OffsetDateTime;

use super::{LogState, column};
use crate::store::database::{Database, Row, Statement};
use crate::store::issuance::issued;
use crate::store::{IssuedRow, Store, StoreError};

/// Authorities in one step.
const AUTHORITIES: u32 = 256;

/// What the next step is made of.
#[derive(Clone, Debug)]
pub struct PendingLeaves {
    pub state: LogState,
    /// By sequence.
    pub records: Vec<PendingRecord>,
    pub authorities: Vec<PendingAuthority>,
    /// Once these are leaves, no record up to it will become one.
    pub settled: u64,
}

#[derive(Clone, Debug)]
pub struct PendingRecord {
    pub sequence: u64,
    pub row: IssuedRow,
}

#[derive(Clone, Debug)]
pub struct PendingAuthority {
    pub id: i64,
    /// DER.
    pub certificate: Vec<u8>,
    pub issuer: String,
    pub recorded_at: OffsetDateTime,
}

/// What one who asks for pending leaves again and again knows of transactions under way.
#[derive(Debug, Default)]
pub struct Settling {
    /// The highest sequence that any answer had.
    seen: u64,
    /// Settled when none of `writers` is left.
    watched: u64,
    writers: BTreeSet<String>,
    /// The line of history that all this is of.
    line: String,
}

/// Who is at work on a server.
#[derive(Debug, Default)]
struct Writers {
    /// Names the line of its history: another one goes on from an earlier state.
    line: String,
    transactions: BTreeSet<String>,
}

impl Store {
    /// What is recorded and no leaf yet, at most `limit` records.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn pending_leaves(
        &self,
        settling: &mut Settling,
        limit: u32,
    ) -> Result<PendingLeaves, StoreError> {
        let state = self.log_state().await?;
        // Before the records: who is not among them has committed, or draws higher sequences.
        let writers = self.writers_of_records().await?;
        let records = self.pending_records(state.settled, limit).await?;
        let last = records.last().map(|record| record.sequence);
        let full = records.len() as u64 >= u64::from(limit);
        let settled = settling.advance(writers, last, state.settled);
        let authorities = self.pending_authorities().await?;
        Ok(PendingLeaves {
            settled: match (full, last) {
                (true, Some(last)) => settled.min(last).max(state.settled),
                _ => settled,
            },
            state,
            records,
            authorities,
        })
    }

    async fn pending_records(
        &self,
        settled: u64,
        limit: u32,
    ) -> Result<Vec<PendingRecord>, StoreError> {
        let pending = Statement::new(
            "SELECT sequence, serial, spiffe_id, agent_id, issuer, not_before,
                    not_after, issued_at, leaf_sha256
             FROM issued
             WHERE sequence > $1
               AND COALESCE((SELECT first_sequence FROM log_runs
                             WHERE last_sequence >= issued.sequence
                             ORDER BY last_sequence LIMIT 1) > issued.sequence, TRUE)
             ORDER BY sequence LIMIT $2",
        );
        let pending = pending.bind(column(settled)).bind(limit);
        let rows = self.database.fetch_all(pending).await?;
        rows.iter()
            .map(|row| {
                Ok(PendingRecord {
                    sequence: row.unsigned("sequence")?,
                    row: issued(row)?,
                })
            })
            .collect()
    }

    async fn pending_authorities(&self) -> Result<Vec<PendingAuthority>, StoreError> {
        let pending = Statement::new(
            "SELECT id, certificate, issuer, recorded_at FROM log_authorities
             WHERE leaf IS NULL ORDER BY id LIMIT $1",
        );
        let rows = self.database.fetch_all(pending.bind(AUTHORITIES)).await?;
        rows.iter().map(authority).collect()
    }

    /// Transactions that may bring records with sequences drawn before now; `None` where a record
    /// is visible in the order of sequences.
    async fn writers_of_records(&self) -> Result<Option<Writers>, StoreError> {
        if matches!(&*self.database, Database::Sqlite(_)) {
            return Ok(None);
        }
        let writers = Statement::new(
            "SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
                              (SELECT oid FROM pg_database WHERE datname = current_database()),
                              left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)) AS line,
                    COALESCE(string_agg(DISTINCT virtualtransaction, ' '), '') AS writers
             FROM pg_locks
             WHERE locktype = 'relation' AND relation = 'issued'::regclass
               AND mode = 'RowExclusiveLock'
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        );
        let row = self.database.fetch_one(writers).await?;
        let transactions: String = row.plain("writers")?;
        let transactions = transactions.split_whitespace().map(str::to_owned);
        Ok(Some(Writers {
            line: row.plain("line")?,
            transactions: transactions.collect(),
        }))
    }
}

impl Settling {
    /// `writers` were at work before the records were read whose last is `last`.
    fn advance(&mut self, writers: Option<Writers>, last: Option<u64>, settled: u64) -> u64 {
        if let Some(writers) = &writers
            && writers.line != self.line
        {
            *self = Self {
                line: writers.line.clone(),
                ..Self::default()
            };
        }
        let seen_before = self.seen;
        self.seen = self.seen.max(last.unwrap_or(0));
        let Some(Writers {
            transactions: writers,
            ..
        }) = writers
        else {
            return settled.max(self.seen);
        };
        let mut reached = settled;
        self.writers.retain(|writer| writers.contains(writer));
        if self.writers.is_empty() {
            reached = reached.max(self.watched);
            self.watched = seen_before;
            self.writers = writers;
        }
        if self.writers.is_empty() {
            reached = reached.max(self.watched);
        }
        reached
    }
}

fn authority(row: &Row) -> Result<PendingAuthority, StoreError> {
    Ok(PendingAuthority {
        id: row.plain("id")?,
        certificate: row.plain("certificate")?,
        issuer: row.plain("issuer")?,
        recorded_at: row.instant("recorded_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writers(names: &[&str]) -> Option<Writers> {
        of_line("1", names)
    }

    fn of_line(line: &str, names: &[&str]) -> Option<Writers> {
        Some(Writers {
            line: line.to_owned(),
            transactions: names.iter().map(|name| (*name).to_owned()).collect(),
        })
    }

    #[test]
    fn what_was_known_before_a_failover_settles_nothing_after_it() {
        let mut settling = Settling::default();
        settling.advance(writers(&[]), Some(50), 0);
        settling.advance(writers(&[]), Some(60), 0);
        assert_eq!(settling.advance(of_line("2", &[]), None, 20), 20);
        assert_eq!(settling.advance(of_line("2", &[]), Some(30), 20), 20);
        assert_eq!(settling.advance(of_line("2", &[]), None, 20), 30);
    }

    #[test]
    fn a_sequence_is_not_settled_while_one_who_was_writing_still_is() {
        let mut settling = Settling::default();
        assert_eq!(settling.advance(writers(&["3/1"]), Some(10), 0), 0);
        assert_eq!(settling.advance(writers(&["3/1", "4/1"]), Some(20), 0), 0);
        assert_eq!(settling.advance(writers(&["3/1", "4/2"]), None, 0), 0);
    }

    #[test]
    fn a_sequence_seen_just_now_is_not_settled() {
        let mut settling = Settling::default();
        assert_eq!(settling.advance(writers(&[]), Some(10), 0), 0);
    }

    #[test]
    fn a_sequence_is_settled_when_nobody_writes() {
        let mut settling = Settling::default();
        settling.advance(writers(&["3/1"]), Some(10), 0);
        assert_eq!(settling.advance(writers(&[]), Some(12), 0), 10);
        assert_eq!(settling.advance(writers(&[]), None, 10), 12);
    }

    #[test]
    fn under_steady_writes_sequences_are_settled_as_writers_change() {
        let mut settling = Settling::default();
        settling.advance(writers(&["3/1"]), Some(10), 0);
        settling.advance(writers(&["3/2"]), Some(20), 0);
        assert_eq!(settling.advance(writers(&["3/3"]), Some(30), 0), 10);
        assert_eq!(settling.advance(writers(&["3/4"]), Some(40), 10), 20);
    }

    #[test]
    fn where_records_appear_in_order_each_is_settled_at_once() {
        let mut settling = Settling::default();
        assert_eq!(settling.advance(None, Some(10), 0), 10);
        assert_eq!(settling.advance(None, None, 10), 10);
    }
}
