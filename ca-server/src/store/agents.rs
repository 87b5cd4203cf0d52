//! Agents that have attested, and what was said of them then. Which serial is newer follows from the order of issuance, since serial
//! numbers are random.

use identity::{SerialNumber, SpiffeId};
use policy::resource::AgentSelectors;
use time::OffsetDateTime;

use super::database::{Row, Statement};
use super::{Store, StoreError};

/// One agent, and the SVID it was last given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentRow {
    pub spiffe_id: SpiffeId,
    pub attested_at: OffsetDateTime,
    pub serial: SerialNumber,
    pub not_after: OffsetDateTime,
    /// What its attestor said of it when it attested last.
    pub selectors: AgentSelectors,
}

impl Store {
    /// Remembers an agent; replaces what was known of it, but for the serial it has shown.
    /// `false`: it is banned, and must not get its SVID.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn record_agent(&self, row: AgentRow) -> Result<bool, StoreError> {
        let upsert = Statement::new(
            "INSERT INTO agents
                 (spiffe_id, attested_at, serial, not_after, selectors, selectors_at)
             SELECT $1, $2, $3, $4, $5, $2
             WHERE NOT EXISTS (SELECT 1 FROM agent_bans WHERE spiffe_id = $1)
             ON CONFLICT (spiffe_id) DO UPDATE SET
                 attested_at = excluded.attested_at,
                 serial = excluded.serial,
                 not_after = excluded.not_after,
                 selectors = excluded.selectors,
                 selectors_at = excluded.selectors_at",
        )
        .bind(&row.spiffe_id)
        .bind(row.attested_at)
        .bind(row.serial)
        .bind(row.not_after)
        .bind((!row.selectors.is_empty()).then(|| row.selectors.to_text()));
        Ok(self.database.execute(upsert).await? == 1)
    }

    /// Remembers the SVID that a renewal gave. `false`: the agent was forgotten or
    /// banned meanwhile, and must not get it.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn renew_agent(
        &self,
        id: &SpiffeId,
        serial: SerialNumber,
        not_after: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let renew = Statement::new(
            "UPDATE agents SET serial = $2, not_after = $3
             WHERE spiffe_id = $1
               AND NOT EXISTS (SELECT 1 FROM agent_bans WHERE spiffe_id = $1)",
        )
        .bind(id)
        .bind(serial)
        .bind(not_after);
        Ok(self.database.execute(renew).await? == 1)
    }

    /// All agents, by name.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn agents(&self) -> Result<Vec<AgentRow>, StoreError> {
        let all = Statement::new(
            "SELECT spiffe_id, attested_at, serial, not_after, selectors, selectors_at
             FROM agents ORDER BY spiffe_id",
        );
        let rows = self.database.fetch_all(all).await?;
        rows.iter().map(agent).collect()
    }

    /// `None`: it never attested, or was forgotten.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn agent(&self, id: &SpiffeId) -> Result<Option<AgentRow>, StoreError> {
        let one = Statement::new(
            "SELECT spiffe_id, attested_at, serial, not_after, selectors, selectors_at
             FROM agents WHERE spiffe_id = $1",
        );
        let row = self.database.fetch_optional(one.bind(id)).await?;
        row.as_ref().map(agent).transpose()
    }

    /// Stops an agent's renewals, and deletes its join tokens: the one that it joined with is still
    /// good for a repeated reply. Answers whether there was such an agent.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn forget_agent(&self, id: &SpiffeId) -> Result<bool, StoreError> {
        let mut transaction = self.database.begin().await?;
        let agent = Statement::new("DELETE FROM agents WHERE spiffe_id = $1");
        if transaction.execute(agent.bind(id)).await? == 0 {
            return Ok(false);
        }
        let tokens = Statement::new("DELETE FROM join_tokens WHERE agent_id = $1");
        transaction.execute(tokens.bind(id)).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Notes the serial that an agent has shown in a handshake; never goes back to one issued
    /// earlier.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn note_seen_serial(
        &self,
        agent: &SpiffeId,
        serial: SerialNumber,
    ) -> Result<(), StoreError> {
        let note = Statement::new(
            "UPDATE agents SET seen_serial = $2
             WHERE spiffe_id = $1
               AND seen_serial IS DISTINCT FROM $2
               AND EXISTS (SELECT 1 FROM issued WHERE serial = $2 AND spiffe_id = $1)
               AND COALESCE((SELECT sequence FROM issued WHERE serial = seen_serial), -1)
                   < (SELECT sequence FROM issued WHERE serial = $2)",
        );
        let note = note.bind(agent).bind(serial);
        self.database.execute(note).await.map(drop)
    }

    /// Whether `agent` has shown a serial that was issued after `than`: then `than` is in the
    /// wrong hands, or a copy.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn newer_serial_seen(
        &self,
        agent: &SpiffeId,
        than: SerialNumber,
    ) -> Result<bool, StoreError> {
        let newer = Statement::new(
            "SELECT 1 AS newer FROM agents JOIN issued ON issued.serial = agents.seen_serial
             WHERE agents.spiffe_id = $1
               AND issued.sequence
                   > COALESCE((SELECT sequence FROM issued WHERE serial = $2), -1)",
        );
        let newer = newer.bind(agent).bind(than);
        Ok(self.database.fetch_optional(newer).await?.is_some())
    }
}

fn agent(row: &Row) -> Result<AgentRow, StoreError> {
    let attested_at = row.instant("attested_at")?;
    let selectors: Option<AgentSelectors> = row.parsed_if_any("selectors")?;
    let said_then = row.instant_if_any("selectors_at")? == Some(attested_at);
    Ok(AgentRow {
        selectors: selectors.filter(|_| said_then).unwrap_or_default(),
        spiffe_id: row.parsed("spiffe_id")?,
        attested_at,
        serial: row.parsed("serial")?,
        not_after: row.instant("not_after")?,
    })
}
