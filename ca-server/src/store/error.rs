//! How the store fails: to open, and afterwards.

use std::path::PathBuf;

use identity::{IdTemplate, TrustDomain};
use runtime::files::LockError;

/// Why the store was not opened. Nothing in it has changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("store {path} is in use by another CA")]
    InUse {
        path: PathBuf,
        #[source]
        source: LockError,
    },
    #[error("cannot lock store {path}")]
    Lock {
        path: PathBuf,
        #[source]
        source: LockError,
    },
    #[error("cannot use store file {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("store {path} is open to others (mode {mode:04o}); run: chmod 600 {path}")]
    Permissions { path: PathBuf, mode: u32 },
    #[error("{path} is a database, but not a Countersign store")]
    NotAStore { path: PathBuf },
    #[error(
        "store {path} has schema {version}, which needs a build that reads schema {min_reader}; \
         this one reads up to {reads}"
    )]
    TooNew {
        path: PathBuf,
        version: i64,
        min_reader: i64,
        reads: i64,
    },
    #[error("store {path} belongs to trust domain {found}, not {wanted}")]
    OtherTrustDomain {
        path: PathBuf,
        found: TrustDomain,
        wanted: TrustDomain,
    },
    #[error("store {path} names workloads by {found}, not {wanted}; the template never changes")]
    OtherTemplate {
        path: PathBuf,
        found: IdTemplate,
        wanted: IdTemplate,
    },
    #[error("cannot migrate store {path}")]
    Migrate {
        path: PathBuf,
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    #[error("cannot open store {path}")]
    Database {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("cannot read what mesh store {path} is of")]
    Mesh {
        path: PathBuf,
        #[source]
        source: StoreError,
    },
}

/// Why a statement failed. Nothing of a failed write is kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Disk full, input or output error, no connection in time: it may pass.
    #[error("the store is unavailable")]
    Unavailable(#[source] sqlx::Error),
    #[error("the store already has this {what}")]
    Duplicate { what: &'static str },
    /// Somebody else wrote to the database, or it is damaged.
    #[error("the store holds a {what} that cannot be read: {why}")]
    Corrupt { what: &'static str, why: String },
}

impl StoreError {
    pub(super) fn corrupt(what: &'static str, why: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            what,
            why: why.to_string(),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(cause) if cause.is_unique_violation() => {
                Self::Duplicate { what: "row" }
            }
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. } => Self::corrupt("row", error),
            other => Self::Unavailable(other),
        }
    }
}
