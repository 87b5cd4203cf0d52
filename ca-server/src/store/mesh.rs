//! What mesh the store is of: written once, by whoever made it.

use std::sync::atomic::AtomicU64;

use crypto::digest::HashKey;
use crypto::random::{Random, SystemRandom};
use identity::{IdTemplate, TrustDomain};
use time::OffsetDateTime;

use super::database::{Database, Statement};
use super::{OpenError, StoreConfig, StoreError, epoch};

/// Fixed when the store was made, but for the epoch.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) trust_domain: TrustDomain,
    pub(super) id_template: IdTemplate,
    /// As it was read last.
    pub(super) epoch: AtomicU64,
    pub(super) decision_key: HashKey,
}

impl Mesh {
    /// Of replicas that start at once on an empty store, the first insert is the one that all read.
    pub(super) async fn read_or_insert(
        database: &Database,
        config: &StoreConfig,
        now: OffsetDateTime,
    ) -> Result<Self, StoreError> {
        let mut random = SystemRandom;
        let decision_key: [u8; 32] = random.bytes();
        let insert = Statement::new(
            "INSERT INTO mesh (\"only\", trust_domain, id_template, epoch, decision_key, created_at)
             VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(config.trust_domain.to_string())
        .bind(config.id_template.to_string())
        .bind(epoch::random().cast_signed())
        .bind(decision_key.to_vec())
        .bind(now);
        database.execute(insert).await?;
        let row = database
            .fetch_one(Statement::new(
                "SELECT trust_domain, id_template, epoch, decision_key FROM mesh",
            ))
            .await?;
        let decision_key: [u8; 32] = row.bytes("decision_key")?;
        Ok(Self {
            trust_domain: row.parsed("trust_domain")?,
            id_template: row.parsed("id_template")?,
            epoch: AtomicU64::new(row.plain::<i64>("epoch")?.cast_unsigned()),
            decision_key: HashKey::from_bytes(&decision_key),
        })
    }

    pub(super) fn require_same(&self, config: &StoreConfig) -> Result<(), OpenError> {
        let store = config.place.to_string();
        if self.trust_domain != config.trust_domain {
            let (found, wanted) = (self.trust_domain.clone(), config.trust_domain.clone());
            return Err(OpenError::OtherTrustDomain {
                store,
                found,
                wanted,
            });
        }
        if self.id_template != config.id_template {
            let (found, wanted) = (self.id_template.clone(), config.id_template.clone());
            return Err(OpenError::OtherTemplate {
                store,
                found,
                wanted,
            });
        }
        Ok(())
    }
}
