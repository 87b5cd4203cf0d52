//! Instances of Countersign below this one: by which secret each is known, which bundle it follows,
//! and which authorities were signed for it.

use crypto::digest::{Sha256, constant_time_eq};
use identity::x509::{Denied, DenyList};
use identity::{SerialNumber, Validity};
use time::OffsetDateTime;

use super::database::{Row, Statement, Turn};
use super::{AuthorityCertificate, Store, StoreError, log, write};

/// One instance below this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownstreamRow {
    pub name: String,
    pub secret_sha256: Sha256,
    pub author: String,
    pub created_at: OffsetDateTime,
    /// Of the newest bundle that it follows with all its agents; 0 for none.
    pub bundle_sequence: u64,
    /// When it asked last for anything.
    pub seen_at: Option<OffsetDateTime>,
}

/// Evidence that a bearer secret was that of an instance below this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downstream {
    name: String,
}

/// An authority that was signed for an instance below this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownstreamAuthorityRow {
    pub key_id: String,
    pub downstream: String,
    /// Version of the sealed key of the root that it leads to.
    pub generation: u32,
    pub serial: SerialNumber,
    pub validity: Validity,
    /// DER, one after the other, the root last.
    pub chain: Vec<u8>,
}

impl DownstreamAuthorityRow {
    /// Whether it is on this list.
    pub(crate) fn is_refused_by(&self, list: &DenyList) -> bool {
        let key = self.key_id.parse();
        key.is_ok_and(|key| list.contains(&Denied::Authority(key)))
    }
}

impl Downstream {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Store {
    /// Keeps a new one. `false`: there is one of this name.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn put_downstream(&self, row: &DownstreamRow) -> Result<bool, StoreError> {
        let insert = Statement::new(
            "INSERT INTO downstreams (name, secret_sha256, author, created_at)
             VALUES ($1, $2, $3, $4) ON CONFLICT (name) DO NOTHING",
        )
        .bind(row.name.as_str())
        .bind(row.secret_sha256)
        .bind(row.author.as_str())
        .bind(row.created_at);
        Ok(self.database.execute(insert).await? == 1)
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn downstreams(&self) -> Result<Vec<DownstreamRow>, StoreError> {
        let all = Statement::new(
            "SELECT name, secret_sha256, author, created_at, bundle_sequence, seen_at
             FROM downstreams ORDER BY name",
        );
        let rows = self.database.fetch_all(all).await?;
        rows.iter().map(downstream).collect()
    }

    /// From now on its secret opens nothing, and nobody waits for it. `false`: there is none.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_downstream(&self, name: &str) -> Result<bool, StoreError> {
        let delete = Statement::new("DELETE FROM downstreams WHERE name = $1").bind(name);
        Ok(self.database.execute(delete).await? == 1)
    }

    /// Whose secret this is, compared with each in constant time; notes that it was heard of.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn recognize_downstream(
        &self,
        secret_sha256: &Sha256,
        now: OffsetDateTime,
    ) -> Result<Option<Downstream>, StoreError> {
        let mut found = None;
        for row in self.downstreams().await? {
            if constant_time_eq(row.secret_sha256.as_bytes(), secret_sha256.as_bytes()) {
                found = Some(Downstream { name: row.name });
            }
        }
        if let Some(Downstream { name }) = &found {
            let seen = Statement::new("UPDATE downstreams SET seen_at = $2 WHERE name = $1");
            let seen = seen.bind(name.as_str()).bind(now);
            self.database.execute(seen).await?;
        }
        Ok(found)
    }

    /// Notes which bundle it follows; never goes back.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn note_downstream_bundle(
        &self,
        downstream: &Downstream,
        sequence: u64,
    ) -> Result<(), StoreError> {
        let note = Statement::new(
            "UPDATE downstreams SET bundle_sequence = $2 WHERE name = $1 AND bundle_sequence < $2",
        );
        let note = note.bind(downstream.name()).bind(write::column(sequence));
        self.database.execute(note).await.map(drop)
    }

    /// Those with an authority that has not ended.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn live_downstreams(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<DownstreamRow>, StoreError> {
        let live = Statement::new(
            "SELECT name, secret_sha256, author, created_at, bundle_sequence, seen_at
             FROM downstreams
             WHERE name IN (SELECT downstream FROM downstream_authorities WHERE not_after > $1)
             ORDER BY name",
        );
        let rows = self.database.fetch_all(live.bind(now)).await?;
        rows.iter().map(downstream).collect()
    }

    /// Remembers an authority before its certificate is handed out. Of two for one key the first
    /// stays until it has ended; the one that stays is the answer.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn record_downstream_authority(
        &self,
        row: &DownstreamAuthorityRow,
        certificate: AuthorityCertificate<'_>,
    ) -> Result<DownstreamAuthorityRow, StoreError> {
        let mut transaction = self.database.begin_alone(Turn::Configuration).await?;
        let known = Statement::new(
            "SELECT key_id, downstream, generation, serial, not_before, not_after, chain
             FROM downstream_authorities WHERE key_id = $1",
        );
        let known = transaction.fetch_optional(known.bind(row.key_id.as_str()));
        if let Some(known) = known.await?.as_ref().map(authority).transpose()? {
            if known.validity.not_after() > certificate.recorded_at {
                return Ok(known);
            }
            let ended = Statement::new("DELETE FROM downstream_authorities WHERE key_id = $1");
            transaction.execute(ended.bind(row.key_id.as_str())).await?;
        }
        let insert = Statement::new(
            "INSERT INTO downstream_authorities
                 (key_id, downstream, generation, serial, not_before, not_after, chain)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(row.key_id.as_str())
        .bind(row.downstream.as_str())
        .bind(row.generation)
        .bind(row.serial.to_string())
        .bind(row.validity.not_before())
        .bind(row.validity.not_after())
        .bind(row.chain.clone());
        transaction.execute(insert).await?;
        log::insert_authority(&mut transaction, certificate).await?;
        transaction.commit().await?;
        Ok(row.clone())
    }

    /// Those that have not ended, by whose they are and beginning; also of instances that were
    /// deleted.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn downstream_authorities(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<DownstreamAuthorityRow>, StoreError> {
        let live = Statement::new(
            "SELECT key_id, downstream, generation, serial, not_before, not_after, chain
             FROM downstream_authorities WHERE not_after > $1
             ORDER BY downstream, not_before, key_id",
        );
        let rows = self.database.fetch_all(live.bind(now)).await?;
        rows.iter().map(authority).collect()
    }
}

fn downstream(row: &Row) -> Result<DownstreamRow, StoreError> {
    let seen_at = row.instant("seen_at")?;
    Ok(DownstreamRow {
        name: row.plain("name")?,
        secret_sha256: row.digest("secret_sha256")?,
        author: row.plain("author")?,
        created_at: row.instant("created_at")?,
        bundle_sequence: row.unsigned("bundle_sequence")?,
        seen_at: (seen_at > OffsetDateTime::UNIX_EPOCH).then_some(seen_at),
    })
}

fn authority(row: &Row) -> Result<DownstreamAuthorityRow, StoreError> {
    let life = Validity::try_new(row.instant("not_before")?, row.instant("not_after")?);
    Ok(DownstreamAuthorityRow {
        key_id: row.plain("key_id")?,
        downstream: row.plain("downstream")?,
        generation: row.unsigned("generation")?,
        serial: row.parsed("serial")?,
        validity: life.map_err(|error| StoreError::corrupt("validity", error))?,
        chain: row.plain("chain")?,
    })
}
