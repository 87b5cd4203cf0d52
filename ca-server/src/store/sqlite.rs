//! The store in one SQLite file: one writer connection, a few readers, WAL, `synchronous=FULL`.
//!
//! Invariant: a write transaction begins with `BEGIN IMMEDIATE` on the only writer, so what it
//! reads cannot change before it commits; one that is dropped half-way rolls back.

mod admin;
mod agents;
mod authorities;
mod columns;
mod configuration;
mod issuance;
mod join_tokens;
mod keys;
mod mesh;
mod migrations;
mod places;
mod retention;

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runtime::files::{LockError, LockFile};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite as Engine, SqlitePool, Transaction};
use time::OffsetDateTime;

use super::{Mesh, OpenError, StoreConfig, StoreError};

const READERS: u32 = 4;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Held for as long as the store is open.
    lock: Mutex<Option<LockFile>>,
}

impl Sqlite {
    pub(super) async fn open(
        config: &StoreConfig,
        now: OffsetDateTime,
    ) -> Result<(Self, Mesh), OpenError> {
        let path = &config.sqlite;
        let lock = lock(path)?;
        let existed = require_private_file(path)?;
        if existed {
            migrations::require_readable(path).await?;
        }
        let database = |source| OpenError::Database {
            path: path.clone(),
            source,
        };
        let writer = pool(path, 1, false).await.map_err(database)?;
        migrations::run(&writer)
            .await
            .map_err(|source| OpenError::Migrate {
                path: path.clone(),
                source,
            })?;
        let readers = pool(path, READERS, true).await.map_err(database)?;
        let sqlite = Self {
            writer,
            readers,
            lock: Mutex::new(Some(lock)),
        };
        sqlite.give_missing_places().await.map_err(database)?;
        let mesh = sqlite
            .mesh_or_insert(config, now)
            .await
            .map_err(|source| OpenError::Mesh {
                path: path.clone(),
                source,
            })?;
        mesh::require_same(&mesh, config)?;
        Ok((sqlite, mesh))
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
        let lock = self
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(lock);
    }

    /// Lets the file grow no further.
    #[cfg(test)]
    pub(super) async fn fill_disk(&self) -> Result<(), StoreError> {
        let query = sqlx::query("PRAGMA max_page_count = 1");
        query.execute(&self.writer).await?;
        Ok(())
    }

    async fn begin(&self) -> Result<Transaction<'static, Engine>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

async fn pool(path: &Path, connections: u32, read_only: bool) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(read_only)
        .busy_timeout(ACQUIRE_TIMEOUT)
        .foreign_keys(true);
    let options = if read_only {
        options
    } else {
        options
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
    };
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
}

fn lock(path: &Path) -> Result<LockFile, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    LockFile::acquire(PathBuf::from(name)).map_err(|source| {
        let path = path.to_owned();
        match source {
            LockError::Held { .. } => OpenError::InUse { path, source },
            LockError::File(_) => OpenError::Lock { path, source },
        }
    })
}

/// Makes the file, or checks that nobody else can read it. Answers whether it held anything.
fn require_private_file(path: &Path) -> Result<bool, OpenError> {
    let failed = |source| OpenError::File {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(OpenError::Permissions {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(metadata.len() > 0)
}
