//! The one writer of issuance records. It commits whatever has queued as one statement as soon as
//! the previous commit has ended, without a timer: under load groups grow, at rest nobody waits.
//! While the store is away, renewals go to the spool, if there is one.
//!
//! The queue is bounded in records; what does not fit is refused at once, as overload.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use runtime::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::refusal::IssueError;
use crate::metrics::Metrics;
use crate::spool::{LONGEST_LIFE, Spool, StoreStanding};
use crate::store::{IssuedRow, Store, StoreError};

/// One statement holds at most so many records.
const LARGEST_GROUP: usize = 2_048;
/// A store that takes longer counts as away, where there is a spool.
const RECORD_WITHIN: Duration = Duration::from_secs(3);
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Queues records; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    queue: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
    standing: StoreStanding,
}

/// The writer's side; runs until every [`Recorder`] is gone.
pub(crate) struct RecordWriter {
    queue: mpsc::UnboundedReceiver<Queued>,
    store: Store,
    spool: Option<Spool>,
    /// Resolves when the store takes writes again.
    probe: Option<Probe>,
    metrics: Metrics,
}

type Probe = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Debug)]
struct Queued {
    rows: Vec<IssuedRow>,
    /// Of `rows`, also when they were taken out.
    count: usize,
    may_be_spooled: bool,
    recorded: oneshot::Sender<bool>,
    /// Given back when the group has ended.
    _room: OwnedSemaphorePermit,
}

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Stored,
    /// Those that may be.
    Spooled,
    Refused,
}

impl Recorder {
    /// The queue and its writer, which someone must run.
    pub(crate) fn new(
        store: Store,
        room: NonZeroU32,
        metrics: Metrics,
        (spool, standing): (Option<Spool>, StoreStanding),
    ) -> (Self, RecordWriter) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let recorder = Self {
            queue: sender,
            room: Arc::new(Semaphore::new(room.get() as usize)),
            standing,
        };
        let writer = RecordWriter {
            queue: receiver,
            store,
            spool,
            probe: None,
            metrics,
        };
        (recorder, writer)
    }

    /// Whether nothing but renewals is recorded now.
    pub(super) fn is_away(&self) -> bool {
        self.standing.is_away()
    }

    /// Takes room for `count` records before work is spent on signing.
    pub(super) fn reserve(&self, count: usize) -> Result<OwnedSemaphorePermit, IssueError> {
        let count = u32::try_from(count).map_err(|_| IssueError::Overloaded)?;
        Arc::clone(&self.room)
            .try_acquire_many_owned(count)
            .map_err(|_| IssueError::Overloaded)
    }

    /// Returns once the records are durable. `renewals`: all of them are of identities that their
    /// agents may go on with while the store is away.
    pub(super) async fn record(
        &self,
        rows: Vec<IssuedRow>,
        renewals: bool,
        room: OwnedSemaphorePermit,
    ) -> Result<(), IssueError> {
        let (recorded, done) = oneshot::channel();
        let short = |row: &IssuedRow| row.not_after - row.issued_at <= LONGEST_LIFE;
        let queued = Queued {
            count: rows.len(),
            may_be_spooled: renewals && rows.iter().all(short),
            rows,
            recorded,
            _room: room,
        };
        self.queue
            .send(queued)
            .map_err(|_| IssueError::Unrecorded)?;
        match done.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(IssueError::Unrecorded),
        }
    }
}

impl RecordWriter {
    /// Writes until every [`Recorder`] is gone, which they are once a drain has ended.
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut group = Vec::new();
        let mut rows = Vec::new();
        loop {
            let first = tokio::select! {
                biased;
                () = probed(&mut self.probe) => {
                    self.ship().await;
                    continue;
                }
                first = self.queue.recv() => first,
                () = shutdown.forced() => None,
            };
            let Some(first) = first else {
                return Ok(());
            };
            self.gather(first, &mut group, &mut rows);
            self.metrics.record_group(rows.len());
            let outcome = self.write(&group, &rows).await;
            rows.clear();
            for queued in group.drain(..) {
                let recorded = match outcome {
                    Outcome::Stored => true,
                    Outcome::Spooled => queued.may_be_spooled,
                    Outcome::Refused => false,
                };
                // A caller that has gone away leaves a record without a certificate, never the
                // other way round.
                let _ = queued.recorded.send(recorded);
            }
        }
    }

    async fn write(&mut self, group: &[Queued], rows: &[IssuedRow]) -> Outcome {
        if !self.spool.as_ref().is_some_and(Spool::is_in_use) {
            let Err(error) = self.store(rows).await else {
                return Outcome::Stored;
            };
            tracing::error!(
                error = %runtime::exit::one_line(&error),
                records = rows.len(),
                "the records could not be written"
            );
            let away = matches!(error, StoreError::Unavailable(_));
            let Some(spool) = self.spool.as_mut().filter(|_| away) else {
                return Outcome::Refused;
            };
            spool.begin();
            self.probe = Some(probe(self.store.clone()));
        }
        self.keep(group, rows).await
    }

    /// Where there is a spool, nobody waits for a store that is silent.
    async fn store(&mut self, rows: &[IssuedRow]) -> Result<(), StoreError> {
        let recording = self.store.record_issued(rows);
        if self.spool.is_none() {
            return recording.await;
        }
        match timeout(RECORD_WITHIN, recording).await {
            Ok(recorded) => recorded,
            Err(_) => Err(StoreError::silent()),
        }
    }

    /// What may not be spooled is refused, and so is all of it if the spool does not take the rest.
    async fn keep(&mut self, group: &[Queued], rows: &[IssuedRow]) -> Outcome {
        let mut rest = rows;
        let mut kept = Vec::new();
        for queued in group {
            let (own, others) = rest.split_at(queued.count);
            rest = others;
            if queued.may_be_spooled {
                kept.extend_from_slice(own);
            }
        }
        let Some(spool) = self.spool.as_mut().filter(|_| !kept.is_empty()) else {
            return Outcome::Refused;
        };
        match spool.keep(kept).await {
            Ok(()) => Outcome::Spooled,
            Err(error) => {
                tracing::error!(
                    error = %runtime::exit::one_line(&error),
                    "nothing was renewed: the spool did not take the records"
                );
                Outcome::Refused
            }
        }
    }

    async fn ship(&mut self) {
        self.probe = None;
        let Some(spool) = &mut self.spool else {
            return;
        };
        if let Err(error) = spool.ship(&self.store).await {
            tracing::warn!(
                error = %runtime::exit::one_line(&error),
                "what is in the spool was not shipped; trying again"
            );
            self.probe = Some(probe(self.store.clone()));
        }
    }

    fn gather(&mut self, first: Queued, group: &mut Vec<Queued>, rows: &mut Vec<IssuedRow>) {
        let mut next = Some(first);
        while let Some(mut queued) = next {
            rows.append(&mut queued.rows);
            group.push(queued);
            if rows.len() >= LARGEST_GROUP {
                return;
            }
            next = self.queue.try_recv().ok();
        }
    }
}

/// Asks the store, without holding up those who record meanwhile.
fn probe(store: Store) -> Probe {
    Box::pin(async move {
        loop {
            sleep(PROBE_EVERY).await;
            if store.probe_write().await.is_ok() {
                return;
            }
        }
    })
}

async fn probed(probe: &mut Option<Probe>) {
    match probe {
        Some(probe) => probe.await,
        None => std::future::pending().await,
    }
}

impl std::fmt::Debug for RecordWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordWriter").finish_non_exhaustive()
    }
}
