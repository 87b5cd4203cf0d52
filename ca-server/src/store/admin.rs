//! Admin credentials. The store holds digests of their secrets only.

use crypto::digest::Sha256;
use time::OffsetDateTime;

use super::database::{Row, Statement, Transaction, Turn};
use super::{Store, StoreError};

/// One credential as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminCredentialRow {
    pub id: String,
    pub secret_sha256: Sha256,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    pub revoked_at: Option<OffsetDateTime>,
}

/// Evidence that a bearer secret was that of a live credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminCredential {
    id: String,
}

impl AdminCredential {
    /// Compares with every credential in constant time; `None` when none matches, or the one that
    /// does has expired or was revoked.
    pub(crate) fn among(
        rows: &[AdminCredentialRow],
        secret_sha256: &Sha256,
        now: OffsetDateTime,
    ) -> Option<Self> {
        let mut found = None;
        for row in rows {
            let same = crypto::digest::constant_time_eq(
                row.secret_sha256.as_bytes(),
                secret_sha256.as_bytes(),
            );
            if same && row.revoked_at.is_none() && now < row.expires_at {
                let id = row.id.clone();
                found = Some(Self { id });
            }
        }
        found
    }

    /// Names the credential in revisions; no secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl Store {
    /// # Errors
    /// The store is unavailable, or has this id already.
    pub async fn put_admin_credential(&self, row: AdminCredentialRow) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        insert(&mut transaction, row).await?;
        transaction.commit().await
    }

    /// Keeps `row` unless any credential was ever made. Answers whether it was kept.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn put_first_admin_credential(
        &self,
        row: AdminCredentialRow,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.database.begin_alone(Turn::AdminCredentials).await?;
        let any = Statement::new("SELECT id FROM admin_credentials LIMIT 1");
        if transaction.fetch_optional(any).await?.is_some() {
            return Ok(false);
        }
        insert(&mut transaction, row).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The live credential with this secret.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn check_admin(
        &self,
        secret_sha256: &Sha256,
        now: OffsetDateTime,
    ) -> Result<Option<AdminCredential>, StoreError> {
        let all = self.admin_credentials().await?;
        Ok(AdminCredential::among(&all, secret_sha256, now))
    }

    /// All credentials, the oldest first.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn admin_credentials(&self) -> Result<Vec<AdminCredentialRow>, StoreError> {
        let all = Statement::new(
            "SELECT id, secret_sha256, created_at, expires_at, revoked_at
             FROM admin_credentials ORDER BY created_at, id",
        );
        let rows = self.database.fetch_all(all).await?;
        rows.iter().map(credential).collect()
    }

    /// Answers whether there was such a live credential.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn revoke_admin_credential(
        &self,
        id: &str,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let revoke = Statement::new(
            "UPDATE admin_credentials SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
        );
        Ok(self.database.execute(revoke.bind(id).bind(now)).await? == 1)
    }

    /// Revokes every credential and keeps `row`, in one transaction.
    ///
    /// # Errors
    /// The store is unavailable; all is as before then.
    pub async fn replace_admin_credentials(
        &self,
        row: AdminCredentialRow,
    ) -> Result<(), StoreError> {
        let mut transaction = self.database.begin_alone(Turn::AdminCredentials).await?;
        let revoke =
            Statement::new("UPDATE admin_credentials SET revoked_at = $1 WHERE revoked_at IS NULL");
        transaction.execute(revoke.bind(row.created_at)).await?;
        insert(&mut transaction, row).await?;
        transaction.commit().await
    }
}

async fn insert(transaction: &mut Transaction, row: AdminCredentialRow) -> Result<(), StoreError> {
    let insert = Statement::new(
        "INSERT INTO admin_credentials (id, secret_sha256, created_at, expires_at, revoked_at)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(row.id)
    .bind(row.secret_sha256)
    .bind(row.created_at)
    .bind(row.expires_at)
    .bind(row.revoked_at);
    transaction.execute(insert).await?;
    Ok(())
}

fn credential(row: &Row) -> Result<AdminCredentialRow, StoreError> {
    Ok(AdminCredentialRow {
        id: row.plain("id")?,
        secret_sha256: row.digest("secret_sha256")?,
        created_at: row.instant("created_at")?,
        expires_at: row.instant("expires_at")?,
        revoked_at: row.instant_if_any("revoked_at")?,
    })
}
