//! The one writer of issuance records. It commits whatever has queued as one statement as soon as
//! the previous commit has ended, without a timer: under load groups grow, at rest nobody waits.
//!
//! The queue is bounded in records; what does not fit is refused at once, as overload.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;

use runtime::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::refusal::IssueError;
use crate::metrics::Metrics;
use crate::store::{IssuedRow, Store};

/// One statement holds at most so many records.
const LARGEST_GROUP: usize = 2_048;

/// Queues records; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    queue: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
}

/// The writer's side; runs until every [`Recorder`] is gone.
#[derive(Debug)]
pub(crate) struct RecordWriter {
    queue: mpsc::UnboundedReceiver<Queued>,
    store: Store,
    metrics: Metrics,
}

#[derive(Debug)]
struct Queued {
    rows: Vec<IssuedRow>,
    recorded: oneshot::Sender<bool>,
    /// Given back when the group has ended.
    _room: OwnedSemaphorePermit,
}

impl Recorder {
    /// The queue and its writer, which someone must run.
    pub(crate) fn new(store: Store, room: NonZeroU32, metrics: Metrics) -> (Self, RecordWriter) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let recorder = Self {
            queue: sender,
            room: Arc::new(Semaphore::new(room.get() as usize)),
        };
        let writer = RecordWriter {
            queue: receiver,
            store,
            metrics,
        };
        (recorder, writer)
    }

    /// Takes room for `count` records before work is spent on signing.
    pub(super) fn reserve(&self, count: usize) -> Result<OwnedSemaphorePermit, IssueError> {
        let count = u32::try_from(count).map_err(|_| IssueError::Overloaded)?;
        Arc::clone(&self.room)
            .try_acquire_many_owned(count)
            .map_err(|_| IssueError::Overloaded)
    }

    /// Returns once the records are durable.
    pub(super) async fn record(
        &self,
        rows: Vec<IssuedRow>,
        room: OwnedSemaphorePermit,
    ) -> Result<(), IssueError> {
        let (recorded, done) = oneshot::channel();
        let queued = Queued {
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
                first = self.queue.recv() => first,
                () = shutdown.forced() => None,
            };
            let Some(first) = first else {
                return Ok(());
            };
            self.gather(first, &mut group, &mut rows);
            self.metrics.record_group(rows.len());
            let outcome = self.store.record_issued(&rows).await;
            if let Err(error) = &outcome {
                tracing::error!(
                    error = %runtime::exit::one_line(error),
                    records = rows.len(),
                    "nothing was issued: the records could not be written"
                );
            }
            rows.clear();
            for queued in group.drain(..) {
                // A caller that has gone away leaves a record without a certificate, never the
                // other way round.
                let _ = queued.recorded.send(outcome.is_ok());
            }
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
