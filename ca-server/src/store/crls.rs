//! Certificate revocation lists, as each authority signed its last one, and what they are to name.

use std::collections::BTreeSet;

use crypto::digest::Sha256;
use identity::SerialNumber;
use time::OffsetDateTime;

use super::database::{Row, Statement};
use super::replicas::HEARD_WITHIN;
use super::{Store, StoreError, write};

/// The last list of one authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlRow {
    /// Key id of the authority that signed it.
    pub issuer: String,
    /// Grows with each list of the same authority.
    pub number: u64,
    /// The newest revision of a revocation that it knows.
    pub covers: u64,
    pub next_update: OffsetDateTime,
    pub der: Vec<u8>,
}

/// A certificate that a list is to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedRow {
    pub serial: SerialNumber,
    pub at: OffsetDateTime,
    /// That of the revocation; 0 where none is known.
    pub revision: u64,
}

impl Store {
    /// Keeps a list, in place of an earlier one of the same authority.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn put_crl(&self, row: &CrlRow) -> Result<(), StoreError> {
        let put = Statement::new(
            "INSERT INTO crls (issuer, number, covers, next_update, der)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (issuer) DO UPDATE SET
                 number = excluded.number, covers = excluded.covers,
                 next_update = excluded.next_update, der = excluded.der
                 WHERE crls.number < excluded.number",
        )
        .bind(row.issuer.as_str())
        .bind(write::column(row.number))
        .bind(write::column(row.covers))
        .bind(row.next_update)
        .bind(row.der.clone());
        self.database.execute(put).await.map(drop)
    }

    /// The lists that have not ended, by authority.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn crls(&self, now: OffsetDateTime) -> Result<Vec<CrlRow>, StoreError> {
        let live = Statement::new(
            "SELECT issuer, number, covers, next_update, der
             FROM crls WHERE next_update > $1 ORDER BY issuer",
        );
        let rows = self.database.fetch_all(live.bind(now)).await?;
        rows.iter().map(crl).collect()
    }

    /// Lets go of lists that ended before `now`.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn prune_crls(&self, now: OffsetDateTime) -> Result<u64, StoreError> {
        let prune = Statement::new("DELETE FROM crls WHERE next_update <= $1");
        self.database.execute(prune.bind(now)).await
    }

    /// The newest revision that any revocation has; 0 without one.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn newest_revocation(&self) -> Result<u64, StoreError> {
        let newest = Statement::new(
            "SELECT COALESCE(MAX(revision), 0) AS revision FROM (
                 SELECT revision FROM revocations UNION ALL SELECT revision FROM agent_bans
             ) AS every",
        );
        self.database.fetch_one(newest).await?.unsigned("revision")
    }

    /// What an intermediate has signed, is revoked, and has not ended.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn revoked_leaves_of(
        &self,
        issuer: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<RevokedRow>, StoreError> {
        let revoked = Statement::new(
            "SELECT serial, MIN(revoked_at) AS revoked_at, MIN(revision) AS revision FROM (
                 SELECT issued.serial AS serial, revocations.created_at AS revoked_at,
                        revocations.revision AS revision
                 FROM issued JOIN revocations
                     ON revocations.kind = 'serial' AND revocations.subject = issued.serial
                 WHERE issued.issuer = $1 AND issued.not_after > $2
                     AND (revocations.expires_at IS NULL OR revocations.expires_at > $2)
                 UNION ALL
                 SELECT issued.serial, revocations.created_at, revocations.revision
                 FROM issued JOIN revocations
                     ON revocations.kind = 'identity' AND revocations.subject = issued.spiffe_id
                 WHERE issued.issuer = $1 AND issued.not_after > $2
                     AND (revocations.expires_at IS NULL OR revocations.expires_at > $2)
                 UNION ALL
                 SELECT issued.serial, agent_bans.banned_at, agent_bans.revision
                 FROM issued JOIN agent_bans ON agent_bans.spiffe_id = issued.agent_id
                 WHERE issued.issuer = $1 AND issued.not_after > $2
             ) AS revoked GROUP BY serial ORDER BY serial",
        );
        let rows = self
            .database
            .fetch_all(revoked.bind(issuer).bind(now))
            .await?;
        rows.iter().map(revoked_row).collect()
    }

    /// Key ids of what signed the live intermediates under this root: it, or authorities below it.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn issuers_of_intermediates(
        &self,
        generation: u32,
        now: OffsetDateTime,
    ) -> Result<Vec<String>, StoreError> {
        let issuers = Statement::new(
            "SELECT DISTINCT issuer FROM intermediates
             WHERE generation = $1 AND not_after > $2 ORDER BY issuer",
        );
        let issuers = issuers.bind(generation).bind(now);
        let rows = self.database.fetch_all(issuers).await?;
        rows.iter().map(|row| row.plain("issuer")).collect()
    }

    /// Which live intermediates of a root are revoked or superseded, and which authorities of
    /// instances below are revoked. One that an older build made has no serial to be named by.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn revoked_intermediates_of(
        &self,
        generation: u32,
        now: OffsetDateTime,
    ) -> Result<Vec<RevokedRow>, StoreError> {
        let revoked = Statement::new(
            "SELECT serial, MIN(revoked_at) AS revoked_at, MIN(revision) AS revision FROM (
                 SELECT intermediates.serial AS serial, revocations.created_at AS revoked_at,
                        revocations.revision AS revision
                 FROM intermediates JOIN revocations
                     ON revocations.kind = 'authority'
                     AND revocations.subject = intermediates.key_id
                 WHERE intermediates.generation = $1 AND intermediates.not_after > $2
                     AND (revocations.expires_at IS NULL OR revocations.expires_at > $2)
                 UNION ALL
                 SELECT downstream_authorities.serial, revocations.created_at, revocations.revision
                 FROM downstream_authorities JOIN revocations
                     ON revocations.kind = 'authority'
                     AND revocations.subject = downstream_authorities.key_id
                 WHERE downstream_authorities.generation = $1
                     AND downstream_authorities.not_after > $2
                     AND (revocations.expires_at IS NULL OR revocations.expires_at > $2)
                 UNION ALL
                 SELECT serial, superseded_at, 0 FROM intermediates
                 WHERE generation = $1 AND not_after > $2 AND superseded_at > 0
             ) AS revoked WHERE serial IS NOT NULL GROUP BY serial ORDER BY serial",
        );
        let rows = self
            .database
            .fetch_all(revoked.bind(generation).bind(now))
            .await?;
        rows.iter().map(revoked_row).collect()
    }

    /// Notes that nobody can list what is revoked of this intermediate.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn supersede_intermediate(
        &self,
        key_id: &str,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let supersede = Statement::new(
            "UPDATE intermediates SET superseded_at = $2 WHERE key_id = $1 AND superseded_at = 0",
        );
        let supersede = supersede.bind(key_id).bind(at);
        self.database.execute(supersede).await.map(drop)
    }

    /// The keys of live intermediates whose leaves are to be replaced.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn superseded_intermediates(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<Sha256>, StoreError> {
        let superseded = Statement::new(
            "SELECT key_id FROM intermediates WHERE superseded_at > 0 AND not_after > $1
             ORDER BY key_id",
        );
        let rows = self.database.fetch_all(superseded.bind(now)).await?;
        rows.iter().map(|row| row.parsed("key_id")).collect()
    }

    /// The replicas that were heard of a moment ago.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn live_replicas(&self, now: OffsetDateTime) -> Result<BTreeSet<String>, StoreError> {
        let live = Statement::new("SELECT name FROM replicas WHERE seen_at >= $1");
        let rows = self
            .database
            .fetch_all(live.bind(now - HEARD_WITHIN))
            .await?;
        rows.iter().map(|row| row.plain("name")).collect()
    }
}

fn crl(row: &Row) -> Result<CrlRow, StoreError> {
    Ok(CrlRow {
        issuer: row.plain("issuer")?,
        number: row.unsigned("number")?,
        covers: row.unsigned("covers")?,
        next_update: row.instant("next_update")?,
        der: row.plain("der")?,
    })
}

fn revoked_row(row: &Row) -> Result<RevokedRow, StoreError> {
    Ok(RevokedRow {
        serial: row.parsed("serial")?,
        at: row.instant("revoked_at")?,
        revision: row.unsigned("revision")?,
    })
}
