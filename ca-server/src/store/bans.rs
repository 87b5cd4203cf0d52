//! Agents that were banned, and agents that have been over for long. How bans come and go is in
//! `revocations`.
//!
//! Invariant: while a ban stands, nothing renews the row of its agent, and whatever else is known of
//! the agent, the ban outweighs it.

use identity::SpiffeId;
use time::OffsetDateTime;

use super::database::{Row, Statement};
use super::{Store, StoreError};

/// Who was banned, why, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentBan {
    pub spiffe_id: SpiffeId,
    pub reason: String,
    pub author: String,
    pub banned_at: OffsetDateTime,
}

/// The certificates that go on although their agent was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveSvids {
    pub count: u64,
    /// When the last of them ends.
    pub until: Option<OffsetDateTime>,
}

impl Store {
    /// # Errors
    /// The store is unavailable.
    pub async fn is_banned(&self, id: &SpiffeId) -> Result<bool, StoreError> {
        let one = Statement::new("SELECT spiffe_id FROM agent_bans WHERE spiffe_id = $1");
        let row = self.database.fetch_optional(one.bind(id)).await?;
        Ok(row.is_some())
    }

    /// All bans, by agent.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn agent_bans(&self) -> Result<Vec<AgentBan>, StoreError> {
        let all = Statement::new(
            "SELECT spiffe_id, reason, author, banned_at
             FROM agent_bans ORDER BY spiffe_id",
        );
        let rows = self.database.fetch_all(all).await?;
        rows.iter().map(ban).collect()
    }

    /// Forgets the agents whose last SVID ended before `before`, with the tokens that they joined
    /// with. Bans stay. Answers who went.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn purge_agents(&self, before: OffsetDateTime) -> Result<Vec<SpiffeId>, StoreError> {
        let mut transaction = self.database.begin().await?;
        let agents = Statement::new("DELETE FROM agents WHERE not_after < $1 RETURNING spiffe_id");
        let gone = transaction.fetch_all(agents.bind(before)).await?;
        let gone: Vec<SpiffeId> = gone
            .iter()
            .map(|row| row.parsed("spiffe_id"))
            .collect::<Result<_, _>>()?;
        for id in &gone {
            let used = "DELETE FROM join_tokens WHERE agent_id = $1 AND redeemed_at IS NOT NULL";
            transaction.execute(Statement::new(used).bind(id)).await?;
        }
        transaction.commit().await?;
        Ok(gone)
    }
}

fn ban(row: &Row) -> Result<AgentBan, StoreError> {
    Ok(AgentBan {
        spiffe_id: row.parsed("spiffe_id")?,
        reason: row.plain("reason")?,
        author: row.plain("author")?,
        banned_at: row.instant("banned_at")?,
    })
}
