//! What is read of the log: tiles, entries, and where a certificate is in it.

use identity::SerialNumber;
use tlog::{Content, TilePath};

use super::column;
use crate::store::database::Statement;
use crate::store::{Store, StoreError};

const HASH: usize = 32;

impl Store {
    /// The bytes of a tile, if there is as much of it. Entries may be gone for good.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn log_tile(&self, tile: TilePath) -> Result<Option<Vec<u8>>, StoreError> {
        let Ok(number) = i64::try_from(tile.number()) else {
            return Ok(None);
        };
        match tile.content() {
            Content::Hashes { level } => self.log_hashes(level, number, tile.width()).await,
            Content::Entries => self.log_entries(number, tile.width()).await,
        }
    }

    async fn log_hashes(
        &self,
        level: u8,
        number: i64,
        width: u16,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let one = Statement::new("SELECT hashes FROM log_tiles WHERE level = $1 AND number = $2");
        let one = one.bind(i64::from(level)).bind(number);
        let Some(row) = self.database.fetch_optional(one).await? else {
            return Ok(None);
        };
        let mut hashes: Vec<u8> = row.plain("hashes")?;
        let wanted = usize::from(width) * HASH;
        if hashes.len() < wanted {
            return Ok(None);
        }
        hashes.truncate(wanted);
        Ok(Some(hashes))
    }

    async fn log_entries(&self, number: i64, width: u16) -> Result<Option<Vec<u8>>, StoreError> {
        let one = Statement::new("SELECT count, entries FROM log_bundles WHERE number = $1");
        let Some(row) = self.database.fetch_optional(one.bind(number)).await? else {
            return Ok(None);
        };
        let count: u16 = row.unsigned("count")?;
        if count < width {
            return Ok(None);
        }
        let mut entries: Vec<u8> = row.plain("entries")?;
        let wanted = tlog::bundle::prefix(&entries, width)
            .map_err(|error| StoreError::corrupt("bundle of the log", error))?
            .len();
        entries.truncate(wanted);
        Ok(Some(entries))
    }

    /// When the last certificate of a bundle ends, for the one who makes it longer.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn log_bundle_end(
        &self,
        number: u64,
    ) -> Result<Option<time::OffsetDateTime>, StoreError> {
        let one = Statement::new("SELECT last_end FROM log_bundles WHERE number = $1");
        let row = self.database.fetch_optional(one.bind(column(number)));
        row.await?.map(|row| row.instant("last_end")).transpose()
    }

    /// Which leaf the certificate with this serial number is; `None` while it is none, or its
    /// record is gone.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn leaf_of(&self, serial: SerialNumber) -> Result<Option<u64>, StoreError> {
        let of_record = Statement::new(
            "SELECT first_leaf + sequence - first_sequence AS leaf
             FROM issued JOIN log_runs ON first_sequence =
                 (SELECT MAX(first_sequence) FROM log_runs WHERE first_sequence <= issued.sequence)
             WHERE serial = $1 AND last_sequence >= sequence
             UNION ALL
             SELECT leaf FROM log_authorities WHERE serial = $1 AND leaf IS NOT NULL",
        );
        let row = self.database.fetch_optional(of_record.bind(serial)).await?;
        row.map(|row| row.unsigned("leaf")).transpose()
    }
}
