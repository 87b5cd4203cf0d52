//! How values stand in columns: times as milliseconds, digests as 32 bytes, the rest as text.

use std::fmt::Display;
use std::str::FromStr;

use crypto::digest::Sha256;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Type};
use time::OffsetDateTime;

use crate::store::StoreError;

pub(super) fn millis(at: OffsetDateTime) -> i64 {
    let millis = at.unix_timestamp_nanos().div_euclid(1_000_000);
    i64::try_from(millis).expect("a time that OffsetDateTime can hold fits 64 bits of milliseconds")
}

/// One column of `row`, as the database holds it.
pub(super) fn plain<'r, T>(row: &'r SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(column)
        .map_err(|error| StoreError::corrupt(column, error))
}

pub(super) fn instant(row: &SqliteRow, column: &'static str) -> Result<OffsetDateTime, StoreError> {
    from_millis(plain(row, column)?, column)
}

pub(super) fn instant_if_any(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<OffsetDateTime>, StoreError> {
    let millis: Option<i64> = plain(row, column)?;
    millis.map(|millis| from_millis(millis, column)).transpose()
}

pub(super) fn digest(row: &SqliteRow, column: &'static str) -> Result<Sha256, StoreError> {
    Ok(Sha256::from_bytes(bytes(row, column)?))
}

pub(super) fn bytes<const N: usize>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<[u8; N], StoreError> {
    let bytes: &[u8] = plain(row, column)?;
    bytes
        .try_into()
        .map_err(|error| StoreError::corrupt(column, error))
}

/// A column whose text has a type of its own.
pub(super) fn parsed<T>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    let text: &str = plain(row, column)?;
    text.parse()
        .map_err(|error| StoreError::corrupt(column, error))
}

pub(super) fn parsed_if_any<T>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError>
where
    T: FromStr,
    T::Err: Display,
{
    let text: Option<&str> = plain(row, column)?;
    text.map(str::parse)
        .transpose()
        .map_err(|error| StoreError::corrupt(column, error))
}

/// Counts and revision numbers, which the schema keeps from being negative.
pub(super) fn unsigned(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    let number: i64 = plain(row, column)?;
    number
        .try_into()
        .map_err(|error| StoreError::corrupt(column, error))
}

fn from_millis(millis: i64, column: &'static str) -> Result<OffsetDateTime, StoreError> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .map_err(|error| StoreError::corrupt(column, error))
}
