//! How values come out of columns, with a type of their own or as damage.

use std::fmt::Display;
use std::str::FromStr;

use crypto::digest::Sha256;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Postgres, Row as _, Sqlite, Type};
use time::OffsetDateTime;

use crate::store::StoreError;

/// One row of either database.
pub(in crate::store) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// One column, as the database holds it: `i64`, `bool`, text, bytes, or one of these if any.
    pub(in crate::store) fn plain<'r, T>(&'r self, column: &'static str) -> Result<T, StoreError>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
        .map_err(|error| StoreError::corrupt(column, error))
    }

    pub(in crate::store) fn instant(
        &self,
        column: &'static str,
    ) -> Result<OffsetDateTime, StoreError> {
        from_millis(self.plain(column)?, column)
    }

    pub(in crate::store) fn instant_if_any(
        &self,
        column: &'static str,
    ) -> Result<Option<OffsetDateTime>, StoreError> {
        let millis: Option<i64> = self.plain(column)?;
        millis.map(|millis| from_millis(millis, column)).transpose()
    }

    pub(in crate::store) fn digest(&self, column: &'static str) -> Result<Sha256, StoreError> {
        Ok(Sha256::from_bytes(self.bytes(column)?))
    }

    pub(in crate::store) fn bytes<const N: usize>(
        &self,
        column: &'static str,
    ) -> Result<[u8; N], StoreError> {
        let bytes: &[u8] = self.plain(column)?;
        bytes
            .try_into()
            .map_err(|error| StoreError::corrupt(column, error))
    }

    /// A column whose text has a type of its own.
    pub(in crate::store) fn parsed<T>(&self, column: &'static str) -> Result<T, StoreError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text: &str = self.plain(column)?;
        text.parse()
            .map_err(|error| StoreError::corrupt(column, error))
    }

    pub(in crate::store) fn parsed_if_any<T>(
        &self,
        column: &'static str,
    ) -> Result<Option<T>, StoreError>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text: Option<&str> = self.plain(column)?;
        text.map(str::parse)
            .transpose()
            .map_err(|error| StoreError::corrupt(column, error))
    }

    /// Counts and numbers, which the schema keeps from being negative.
    pub(in crate::store) fn unsigned<T: TryFrom<i64>>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError>
    where
        T::Error: Display,
    {
        let number: i64 = self.plain(column)?;
        number
            .try_into()
            .map_err(|error| StoreError::corrupt(column, error))
    }
}

pub(in crate::store) fn millis(at: OffsetDateTime) -> i64 {
    let millis = at.unix_timestamp_nanos().div_euclid(1_000_000);
    i64::try_from(millis).expect("a time that OffsetDateTime can hold fits 64 bits of milliseconds")
}

fn from_millis(millis: i64, column: &'static str) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .map_err(|error| StoreError::corrupt(column, error))
}
