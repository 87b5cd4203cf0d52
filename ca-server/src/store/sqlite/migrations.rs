//! Schema versions, forward only. A database that needs a newer reader is left as it is.

use std::path::Path;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row, SqlSafeStr, SqlitePool};

use crate::store::OpenError;

/// The newest schema that this build understands.
const READS: i64 = 1;

const FILES: [(i64, &str, &str); 3] = [
    (
        1,
        "store",
        include_str!("../../../../migrations/sqlite/0001_store.sql"),
    ),
    (
        2,
        "service addresses",
        include_str!("../../../../migrations/sqlite/0002_service_addresses.sql"),
    ),
    (
        3,
        "authorities",
        include_str!("../../../../migrations/sqlite/0003_authorities.sql"),
    ),
];

pub(super) async fn run(writer: &SqlitePool) -> Result<(), sqlx::migrate::MigrateError> {
    let migrations = FILES.into_iter().map(|(version, name, sql)| {
        let sql = sql.into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // A newer build may have added what this one need not know: `min_reader` decides.
    migrator.set_ignore_missing(true);
    migrator.run(writer).await
}

/// Looks at an existing file through a connection that cannot write.
pub(super) async fn require_readable(path: &Path) -> Result<(), OpenError> {
    let not_a_store = || OpenError::NotAStore {
        path: path.to_owned(),
    };
    let database = |source| OpenError::Database {
        path: path.to_owned(),
        source,
    };
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .connect()
        .await
        .map_err(database)?;
    let tables: Result<Vec<String>, _> =
        sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'table'")
            .fetch_all(&mut connection)
            .await;
    let tables = tables.map_err(|error| {
        if is_not_a_database(&error) {
            not_a_store()
        } else {
            database(error)
        }
    })?;
    let ours = tables.iter().any(|table| table == "schema");
    if !ours && !tables.is_empty() {
        return Err(not_a_store());
    }
    if ours {
        let row = sqlx::query("SELECT version, min_reader FROM schema")
            .fetch_one(&mut connection)
            .await
            .map_err(|_| not_a_store())?;
        let min_reader: i64 = row.try_get("min_reader").map_err(|_| not_a_store())?;
        if min_reader > READS {
            let version = row.try_get("version").map_err(|_| not_a_store())?;
            let path = path.to_owned();
            return Err(OpenError::TooNew {
                path,
                version,
                min_reader,
                reads: READS,
            });
        }
    }
    connection.close().await.map_err(database)
}

fn is_not_a_database(error: &sqlx::Error) -> bool {
    const SQLITE_NOTADB: &str = "26";
    matches!(error, sqlx::Error::Database(cause) if cause.code().as_deref() == Some(SQLITE_NOTADB))
}
