//! Sealed signing keys. The store sees ciphertext only.

use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

use super::database::{Row, Statement, Transaction, Turn};
use super::{AuthorityCertificate, Store, StoreError, log};

/// What a sealed key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPurpose {
    /// The trust domain's X.509 root.
    X509Root,
    /// The checkpoints of the transparency log. Its `certificate` is the public key as auditors
    /// pin it, text.
    Log,
    /// An authority of the mesh below somebody else's root. Its certificate is empty until that
    /// somebody has signed it; then it is the chain up to the root.
    MeshAuthority,
}

impl KeyPurpose {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X509Root => "x509-root",
            Self::Log => "log",
            Self::MeshAuthority => "mesh-authority",
        }
    }
}

impl fmt::Display for KeyPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("unknown key purpose `{0}`")]
pub struct UnknownKeyPurpose(String);

impl FromStr for KeyPurpose {
    type Err = UnknownKeyPurpose;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "x509-root" => Ok(Self::X509Root),
            "log" => Ok(Self::Log),
            "mesh-authority" => Ok(Self::MeshAuthority),
            other => Err(UnknownKeyPurpose(other.to_owned())),
        }
    }
}

/// One signing key, sealed by a data key that the key-encryption key wraps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedKeyRow {
    pub purpose: KeyPurpose,
    pub key_id: String,
    pub version: u32,
    pub wrapped_data_key: Vec<u8>,
    pub sealed: Vec<u8>,
    /// Tells whether a key-encryption key is the one that wrapped this row.
    pub kek_check: [u8; 16],
    /// DER.
    pub certificate: Vec<u8>,
    pub created_at: OffsetDateTime,
}

impl Store {
    /// All sealed keys, oldest first.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn sealed_keys(&self) -> Result<Vec<SealedKeyRow>, StoreError> {
        let all = Statement::new(
            "SELECT purpose, key_id, version, wrapped_data_key, sealed, kek_check,
                    certificate, created_at
             FROM sealed_keys ORDER BY created_at, purpose, version",
        );
        let rows = self.database.fetch_all(all).await?;
        rows.iter().map(sealed_key).collect()
    }

    /// The same without authorities above intermediates that are revoked: these sign nothing more.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn sealed_keys_in_force(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<SealedKeyRow>, StoreError> {
        let in_force = Statement::new(
            "SELECT purpose, key_id, version, wrapped_data_key, sealed, kek_check,
                    certificate, created_at
             FROM sealed_keys WHERE purpose <> $1 OR key_id NOT IN (
                 SELECT subject FROM revocations
                 WHERE kind = 'authority' AND (expires_at IS NULL OR expires_at > $2))
             ORDER BY created_at, purpose, version",
        )
        .bind(KeyPurpose::MeshAuthority.as_str())
        .bind(now);
        let rows = self.database.fetch_all(in_force).await?;
        rows.iter().map(sealed_key).collect()
    }

    /// Keeps `row` unless there is one with its purpose and version, and answers with the one kept:
    /// of replicas that race, the first wins and everybody reads the winner. Nothing is kept under
    /// another key-encryption key than what is there.
    ///
    /// # Errors
    /// The store is unavailable or damaged, or [`StoreError::OtherKek`].
    pub async fn insert_sealed_key_if_absent(
        &self,
        row: SealedKeyRow,
    ) -> Result<SealedKeyRow, StoreError> {
        let mut transaction = self.database.begin_alone(Turn::Configuration).await?;
        insert(&mut transaction, &row).await?;
        let kept = Statement::new(
            "SELECT purpose, key_id, version, wrapped_data_key, sealed, kek_check,
                    certificate, created_at
             FROM sealed_keys WHERE purpose = $1 AND version = $2",
        );
        let kept = kept.bind(row.purpose.as_str()).bind(row.version);
        let kept = transaction.fetch_optional(kept).await?;
        let kept = sealed_key(&kept.ok_or(StoreError::OtherKek)?)?;
        transaction.commit().await?;
        Ok(kept)
    }
}

impl Store {
    /// Gives a key that waits for it its certificate. `false`: no such key waits.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn install_certificate(
        &self,
        purpose: KeyPurpose,
        key_id: &str,
        certificate: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let install = Statement::new(
            "UPDATE sealed_keys SET certificate = $3
             WHERE purpose = $1 AND key_id = $2 AND length(certificate) = 0",
        )
        .bind(purpose.as_str())
        .bind(key_id)
        .bind(certificate);
        Ok(self.database.execute(install).await? == 1)
    }

    /// Forgets a key that nothing valid leads to.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_sealed_key(
        &self,
        purpose: KeyPurpose,
        version: u32,
    ) -> Result<(), StoreError> {
        let delete = Statement::new("DELETE FROM sealed_keys WHERE purpose = $1 AND version = $2");
        let delete = delete.bind(purpose.as_str()).bind(version);
        self.database.execute(delete).await.map(drop)
    }

    /// Forgets a key that waits for a certificate still.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn forget_waiting_key(
        &self,
        purpose: KeyPurpose,
        key_id: &str,
    ) -> Result<(), StoreError> {
        let forget = Statement::new(
            "DELETE FROM sealed_keys
             WHERE purpose = $1 AND key_id = $2 AND length(certificate) = 0",
        );
        let forget = forget.bind(purpose.as_str()).bind(key_id);
        self.database.execute(forget).await.map(drop)
    }

    /// Puts `rewrapped` in the place of the rows that the key-encryption key with the check value
    /// `from` wrapped: all that there are, or none. `false`: they are not these any more.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn rewrap_sealed_keys(
        &self,
        from: [u8; 16],
        rewrapped: &[SealedKeyRow],
    ) -> Result<bool, StoreError> {
        // Who keeps a new key takes the same turn, and so sees what became of the others.
        let mut transaction = self.database.begin_alone(Turn::Configuration).await?;
        let mut changed = 0;
        for row in rewrapped {
            let update = Statement::new(
                "UPDATE sealed_keys SET wrapped_data_key = $3, kek_check = $4
                 WHERE purpose = $1 AND version = $2 AND kek_check = $5",
            )
            .bind(row.purpose.as_str())
            .bind(row.version)
            .bind(row.wrapped_data_key.clone())
            .bind(row.kek_check.to_vec())
            .bind(from.to_vec());
            changed += transaction.execute(update).await?;
        }
        let left = Statement::new("SELECT purpose FROM sealed_keys WHERE kek_check = $1");
        let left = transaction.fetch_all(left.bind(from.to_vec())).await?;
        if usize::try_from(changed) != Ok(rewrapped.len()) || !left.is_empty() {
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }
}

/// Does nothing where there is one with its purpose and version; `false` where there is one under
/// another key-encryption key, which may have been changed since the row was made. The transaction
/// must have the configuration's turn.
pub(super) async fn insert(
    transaction: &mut Transaction,
    row: &SealedKeyRow,
) -> Result<bool, StoreError> {
    let other = Statement::new("SELECT purpose FROM sealed_keys WHERE kek_check <> $1");
    let other = other.bind(row.kek_check.to_vec());
    if !transaction.fetch_all(other).await?.is_empty() {
        return Ok(false);
    }
    let insert = Statement::new(
        "INSERT INTO sealed_keys (purpose, version, key_id, wrapped_data_key, sealed,
                                  kek_check, certificate, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    )
    .bind(row.purpose.as_str())
    .bind(row.version)
    .bind(row.key_id.as_str())
    .bind(row.wrapped_data_key.clone())
    .bind(row.sealed.clone())
    .bind(row.kek_check.to_vec())
    .bind(row.certificate.clone())
    .bind(row.created_at);
    let is_new = transaction.execute(insert).await? == 1;
    if is_new && row.purpose == KeyPurpose::X509Root {
        let certificate = AuthorityCertificate {
            der: &row.certificate,
            issuer: &row.key_id,
            recorded_at: row.created_at,
        };
        log::insert_authority(transaction, certificate).await?;
    }
    Ok(true)
}

fn sealed_key(row: &Row) -> Result<SealedKeyRow, StoreError> {
    Ok(SealedKeyRow {
        purpose: row.parsed("purpose")?,
        key_id: row.plain("key_id")?,
        version: row.unsigned("version")?,
        wrapped_data_key: row.plain("wrapped_data_key")?,
        sealed: row.plain("sealed")?,
        kek_check: row.bytes("kek_check")?,
        certificate: row.plain("certificate")?,
        created_at: row.instant("created_at")?,
    })
}
