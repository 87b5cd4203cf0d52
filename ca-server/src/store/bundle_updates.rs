//! Bundle updates that were published. The highest number counts; none is ever taken back.

use time::OffsetDateTime;

use super::database::Statement;
use super::{Store, StoreError};

/// One update, and who published it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleUpdateRow {
    pub number: u64,
    /// As its signer wrote it.
    pub text: String,
    pub author: String,
    pub published_at: OffsetDateTime,
}

impl Store {
    /// The newest.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn bundle_update(&self) -> Result<Option<BundleUpdateRow>, StoreError> {
        let newest = Statement::new(
            "SELECT number, text, author, published_at
             FROM bundle_updates ORDER BY number DESC LIMIT 1",
        );
        let row = self.database.fetch_optional(newest).await?;
        row.map(|row| {
            Ok(BundleUpdateRow {
                number: row.unsigned("number")?,
                text: row.plain("text")?,
                author: row.plain("author")?,
                published_at: row.instant("published_at")?,
            })
        })
        .transpose()
    }

    /// Keeps it. `false`: there is one with this number, or a higher one.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn put_bundle_update(&self, update: &BundleUpdateRow) -> Result<bool, StoreError> {
        let Ok(number) = i64::try_from(update.number) else {
            return Ok(false);
        };
        let insert = Statement::new(
            "INSERT INTO bundle_updates (number, text, author, published_at)
             SELECT $1, $2, $3, $4
             WHERE NOT EXISTS (SELECT 1 FROM bundle_updates WHERE number >= $1)
             ON CONFLICT DO NOTHING",
        )
        .bind(number)
        .bind(update.text.as_str())
        .bind(update.author.as_str())
        .bind(update.published_at);
        Ok(self.database.execute(insert).await? == 1)
    }
}
