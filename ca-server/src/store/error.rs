//! How the store fails: to open, and afterwards.

use std::path::PathBuf;

use identity::{IdTemplate, TrustDomain};
use runtime::FileError;
use runtime::files::LockError;

use super::StorePlace;

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
    #[error("the store's password cannot be used")]
    Password(#[source] FileError),
    #[error("the store's password in {path} is not UTF-8 text")]
    PasswordNotText { path: PathBuf },
    #[error("store {store} is a standby, which cannot write; name the primary")]
    Standby { store: String },
    #[error("store {store} is PostgreSQL {version}; {oldest} is the oldest that is known to work")]
    OldServer {
        store: String,
        version: i32,
        oldest: i32,
    },
    #[error("{store} is a database, but not a Countersign store")]
    NotAStore { store: String },
    #[error(
        "store {store} has schema {version}, which needs a build that reads schema {min_reader}; \
         this one reads up to {reads}"
    )]
    TooNew {
        store: String,
        version: i64,
        min_reader: i64,
        reads: i64,
    },
    #[error("store {store} belongs to trust domain {found}, not {wanted}")]
    OtherTrustDomain {
        store: String,
        found: TrustDomain,
        wanted: TrustDomain,
    },
    #[error("store {store} names workloads by {found}, not {wanted}; the template never changes")]
    OtherTemplate {
        store: String,
        found: IdTemplate,
        wanted: IdTemplate,
    },
    #[error("cannot migrate store {store}")]
    Migrate {
        store: String,
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    #[error("cannot open store {store}")]
    Database {
        store: String,
        #[source]
        source: sqlx::Error,
    },
    #[error("cannot read what mesh store {store} is of")]
    Mesh {
        store: String,
        #[source]
        source: StoreError,
    },
}

impl OpenError {
    pub(super) fn database(place: &StorePlace, source: sqlx::Error) -> Self {
        let store = place.to_string();
        Self::Database { store, source }
    }

    pub(super) fn migrate(place: &StorePlace, source: sqlx::migrate::MigrateError) -> Self {
        let store = place.to_string();
        Self::Migrate { store, source }
    }

    pub(super) fn mesh(place: &StorePlace, source: StoreError) -> Self {
        let store = place.to_string();
        Self::Mesh { store, source }
    }

    pub(super) fn not_a_store(place: &StorePlace) -> Self {
        let store = place.to_string();
        Self::NotAStore { store }
    }
}

/// Why a statement failed. Nothing of a failed write is kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Disk full, input or output error, no connection in time: it may pass.
    #[error("the store is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// A newer build has migrated it.
    #[error(
        "the store needs a build that reads schema {min_reader}; this one reads up to {reads}, and \
         writes nothing any more"
    )]
    TooNew { min_reader: i64, reads: i64 },
    #[error("the store already has this {what}")]
    Duplicate { what: &'static str },
    /// The store's key-encryption key was changed after this key had been sealed.
    #[error("the store's keys are under another key-encryption key by now")]
    OtherKek,
    /// Somebody else wrote to the database, or it is damaged.
    #[error("the store holds a {what} that cannot be read: {why}")]
    Corrupt { what: &'static str, why: String },
}

impl StoreError {
    /// It did not answer in time.
    pub(crate) fn silent() -> Self {
        let silent = std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            "the database did not answer in time",
        );
        Self::Unavailable(silent.into())
    }

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
