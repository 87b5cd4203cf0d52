//! Agents that were banned, and agents that have been over for long.
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
    /// Keeps the ban, in place of an earlier one of the same agent, and deletes the agent's join
    /// tokens. An agent that never attested may be banned too.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn ban_agent(&self, ban: AgentBan) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        let tokens = Statement::new("DELETE FROM join_tokens WHERE agent_id = $1");
        transaction.execute(tokens.bind(&ban.spiffe_id)).await?;
        let upsert = Statement::new(
            "INSERT INTO agent_bans (spiffe_id, reason, author, banned_at)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (spiffe_id) DO UPDATE SET
                 reason = excluded.reason,
                 author = excluded.author,
                 banned_at = excluded.banned_at",
        )
        .bind(&ban.spiffe_id)
        .bind(ban.reason)
        .bind(ban.author)
        .bind(ban.banned_at);
        transaction.execute(upsert).await?;
        transaction.commit().await
    }

    /// Answers whether there was such a ban.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn lift_ban(&self, id: &SpiffeId) -> Result<bool, StoreError> {
        let lift = Statement::new("DELETE FROM agent_bans WHERE spiffe_id = $1");
        Ok(self.database.execute(lift.bind(id)).await? == 1)
    }

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
        let all = Statement::new("SELECT * FROM agent_bans ORDER BY spiffe_id");
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

    /// What was issued through `agent` and has not ended at `now`.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn live_svids(
        &self,
        agent: &SpiffeId,
        now: OffsetDateTime,
    ) -> Result<LiveSvids, StoreError> {
        let live = Statement::new(
            "SELECT COUNT(*) AS live, MAX(not_after) AS until FROM issued
             WHERE not_after > $2 AND agent_id = $1",
        );
        let row = self.database.fetch_one(live.bind(agent).bind(now)).await?;
        Ok(LiveSvids {
            count: row.unsigned("live")?,
            until: row.instant_if_any("until")?,
        })
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
