//! The two databases behind one set of methods: each method of the store is written once, over
//! [`Statement`]s that both understand, and nothing above this module knows which one it is.
//!
//! Invariant: what a write transaction has read may decide what it writes. SQLite has one writer;
//! on PostgreSQL, where two replicas write at once, a decision needs a condition in the statement
//! that writes, or a [`Turn`].

mod postgres;
mod row;
mod schema;
mod sqlite;
mod statement;

use std::future::Future;
use std::time::Duration;

pub(super) use postgres::PostgresDatabase;
pub(super) use row::{Row, millis};
pub(super) use sqlite::SqliteDatabase;
pub(super) use statement::Statement;

use crate::store::{OpenError, StoreError, StorePlace};

/// Nobody waits longer for a statement; PostgreSQL itself ends it a little earlier.
const STATEMENT: Duration = Duration::from_secs(10);
/// Of one that reads the whole configuration.
const LONG_STATEMENT: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) enum Database {
    Sqlite(SqliteDatabase),
    Postgres(PostgresDatabase),
}

/// Ends as it began unless it is committed.
#[derive(Debug)]
pub(super) enum Transaction {
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>, Duration),
}

/// What only one transaction of the mesh does at a time, because it decides by what it reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Turn {
    Configuration = 1,
    AdminCredentials = 2,
}

/// Runs `$call` on whichever database it is, and makes its error one of the store's.
macro_rules! on {
    ($self:expr, $sqlite:ident => $on_sqlite:expr, $postgres:ident => $on_postgres:expr) => {
        match $self {
            Self::Sqlite($sqlite) => Ok($on_sqlite.await?),
            Self::Postgres($postgres) => within(STATEMENT, $on_postgres).await,
        }
    };
}

impl Database {
    /// Opens the database, brings its schema up to date and answers with it. Nothing has changed in
    /// it when this fails.
    pub(super) async fn open(place: &StorePlace) -> Result<Self, OpenError> {
        match place {
            StorePlace::Sqlite(path) => SqliteDatabase::open(path).await.map(Self::Sqlite),
            StorePlace::Postgres(server) => {
                PostgresDatabase::open(server).await.map(Self::Postgres)
            }
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite(sqlite) => sqlite.close().await,
            Self::Postgres(postgres) => postgres.close().await,
        }
    }

    /// A transaction that writes.
    pub(super) async fn begin(&self) -> Result<Transaction, StoreError> {
        self.require_readable()?;
        match self {
            Self::Sqlite(sqlite) => Ok(Transaction::Sqlite(sqlite.begin().await?)),
            Self::Postgres(postgres) => within(STATEMENT, postgres.begin())
                .await
                .map(|transaction| Transaction::Postgres(transaction, STATEMENT)),
        }
    }

    /// What the schema asks of who reads it, as of now: a newer build may have migrated it.
    pub(super) fn note_min_reader(&self, min_reader: i64) {
        if let Self::Postgres(postgres) = self {
            postgres.note_min_reader(min_reader);
        }
    }

    fn require_readable(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(postgres) => postgres.require_readable(),
        }
    }

    /// A transaction that writes, alone of its kind in the mesh until it ends.
    pub(super) async fn begin_alone(&self, turn: Turn) -> Result<Transaction, StoreError> {
        let mut transaction = self.begin().await?;
        if let Transaction::Postgres(..) = transaction {
            let lock = Statement::new("SELECT pg_advisory_xact_lock($1, $2)");
            let lock = lock.bind(postgres::LOCKS).bind(turn as i32);
            transaction.fetch_optional(lock).await?;
        }
        Ok(transaction)
    }

    /// A transaction that sees one state of everything, and may take its time.
    pub(super) async fn snapshot(&self) -> Result<Transaction, StoreError> {
        match self {
            Self::Sqlite(sqlite) => Ok(Transaction::Sqlite(sqlite.snapshot().await?)),
            Self::Postgres(postgres) => within(STATEMENT, postgres.snapshot(LONG_STATEMENT))
                .await
                .map(|transaction| Transaction::Postgres(transaction, LONG_STATEMENT)),
        }
    }

    /// Answers how many rows the statement has changed; durable then.
    pub(super) async fn execute(&self, statement: Statement) -> Result<u64, StoreError> {
        self.require_readable()?;
        on!(self,
            sqlite => async {
                let done = statement.for_sqlite().execute(sqlite.writer()).await?;
                Ok::<_, sqlx::Error>(done.rows_affected())
            },
            postgres => async {
                let done = statement.for_postgres().execute(postgres.pool()).await?;
                Ok(done.rows_affected())
            }
        )
    }

    /// All rows of a statement that only reads.
    pub(super) async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        on!(self,
            sqlite => async {
                let rows = statement.for_sqlite().fetch_all(sqlite.readers()).await?;
                Ok::<_, sqlx::Error>(rows.into_iter().map(Row::Sqlite).collect())
            },
            postgres => async {
                let rows = statement.for_postgres().fetch_all(postgres.pool()).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        )
    }

    /// The first row, if any, of a statement that only reads.
    pub(super) async fn fetch_optional(
        &self,
        statement: Statement,
    ) -> Result<Option<Row>, StoreError> {
        on!(self,
            sqlite => async {
                let row = statement.for_sqlite().fetch_optional(sqlite.readers()).await?;
                Ok::<_, sqlx::Error>(row.map(Row::Sqlite))
            },
            postgres => async {
                let row = statement.for_postgres().fetch_optional(postgres.pool()).await?;
                Ok(row.map(Row::Postgres))
            }
        )
    }

    /// The one row of a statement that only reads.
    pub(super) async fn fetch_one(&self, statement: Statement) -> Result<Row, StoreError> {
        self.fetch_optional(statement)
            .await?
            .ok_or_else(|| StoreError::corrupt("table", "its one row is missing"))
    }
}

impl Transaction {
    /// Answers how many rows the statement has changed.
    pub(super) async fn execute(&mut self, statement: Statement) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(sqlite) => {
                let done = statement.for_sqlite().execute(&mut **sqlite).await?;
                Ok(done.rows_affected())
            }
            Self::Postgres(postgres, limit) => {
                let call = statement.for_postgres().execute(&mut **postgres);
                Ok(within(*limit, call).await?.rows_affected())
            }
        }
    }

    pub(super) async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => {
                let rows = statement.for_sqlite().fetch_all(&mut **sqlite).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(postgres, limit) => {
                let call = statement.for_postgres().fetch_all(&mut **postgres);
                let rows = within(*limit, call).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    pub(super) async fn fetch_optional(
        &mut self,
        statement: Statement,
    ) -> Result<Option<Row>, StoreError> {
        match self {
            Self::Sqlite(sqlite) => {
                let row = statement.for_sqlite().fetch_optional(&mut **sqlite);
                Ok(row.await?.map(Row::Sqlite))
            }
            Self::Postgres(postgres, limit) => {
                let call = statement.for_postgres().fetch_optional(&mut **postgres);
                Ok(within(*limit, call).await?.map(Row::Postgres))
            }
        }
    }

    pub(super) async fn fetch_one(&mut self, statement: Statement) -> Result<Row, StoreError> {
        self.fetch_optional(statement)
            .await?
            .ok_or_else(|| StoreError::corrupt("table", "its one row is missing"))
    }

    /// On an error nobody knows whether the transaction was committed.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(sqlite) => Ok(sqlite.commit().await?),
            Self::Postgres(postgres, limit) => within(limit, postgres.commit()).await,
        }
    }
}

/// A server that no longer answers must not hold its callers.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(StoreError::silent()),
    }
}
