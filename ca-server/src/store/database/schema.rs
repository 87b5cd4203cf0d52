//! Schema versions, forward only. A database that needs a newer reader is left as it is.
//!
//! Expand, then contract: a migration may add what older builds need not know and leaves
//! `min_reader` alone, so that replicas of two versions live side by side; only when no replica of
//! the older version is left, a later one takes away what it needed, and raises `min_reader`.

use std::path::Path;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, PgPool, Row as _, SqlSafeStr, SqlitePool};

use crate::store::{OpenError, StorePlace};

/// The newest schema that this build understands: the last of [`FILES`].
pub(super) const READS: i64 = FILES[FILES.len() - 1].version;

struct File {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! file {
    ($version:literal, $name:literal, $file:literal) => {
        File {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("../../../../migrations/sqlite/", $file)),
            postgres: include_str!(concat!("../../../../migrations/postgres/", $file)),
        }
    };
}

/// What each release added, in order; a file that was released is never changed.
const FILES: [File; 15] = [
    file!(1, "store", "0001_store.sql"),
    file!(2, "service addresses", "0002_service_addresses.sql"),
    file!(3, "authorities", "0003_authorities.sql"),
    file!(4, "agents", "0004_agents.sql"),
    file!(5, "issuers' tokens", "0005_issuers_tokens.sql"),
    file!(6, "replicas", "0006_replicas.sql"),
    file!(7, "log", "0007_log.sql"),
    file!(8, "announcements", "0008_announcements.sql"),
    file!(9, "revocations", "0009_revocations.sql"),
    file!(10, "revocation lists", "0010_crls.sql"),
    file!(11, "enforcement", "0011_enforcement.sql"),
    file!(12, "bundle updates", "0012_bundle_updates.sql"),
    file!(13, "downstreams", "0013_downstreams.sql"),
    file!(14, "agent selectors", "0014_agent_selectors.sql"),
    file!(
        15,
        "issuers of intermediates",
        "0015_intermediate_issuers.sql"
    ),
];

pub(super) async fn migrate_sqlite(writer: &SqlitePool, path: &Path) -> Result<(), OpenError> {
    migrator(|file| file.sqlite)
        .run(writer)
        .await
        .map_err(|source| OpenError::migrate(&StorePlace::Sqlite(path.to_owned()), source))
}

/// Replicas that start at once wait for one another (the migrator takes an advisory lock).
pub(super) async fn migrate_postgres(pool: &PgPool, place: &StorePlace) -> Result<(), OpenError> {
    require_readable_schema(pool, place).await?;
    migrator(|file| file.postgres)
        .run(pool)
        .await
        .map_err(|source| OpenError::migrate(place, source))?;
    // Another replica, of a newer build, may have been faster.
    require_readable_schema(pool, place).await
}

fn migrator(sql: impl Fn(&File) -> &'static str) -> Migrator {
    let migrations = FILES.iter().map(|file| {
        let sql = sql(file).into_sql_str();
        Migration::new(
            file.version,
            file.name.into(),
            MigrationType::Simple,
            sql,
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // A newer build may have added what this one need not know: `min_reader` decides.
    migrator.set_ignore_missing(true);
    migrator
}

/// Looks at an existing file through a connection that cannot write.
pub(super) async fn require_readable_file(path: &Path) -> Result<(), OpenError> {
    let place = StorePlace::Sqlite(path.to_owned());
    let database = |source| OpenError::database(&place, source);
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
            OpenError::not_a_store(&place)
        } else {
            database(error)
        }
    })?;
    if is_ours(&tables, &place)? {
        let row = sqlx::query("SELECT version, min_reader FROM schema")
            .fetch_one(&mut connection)
            .await
            .map_err(|_| OpenError::not_a_store(&place))?;
        let (version, min_reader) = (row.try_get("version"), row.try_get("min_reader"));
        require_readable(version, min_reader, &place)?;
    }
    connection.close().await.map_err(database)
}

async fn require_readable_schema(pool: &PgPool, place: &StorePlace) -> Result<(), OpenError> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables
         WHERE table_schema = current_schema()",
    )
    .fetch_all(pool)
    .await
    .map_err(|source| OpenError::database(place, source))?;
    if !is_ours(&tables, place)? {
        return Ok(());
    }
    let row = sqlx::query("SELECT version, min_reader FROM schema")
        .fetch_one(pool)
        .await
        .map_err(|_| OpenError::not_a_store(place))?;
    require_readable(row.try_get("version"), row.try_get("min_reader"), place)
}

/// `false`: it is empty, and becomes ours. The migrator makes its own table before the first.
fn is_ours(tables: &[String], place: &StorePlace) -> Result<bool, OpenError> {
    let ours = tables.iter().any(|table| table == "schema");
    let empty = tables.iter().all(|table| table == "_sqlx_migrations");
    match ours || empty {
        true => Ok(ours),
        false => Err(OpenError::not_a_store(place)),
    }
}

fn require_readable(
    version: Result<i64, sqlx::Error>,
    min_reader: Result<i64, sqlx::Error>,
    place: &StorePlace,
) -> Result<(), OpenError> {
    let (Ok(version), Ok(min_reader)) = (version, min_reader) else {
        return Err(OpenError::not_a_store(place));
    };
    if min_reader > READS {
        return Err(OpenError::TooNew {
            store: place.to_string(),
            version,
            min_reader,
            reads: READS,
        });
    }
    Ok(())
}

fn is_not_a_database(error: &sqlx::Error) -> bool {
    const SQLITE_NOTADB: &str = "26";
    matches!(error, sqlx::Error::Database(cause) if cause.code().as_deref() == Some(SQLITE_NOTADB))
}
