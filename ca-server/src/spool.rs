//! What goes on while PostgreSQL is away: renewals are recorded in a file of this replica, and
//! shipped when the database is back.
//!
//! Invariant: a certificate leaves only when its record is durable, in the store or here. Only
//! renewals are taken, of certificates that live for an hour at most, for as long as `[spool]
//! max_age` says and as long as there is room; everything else is refused. A record that cannot be
//! read is told of, never passed over.

mod file;
mod header;
mod record;
mod revocation;
#[cfg(test)]
mod tests;

use std::time::Duration;

use runtime::Clock;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::config::SpoolConfig;
use crate::metrics::Metrics;
use crate::store::{IssuedRow, Store, StoreError};
use record::Payload;

pub(crate) use file::{AppendError, Found, SpoolFile};
pub(crate) use revocation::SpooledRevocation;

pub use file::SpoolError;

/// A certificate that is recorded here lives no longer.
pub(crate) const LONGEST_LIFE: Duration = Duration::from_secs(60 * 60);
/// Records in one transaction, when they are shipped.
const SHIPMENT: usize = 2_048;

/// Whether the store is away, for whoever would otherwise wait for it; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoreStanding(watch::Sender<Option<Away>>);

/// The store cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Away {
    pub(crate) since: OffsetDateTime,
    /// Renewals go on.
    pub(crate) renews: bool,
}

/// The records that wait, and the way to the store; owned by the one who writes records.
#[derive(Debug)]
pub(crate) struct Spool {
    /// `None` only while it is being written, and after that has panicked.
    file: Option<SpoolFile>,
    waiting: usize,
    since: Option<OffsetDateTime>,
    max_age: Duration,
    standing: StoreStanding,
    metrics: Metrics,
    clock: Clock,
}

/// Why a renewal was not recorded here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSpooled {
    #[error("the store has been away for longer than [spool] max_age")]
    TooLong,
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the spool's writer is gone")]
    Gone,
}

/// Why records were not shipped; they stay.
#[derive(Debug, thiserror::Error)]
pub enum NotShipped {
    #[error("the store does not take them")]
    Store(#[from] StoreError),
    #[error("the spool cannot be read or emptied")]
    File(#[from] std::io::Error),
    #[error("the spool's writer is gone")]
    Gone,
}

impl StoreStanding {
    /// `None`: it is there, as far as anybody knows.
    pub(crate) fn away(&self) -> Option<Away> {
        *self.0.borrow()
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away().is_some()
    }

    /// Returns when the store is there; at once if it is.
    pub(crate) async fn back(&self) {
        let mut standing = self.0.subscribe();
        // Fails only without a sender, and this is one.
        drop(standing.wait_for(Option::is_none).await);
    }

    /// Returns when the store is away; at once if it is.
    pub(crate) async fn gone(&self) {
        let mut standing = self.0.subscribe();
        drop(standing.wait_for(Option::is_some).await);
    }
}

/// Opens the file, and ships what an earlier process has left in it.
///
/// # Errors
/// The file cannot be used, or the store does not take the records.
pub(crate) async fn open(config: &SpoolConfig, store: &Store) -> Result<SpoolFile, SpoolOpenError> {
    let (config, trust_domain) = (config.clone(), store.trust_domain().clone());
    let opening =
        spawn_blocking(move || SpoolFile::open(&config.file, config.size(), &trust_domain));
    let (mut file, found) = opening.await.map_err(|_| NotShipped::Gone)??;
    tell_unreadable(&file, &found);
    if found.rows.is_empty() {
        return Ok(file);
    }
    ship(store, &found.rows).await.map_err(NotShipped::from)?;
    tracing::warn!(
        records = found.rows.len(),
        "records of certificates that were renewed while the store was away are in it now"
    );
    let emptied = spawn_blocking(move || file.empty().map(|()| file));
    let emptied = emptied.await.map_err(|_| NotShipped::Gone)?;
    Ok(emptied.map_err(NotShipped::from)?)
}

/// Why a replica with a spool did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpoolOpenError {
    #[error(transparent)]
    File(#[from] SpoolError),
    #[error(transparent)]
    Ship(#[from] NotShipped),
}

impl Spool {
    pub(crate) fn new(
        file: SpoolFile,
        max_age: Duration,
        standing: StoreStanding,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        Self {
            file: Some(file),
            waiting: 0,
            since: None,
            max_age,
            standing,
            metrics,
            clock,
        }
    }

    pub(crate) fn is_in_use(&self) -> bool {
        self.since.is_some()
    }

    /// The store did not take a record.
    pub(crate) fn begin(&mut self) {
        if self.since.is_some() {
            return;
        }
        self.since = Some(self.clock.now());
        tracing::error!(
            alarm = "store-away",
            spool = %self.file.as_ref().map(|file| file.path().display().to_string()).unwrap_or_default(),
            max_age = ?self.max_age,
            "the store is away: renewals are recorded in the spool"
        );
        self.announce(true);
    }

    /// Keeps the records of renewals; on the disk on return.
    ///
    /// # Errors
    /// Nothing of them was kept.
    pub(crate) async fn keep(&mut self, rows: Vec<IssuedRow>) -> Result<(), NotSpooled> {
        let since = *self.since.get_or_insert_with(|| self.clock.now());
        let count = rows.len();
        let kept = match self.clock.now() - since > self.max_age {
            true => Err(NotSpooled::TooLong),
            false => self.append(rows).await,
        };
        self.waiting += kept.as_ref().map_or(0, |()| count);
        self.announce(kept.is_ok());
        kept
    }

    /// Ships what waits, if the store takes it; renewals are recorded there again then.
    ///
    /// # Errors
    /// The store is still away. What waits stays, and may be in the store already: it is recognized
    /// by its serial.
    pub(crate) async fn ship(&mut self, store: &Store) -> Result<(), NotShipped> {
        store.probe_write().await?;
        let file = self.file.take().ok_or(NotShipped::Gone)?;
        let reading = spawn_blocking(move || {
            let mut file = file;
            let found = file.read();
            (file, found)
        });
        let (file, found) = reading.await.map_err(|_| NotShipped::Gone)?;
        let file = self.file.insert(file);
        let found = found?;
        tell_unreadable(file, &found);
        ship(store, &found.rows).await?;
        let mut file = self.file.take().ok_or(NotShipped::Gone)?;
        let emptying = spawn_blocking(move || {
            let emptied = file.empty();
            (file, emptied)
        });
        let (file, emptied) = emptying.await.map_err(|_| NotShipped::Gone)?;
        self.file = Some(file);
        emptied?;
        let away = self.since.take().map(|since| self.clock.now() - since);
        self.waiting = 0;
        tracing::warn!(
            records = found.rows.len(),
            away = ?away,
            "the store is back, and what was recorded meanwhile is in it"
        );
        self.standing.0.send_replace(None);
        self.metrics.store_away(false, 0);
        Ok(())
    }

    async fn append(&mut self, rows: Vec<IssuedRow>) -> Result<(), NotSpooled> {
        let mut file = self.file.take().ok_or(NotSpooled::Gone)?;
        let writing = spawn_blocking(move || {
            let appended = file.append(&rows);
            (file, appended)
        });
        let (file, appended) = writing.await.map_err(|_| NotSpooled::Gone)?;
        self.file = Some(file);
        Ok(appended?)
    }

    fn announce(&self, renews: bool) {
        let away = self.since.map(|since| Away { since, renews });
        self.standing.0.send_if_modified(|standing| {
            let changed = *standing != away;
            *standing = away;
            changed
        });
        self.metrics.store_away(true, self.waiting);
    }
}

async fn ship(store: &Store, rows: &[IssuedRow]) -> Result<(), StoreError> {
    for shipment in rows.chunks(SHIPMENT) {
        store.record_spooled(shipment).await?;
    }
    Ok(())
}

pub(crate) fn tell_unreadable<P: Payload>(file: &SpoolFile<P>, found: &Found<P>) {
    for what in &found.unreadable {
        tracing::error!(
            alarm = "spool-unreadable",
            spool = %file.path().display(),
            what,
            copy = "beside it, with the suffix .damaged",
            "a record that waits for the store cannot be read"
        );
    }
}
