//! One SQLite file: one writer connection, a few readers, WAL, `synchronous=FULL`.
//!
//! Invariant: a write transaction begins with `BEGIN IMMEDIATE` on the only writer, so what it
//! reads cannot change before it commits; one that is dropped half-way rolls back. A second process
//! is refused by a lock file.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use runtime::files::{LockError, LockFile};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};

use super::schema;
use crate::store::{OpenError, StorePlace};

const READERS: u32 = 4;
/// Rows that the thread of a connection reads ahead: each wait for room would cost a switch.
const READ_AHEAD: usize = 512;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(in crate::store) struct SqliteDatabase {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Held for as long as the store is open.
    lock: Mutex<Option<LockFile>>,
}

impl SqliteDatabase {
    pub(super) async fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let existed = require_private_file(path)?;
        if existed {
            schema::require_readable_file(path).await?;
        }
        let database = |source| OpenError::database(&StorePlace::Sqlite(path.to_owned()), source);
        let writer = pool(path, 1, false).await.map_err(database)?;
        schema::migrate_sqlite(&writer, path).await?;
        let readers = pool(path, READERS, true).await.map_err(database)?;
        Ok(Self {
            writer,
            readers,
            lock: Mutex::new(Some(lock)),
        })
    }

    pub(super) fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    pub(super) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    pub(super) async fn snapshot(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.readers.begin().await
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
    pub(in crate::store) async fn fill_disk(&self) -> Result<(), sqlx::Error> {
        let query = sqlx::query("PRAGMA max_page_count = 1");
        query.execute(&self.writer).await.map(drop)
    }
}

async fn pool(path: &Path, connections: u32, read_only: bool) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(read_only)
        .row_buffer_size(READ_AHEAD)
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
