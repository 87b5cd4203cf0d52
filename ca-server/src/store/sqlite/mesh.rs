//! What mesh the store is of: written once, by whoever made it.

use crypto::digest::HashKey;
use crypto::random::{Random, SystemRandom};
use time::OffsetDateTime;

use super::Sqlite;
use super::columns::{bytes, millis, parsed, plain};
use crate::store::{Mesh, OpenError, StoreConfig, StoreError};

impl Sqlite {
    pub(super) async fn mesh_or_insert(
        &self,
        config: &StoreConfig,
        now: OffsetDateTime,
    ) -> Result<Mesh, StoreError> {
        let mut random = SystemRandom;
        let epoch = u32::from_be_bytes(random.bytes()).max(1);
        let decision_key: [u8; 32] = random.bytes();
        sqlx::query(
            "INSERT INTO mesh (only, trust_domain, id_template, epoch, decision_key, created_at)
             VALUES (1, $1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(config.trust_domain.to_string())
        .bind(config.id_template.to_string())
        .bind(i64::from(epoch))
        .bind(decision_key.to_vec())
        .bind(millis(now))
        .execute(&self.writer)
        .await?;
        let row = sqlx::query("SELECT trust_domain, id_template, epoch, decision_key FROM mesh")
            .fetch_one(&self.writer)
            .await?;
        let decision_key: [u8; 32] = bytes(&row, "decision_key")?;
        Ok(Mesh {
            trust_domain: parsed(&row, "trust_domain")?,
            id_template: parsed(&row, "id_template")?,
            epoch: plain::<i64>(&row, "epoch")?.cast_unsigned(),
            decision_key: HashKey::from_bytes(&decision_key),
        })
    }
}

pub(super) fn require_same(mesh: &Mesh, config: &StoreConfig) -> Result<(), OpenError> {
    let path = config.sqlite.clone();
    if mesh.trust_domain != config.trust_domain {
        let (found, wanted) = (mesh.trust_domain.clone(), config.trust_domain.clone());
        return Err(OpenError::OtherTrustDomain {
            path,
            found,
            wanted,
        });
    }
    if mesh.id_template != config.id_template {
        let (found, wanted) = (mesh.id_template.clone(), config.id_template.clone());
        return Err(OpenError::OtherTemplate {
            path,
            found,
            wanted,
        });
    }
    Ok(())
}
