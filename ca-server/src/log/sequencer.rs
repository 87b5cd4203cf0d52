//! Makes leaves of what is recorded, step by step. One replica at a time does it, by a lease; that
//! spares work, the comparison in the store is what keeps the log from forking.
//!
//! A step is one transaction, and begins at what the store holds: after a crash at any moment the
//! next begins where the last that was committed ended.

use std::convert::Infallible;
use std::time::Duration;

use runtime::{Clock, Shutdown};
use tlog::{Edge, NoteSigner, TILE_WIDTH, TilePath, Tiles};

use super::MERGE_DELAY;
use super::growth::{Grown, GrowthError};
use crate::metrics::Metrics;
use crate::store::{Duty, LogBundle, LogState, LogStepError, Settling, Store, StoreError};

/// With the lease's life, within the merge delay.
const LOOK: Duration = Duration::from_secs(2);
/// Another replica takes over when the one that has the duty was silent for so long.
const LEASE: Duration = Duration::from_secs(5);
const _: () = assert!(2 * LOOK.as_secs() + LEASE.as_secs() < MERGE_DELAY.as_secs());
/// Records in one step.
const LARGEST_STEP: u32 = 4_096;

/// Why there are no new leaves.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SequencerError {
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    #[error("no leaf can be made")]
    Growth(#[from] GrowthError),
    #[error("the log has no {0}, which it must have")]
    Missing(TilePath),
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// Nothing is left to do, or another replica does it.
    Idle,
    /// There is more than one step takes.
    More,
}

/// The background job.
#[derive(Debug)]
pub(crate) struct Sequencer {
    store: Store,
    replica: String,
    signer: NoteSigner,
    settling: Settling,
    clock: Clock,
    metrics: Metrics,
}

impl Sequencer {
    pub(crate) fn new(
        store: Store,
        replica: String,
        signer: NoteSigner,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        Self {
            store,
            replica,
            signer,
            settling: Settling::default(),
            clock,
            metrics,
        }
    }

    /// Runs until the shutdown begins. What fails is tried again at the next look.
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        loop {
            let pause = match self.look().await {
                Ok(Looked::More) => Duration::ZERO,
                Ok(Looked::Idle) => LOOK,
                Err(error) => {
                    tracing::error!(
                        error = %runtime::exit::one_line(&error),
                        "the transparency log does not grow"
                    );
                    LOOK
                }
            };
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Makes at most one step.
    pub(crate) async fn look(&mut self) -> Result<Looked, SequencerError> {
        let pending = self
            .store
            .pending_leaves(&mut self.settling, LARGEST_STEP)
            .await?;
        let state = &pending.state;
        let nothing = pending.records.is_empty() && pending.authorities.is_empty();
        if nothing && state.checkpoint.is_some() {
            if pending.settled > state.settled {
                self.store.settle_log(state.size, pending.settled).await?;
            }
            return Ok(Looked::Idle);
        }
        let now = self.clock.now();
        let duty = self.store.take(Duty::Sequencing, &self.replica, LEASE, now);
        if duty.await?.is_none() {
            return Ok(Looked::Idle);
        }
        let grown = self.grown(state).await?;
        grown.require_checkpoint(state.checkpoint.as_deref())?;
        let step = grown.step(&pending)?;
        match self.store.step_log(&step).await {
            Ok(()) => {}
            Err(LogStepError::Moved) => return Ok(Looked::More),
            Err(LogStepError::Store(error)) => return Err(error.into()),
        }
        let oldest = pending.records.iter().map(|record| record.row.issued_at);
        let delay = oldest.min().map(|oldest| self.clock.now() - oldest);
        self.metrics.log_grew(step.to, delay);
        match pending.records.len() as u64 >= u64::from(LARGEST_STEP) {
            true => Ok(Looked::More),
            false => Ok(Looked::Idle),
        }
    }

    async fn grown(&self, state: &LogState) -> Result<Grown<'_>, SequencerError> {
        let mut tiles = Tiles::default();
        for path in Edge::tiles(state.size) {
            let bytes = self.store.log_tile(path).await?;
            let bytes = bytes.ok_or(SequencerError::Missing(path))?;
            let kept = tiles.insert(path, &bytes);
            kept.map_err(|_| SequencerError::Missing(path))?;
        }
        let edge = Edge::load(state.size, &tiles);
        Ok(Grown {
            signer: &self.signer,
            trust_domain: self.store.trust_domain(),
            edge: edge.map_err(|missing| SequencerError::Missing(missing.0))?,
            open: self.open_bundle(state.size).await?,
        })
    }

    async fn open_bundle(&self, size: u64) -> Result<Option<LogBundle>, SequencerError> {
        let number = size / u64::from(TILE_WIDTH);
        let Some(path) = TilePath::in_tree(tlog::Content::Entries, number, size) else {
            return Ok(None);
        };
        let entries = self.store.log_tile(path).await?;
        let last_end = self.store.log_bundle_end(number).await?;
        match (entries, last_end) {
            (Some(entries), Some(last_end)) => Ok(Some(LogBundle {
                number,
                count: path.width(),
                entries,
                last_end,
            })),
            _ => Err(SequencerError::Missing(path)),
        }
    }
}

#[cfg(test)]
#[path = "sequencer/tests.rs"]
mod tests;
