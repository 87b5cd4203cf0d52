//! One SQL statement with its values, numbered `$1`, `$2`, … as both databases write them.

use crypto::digest::Sha256;
use identity::{SerialNumber, SpiffeId};
use sqlx::query::Query;
use sqlx::{Database, Encode, Postgres, Sqlite, Type};
use time::OffsetDateTime;

use super::row::millis;

#[derive(Debug)]
pub(in crate::store) struct Statement {
    sqlite: &'static str,
    postgres: &'static str,
    values: Vec<Value>,
}

/// As columns hold it: times as milliseconds, digests as 32 bytes, most else as text.
#[derive(Debug)]
pub(in crate::store) enum Value {
    Int(i32),
    BigInt(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Statement {
    /// What both databases understand.
    pub(in crate::store) fn new(sql: &'static str) -> Self {
        Self::by_engine(sql, sql)
    }

    /// For the few that have no words in common. Both take the same values.
    pub(in crate::store) fn by_engine(sqlite: &'static str, postgres: &'static str) -> Self {
        Self {
            sqlite,
            postgres,
            values: Vec::new(),
        }
    }

    /// The next value.
    pub(in crate::store) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    pub(super) fn for_sqlite(self) -> Query<'static, Sqlite, <Sqlite as Database>::Arguments> {
        bound(self.sqlite, self.values)
    }

    pub(super) fn for_postgres(
        self,
    ) -> Query<'static, Postgres, <Postgres as Database>::Arguments> {
        bound(self.postgres, self.values)
    }
}

fn bound<DB: Database>(
    sql: &'static str,
    values: Vec<Value>,
) -> Query<'static, DB, <DB as Database>::Arguments>
where
    i32: Encode<'static, DB> + Type<DB>,
    Option<i64>: Encode<'static, DB> + Type<DB>,
    Option<String>: Encode<'static, DB> + Type<DB>,
    Option<Vec<u8>>: Encode<'static, DB> + Type<DB>,
{
    let query = sqlx::query(sql);
    values.into_iter().fold(query, |query, value| match value {
        Value::Int(value) => query.bind(value),
        Value::BigInt(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bytes(value) => query.bind(value),
    })
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::BigInt(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        i64::from(value).into()
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        value.to_owned().into()
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<String>> for Value {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value))
    }
}

impl From<Sha256> for Value {
    fn from(value: Sha256) -> Self {
        value.as_bytes().to_vec().into()
    }
}

impl From<&SpiffeId> for Value {
    fn from(value: &SpiffeId) -> Self {
        value.as_str().into()
    }
}

impl From<SerialNumber> for Value {
    fn from(value: SerialNumber) -> Self {
        value.to_string().into()
    }
}

impl From<OffsetDateTime> for Value {
    fn from(value: OffsetDateTime) -> Self {
        millis(value).into()
    }
}

impl From<Option<OffsetDateTime>> for Value {
    fn from(value: Option<OffsetDateTime>) -> Self {
        Self::BigInt(value.map(millis))
    }
}
