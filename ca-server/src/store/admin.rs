//! Admin credentials. The store holds digests of their secrets only.

use crypto::digest::Sha256;
use time::OffsetDateTime;

use super::{Backend, Store, StoreError};

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
    pub(super) fn of(row: AdminCredentialRow) -> Self {
        Self { id: row.id }
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
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.put_admin_credential(row).await,
        }
    }

    /// Keeps `row` unless any credential was ever made. Answers whether it was kept.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn put_first_admin_credential(
        &self,
        row: AdminCredentialRow,
    ) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.put_first_admin_credential(row).await,
        }
    }

    /// Compares with every credential in constant time; `None` when none matches, or the one that
    /// does has expired or was revoked.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn check_admin(
        &self,
        secret_sha256: &Sha256,
        now: OffsetDateTime,
    ) -> Result<Option<AdminCredential>, StoreError> {
        let mut found = None;
        for row in self.admin_credentials().await? {
            let same = crypto::digest::constant_time_eq(
                row.secret_sha256.as_bytes(),
                secret_sha256.as_bytes(),
            );
            if same && row.revoked_at.is_none() && now < row.expires_at {
                found = Some(AdminCredential::of(row));
            }
        }
        Ok(found)
    }

    /// All credentials, the oldest first.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn admin_credentials(&self) -> Result<Vec<AdminCredentialRow>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.admin_credentials().await,
        }
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
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.revoke_admin_credential(id, now).await,
        }
    }

    /// Revokes every credential and keeps `row`, in one transaction.
    ///
    /// # Errors
    /// The store is unavailable; all is as before then.
    pub async fn replace_admin_credentials(
        &self,
        row: AdminCredentialRow,
    ) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.replace_admin_credentials(row).await,
        }
    }
}
