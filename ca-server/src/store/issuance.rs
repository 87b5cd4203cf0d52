//! Issuance records: nothing is issued that is not recorded.

use crypto::digest::Sha256;
use identity::{SerialNumber, SpiffeId};
use time::OffsetDateTime;

use super::{Backend, Store, StoreError};

/// One X.509-SVID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedRow {
    pub serial: SerialNumber,
    pub spiffe_id: SpiffeId,
    /// Through which it was issued; equals `spiffe_id` for an agent's own.
    pub agent_id: SpiffeId,
    /// Key id of the authority that signed.
    pub issuer: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    pub issued_at: OffsetDateTime,
    /// SHA-256 of the leaf's DER.
    pub leaf_sha256: Sha256,
}

/// Which records are wanted; what is `None` does not narrow.
#[derive(Clone, Debug, Default)]
pub struct IssuedFilter {
    pub spiffe_id: Option<SpiffeId>,
    pub agent_id: Option<SpiffeId>,
}

impl Store {
    /// Records all of `rows` or none, in one statement; durable on return.
    ///
    /// # Errors
    /// The store is unavailable, or has one of the serials already.
    pub async fn record_issued(&self, rows: &[IssuedRow]) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.record_issued(rows).await,
        }
    }

    /// At most `limit` records, the newest first.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn issued(
        &self,
        filter: &IssuedFilter,
        limit: u32,
    ) -> Result<Vec<IssuedRow>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.issued(filter, limit).await,
        }
    }

    /// Whether this very certificate was issued here to this identity.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn is_recorded(
        &self,
        id: &SpiffeId,
        serial: SerialNumber,
        leaf_sha256: Sha256,
    ) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.is_recorded(id, serial, leaf_sha256).await,
        }
    }

    /// The serial of the SVID that `agent` was last given for itself.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn latest_serial(
        &self,
        agent: &SpiffeId,
    ) -> Result<Option<SerialNumber>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.latest_serial(agent).await,
        }
    }
}
