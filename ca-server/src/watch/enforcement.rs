//! Time to enforce: for each revision, when the last connected agent acknowledged it. Where the
//! store is shared, each replica tells it how far its own agents are, and from time to time that it
//! lives: a revision is enforced when no live replica is behind it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use policy::Revision;
use runtime::{Clock, Shutdown};
use time::OffsetDateTime;

use super::presence::Presence;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::store::Store;

/// Revisions that wait; older ones stay unmarked in the store when agents lag behind for so long.
const KEPT: usize = 1_024;
/// How often a replica says that it lives.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);

/// The background job.
#[derive(Debug)]
pub(crate) struct EnforcementKeeper {
    replica: String,
    presence: Presence,
    registry: Registry,
    store: Store,
    clock: Clock,
    metrics: Metrics,
}

/// Revisions in force that are not everywhere enforced, the oldest first.
#[derive(Debug, Default)]
struct Waiting(VecDeque<(Revision, OffsetDateTime)>);

impl EnforcementKeeper {
    pub(crate) fn new(
        replica: String,
        presence: Presence,
        registry: Registry,
        store: Store,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        Self {
            replica,
            presence,
            registry,
            store,
            clock,
            metrics,
        }
    }

    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut acknowledgements = self.presence.subscribe();
        let mut snapshots = self.registry.subscribe();
        let mut waiting = Waiting::default();
        let mut known = self.registry.snapshot().revision();
        let mut enforced = known;
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            let head = snapshots.borrow_and_update().revision();
            waiting.committed(known, head, self.clock.now());
            known = head;
            self.metrics.connected(self.presence.count());
            while let Some((revision, committed_at)) =
                waiting.next_enforced(|revision| self.presence.is_enforced(revision))
            {
                self.mark(revision, committed_at).await;
                enforced = revision;
            }
            tokio::select! {
                () = shutdown.draining() => {
                    self.leave().await;
                    return Ok(());
                }
                _ = heartbeat.tick(), if self.store.is_shared() => self.note(enforced).await,
                Ok(()) = acknowledgements.changed() => {}
                Ok(()) = snapshots.changed() => {}
                else => {
                    shutdown.draining().await;
                    return Ok(());
                }
            }
        }
    }

    async fn mark(&self, revision: Revision, committed_at: OffsetDateTime) {
        let now = self.clock.now();
        if self.presence.count() > 0 {
            self.metrics.enforced(now - committed_at);
        }
        self.note(revision).await;
    }

    async fn note(&self, revision: Revision) {
        let now = self.clock.now();
        if let Err(error) = self.store.note_enforced(&self.replica, revision, now).await {
            tracing::warn!(
                %revision,
                error = %runtime::exit::one_line(&error),
                "when a revision was enforced could not be kept"
            );
        }
    }

    async fn leave(&self) {
        if let Err(error) = self.store.leave(&self.replica).await {
            tracing::warn!(
                error = %runtime::exit::one_line(&error),
                "other replicas will wait for this one a little longer"
            );
        }
    }
}

impl Waiting {
    /// The registry may skip over revisions; each of them is kept.
    fn committed(&mut self, known: Revision, head: Revision, now: OffsetDateTime) {
        let first = if known.epoch == head.epoch {
            known.number + 1
        } else {
            head.number
        };
        for number in first..=head.number {
            let revision = Revision {
                epoch: head.epoch,
                number,
            };
            self.0.push_back((revision, now));
        }
        while self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    fn next_enforced(
        &mut self,
        enforced: impl Fn(Revision) -> bool,
    ) -> Option<(Revision, OffsetDateTime)> {
        self.0.pop_front_if(|(revision, _)| enforced(*revision))
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-01-01 00:00 UTC);

    fn revision(number: u64) -> Revision {
        Revision { epoch: 1, number }
    }

    #[test]
    fn a_later_revision_waits_for_the_earlier() {
        let mut waiting = Waiting::default();
        waiting.committed(revision(1), revision(3), NOW);
        assert_eq!(waiting.next_enforced(|at| at == revision(3)), None);
    }

    #[test]
    fn revisions_that_were_skipped_are_marked_too() {
        let mut waiting = Waiting::default();
        waiting.committed(revision(1), revision(3), NOW);
        let marked = std::iter::from_fn(|| waiting.next_enforced(|_| true));
        assert!(marked.eq([(revision(2), NOW), (revision(3), NOW)]));
    }
}
