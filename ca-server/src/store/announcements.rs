//! What agents announce, passed on between the replicas of a mesh. It is not configuration: no
//! revision is made, and it may be lost with the database, since whoever wrote it writes it again.
//!
//! Invariant: a replica writes its own rows only, one batch after the other, each under a higher
//! stamp; who has read up to a stamp of a replica misses nothing by reading what is above it.

use std::collections::BTreeMap;

use identity::SpiffeId;
use serde_json::json;
use time::OffsetDateTime;

use super::database::{Row, Statement};
use super::notices::{ANNOUNCED, TOLD};
use super::{Store, StoreError, write};

/// What one agent says through one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedRow {
    pub replica: String,
    pub agent: SpiffeId,
    pub stamp: u64,
    /// Whether its stream is open.
    pub connected: bool,
    /// JSON. `None`: it has said nothing, or that is over.
    pub list: Option<String>,
}

/// What a replica writes of one of its agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedChange {
    pub agent: SpiffeId,
    pub connected: bool,
    pub list: Option<String>,
}

impl AnnouncedChange {
    /// Nothing is left to be told of the agent.
    fn is_over(&self) -> bool {
        !self.connected && self.list.is_none()
    }
}

impl Store {
    /// The replica lives from now on, and hears what others announce: tells them so.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn arrive(&self, replica: &str, at: OffsetDateTime) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        let row = Statement::new(
            "INSERT INTO replicas (name, seen_at, enforced) VALUES ($1, $2, 0)
             ON CONFLICT (name) DO NOTHING",
        );
        transaction.execute(row.bind(replica).bind(at)).await?;
        let tell = notify(ANNOUNCED, format!("{replica} 0"));
        transaction.fetch_optional(tell).await?;
        transaction.commit().await
    }

    /// Everything, of every replica.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn announced(&self) -> Result<Vec<AnnouncedRow>, StoreError> {
        let mut transaction = self.database.snapshot().await?;
        let all = "SELECT replica, agent_id, stamp, connected, list FROM announcements";
        let rows = transaction.fetch_all(Statement::new(all)).await?;
        rows.iter().map(announced).collect()
    }

    /// What each of these replicas has written above the stamp that is known of it.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn announced_since(
        &self,
        known: &BTreeMap<String, u64>,
    ) -> Result<Vec<AnnouncedRow>, StoreError> {
        let since = Statement::new(
            "SELECT replica, agent_id, stamp, connected, list
             FROM json_each_text($1::json) AS known
             JOIN announcements ON replica = known.key AND stamp > known.value::bigint
             ORDER BY stamp",
        );
        let since = since.bind(json!(known).to_string());
        let rows = self.database.fetch_all(since).await?;
        rows.iter().map(announced).collect()
    }

    /// Replaces what `replica` says of these agents, tells the others, and answers with the stamp.
    /// What a crash of the server loses of it, its replica writes again.
    ///
    /// # Errors
    /// The store is unavailable; nobody knows whether it was written.
    pub async fn announce(
        &self,
        replica: &str,
        changes: &[AnnouncedChange],
        at: OffsetDateTime,
    ) -> Result<u64, StoreError> {
        let rows: Vec<_> = changes
            .iter()
            .map(|it| json!({"agent": it.agent.as_str(), "connected": i64::from(it.connected), "list": it.list}))
            .collect();
        let mut transaction = self.database.begin().await?;
        transaction.fetch_optional(unhurried()).await?;
        let put = Statement::new(
            "WITH next AS (SELECT nextval('announcement_stamps') AS stamp),
             written AS (
                 INSERT INTO announcements (replica, agent_id, stamp, connected, list, written_at)
                 SELECT $1, agent, (SELECT stamp FROM next), connected, list, $3
                 FROM json_to_recordset($2::json) AS row (agent TEXT, connected BIGINT, list TEXT)
                 ON CONFLICT (replica, agent_id) DO UPDATE
                     SET stamp = excluded.stamp, connected = excluded.connected,
                         list = excluded.list, written_at = excluded.written_at)
             SELECT stamp FROM next",
        );
        let put = put.bind(replica).bind(json!(rows).to_string()).bind(at);
        let stamp: u64 = transaction.fetch_one(put).await?.unsigned("stamp")?;
        if changes.iter().any(AnnouncedChange::is_over) {
            transaction.execute(forget_ended(replica, at)).await?;
        }
        let tell = notify(ANNOUNCED, format!("{replica} {stamp}"));
        transaction.fetch_optional(tell).await?;
        transaction.commit().await?;
        Ok(stamp)
    }

    /// Lets `of` know that the callers at `by` are told of what it has written up to `stamp`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn tell_told(&self, by: &str, of: &str, stamp: u64) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        let tell = notify(TOLD, format!("{by} {of} {stamp}"));
        transaction.fetch_optional(tell).await?;
        transaction.commit().await
    }

    /// When each replica last said that it lives.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn replicas_seen(&self) -> Result<BTreeMap<String, OffsetDateTime>, StoreError> {
        let all = Statement::new("SELECT name, seen_at FROM replicas");
        let rows = self.database.fetch_all(all).await?;
        rows.iter()
            .map(|row| Ok((row.plain("name")?, row.instant("seen_at")?)))
            .collect()
    }

    /// Forgets what a replica wrote up to `stamp`, and the replica, unless it was heard of since.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn forget_replica(
        &self,
        replica: &str,
        seen: Option<OffsetDateTime>,
        stamp: u64,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        let row = Statement::new("DELETE FROM replicas WHERE name = $1 AND seen_at = $2");
        transaction.execute(row.bind(replica).bind(seen)).await?;
        let rows = Statement::new(
            "DELETE FROM announcements WHERE replica = $1 AND stamp <= $2
             AND NOT EXISTS (SELECT 1 FROM replicas WHERE name = $1)",
        );
        let rows = rows.bind(replica).bind(write::column(stamp));
        transaction.execute(rows).await?;
        transaction.commit().await
    }
}

/// Longer than anybody reads without having read everything anew.
const ENDED_ARE_KEPT: time::Duration = time::Duration::minutes(15);

fn forget_ended(replica: &str, now: OffsetDateTime) -> Statement {
    let ended = Statement::new(
        "DELETE FROM announcements
         WHERE replica = $1 AND connected = 0 AND list IS NULL AND written_at < $2",
    );
    ended.bind(replica).bind(now - ENDED_ARE_KEPT)
}

/// The commit need not wait for the disk.
fn unhurried() -> Statement {
    Statement::new("SELECT set_config('synchronous_commit', 'off', true)")
}

fn notify(channel: &str, payload: String) -> Statement {
    let notify = Statement::new("SELECT pg_notify($1, $2)");
    notify.bind(channel).bind(payload)
}

fn announced(row: &Row) -> Result<AnnouncedRow, StoreError> {
    Ok(AnnouncedRow {
        replica: row.plain("replica")?,
        agent: row.parsed("agent_id")?,
        stamp: row.unsigned("stamp")?,
        connected: row.plain::<i64>("connected")? != 0,
        list: row.plain("list")?,
    })
}
