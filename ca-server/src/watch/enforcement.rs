//! Time to enforce: for each revision, when the last connected agent acknowledged it, counted from
//! its commit. Where the store is shared, each replica tells it how far its own agents are, and from
//! time to time that it lives and who holds it up: a revision is enforced when no live replica is
//! behind it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use policy::Revision;
use runtime::{Clock, Shutdown};

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
struct Waiting(VecDeque<Revision>);

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
            waiting.committed(known, head);
            known = head;
            self.metrics.connected(self.presence.count());
            let done = waiting.enforced(|revision| self.presence.is_enforced(revision));
            if let Some(last) = done.last() {
                enforced = *last;
                self.note(enforced).await;
                self.measure(&done).await;
            }
            tokio::select! {
                () = shutdown.draining() => {
                    self.leave().await;
                    return Ok(());
                }
                _ = heartbeat.tick(), if self.store.is_shared() => {
                    self.note(enforced).await;
                    self.tell(head).await;
                }
                Ok(()) = acknowledgements.changed() => {}
                Ok(()) = snapshots.changed() => {}
                else => {
                    shutdown.draining().await;
                    return Ok(());
                }
            }
        }
    }

    /// Of each revision, and of this replica's agents.
    async fn measure(&self, done: &[Revision]) {
        let (Some(first), Some(last)) = (done.first(), done.last()) else {
            return;
        };
        if self.presence.count() == 0 {
            return;
        }
        // An epoch begins with its newest revision.
        let first = if first.epoch == last.epoch {
            first
        } else {
            last
        };
        let numbers = first.number..=last.number;
        match self.store.ages_of(numbers, self.clock.now()).await {
            Ok(ages) => ages.into_iter().for_each(|age| self.metrics.enforced(age)),
            Err(error) => tracing::warn!(
                revision = %last,
                error = %runtime::exit::one_line(&error),
                "how long enforcement took could not be read"
            ),
        }
    }

    /// The other replicas, whom writes are to wait for here.
    async fn tell(&self, head: Revision) {
        let hold_ups = self.presence.hold_ups(head);
        let json = serde_json::to_string(&hold_ups).expect("its keys are text and numbers");
        if let Err(error) = self.store.tell_hold_ups(&self.replica, &json).await {
            tracing::warn!(
                error = %runtime::exit::one_line(&error),
                "other replicas could not be told who has not acknowledged what is in force"
            );
        }
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
    fn committed(&mut self, known: Revision, head: Revision) {
        let first = if known.epoch == head.epoch {
            known.number + 1
        } else {
            head.number
        };
        let epoch = head.epoch;
        let numbers = first..=head.number;
        self.0
            .extend(numbers.map(|number| Revision { epoch, number }));
        while self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// Those that wait no longer, the oldest first.
    fn enforced(&mut self, enforced: impl Fn(Revision) -> bool) -> Vec<Revision> {
        let done = std::iter::from_fn(|| self.0.pop_front_if(|revision| enforced(*revision)));
        done.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(number: u64) -> Revision {
        Revision { epoch: 1, number }
    }

    #[test]
    fn a_later_revision_waits_for_the_earlier() {
        let mut waiting = Waiting::default();
        waiting.committed(revision(1), revision(3));
        assert_eq!(waiting.enforced(|at| at == revision(3)), []);
    }

    #[test]
    fn revisions_that_were_skipped_are_marked_too() {
        let mut waiting = Waiting::default();
        waiting.committed(revision(1), revision(3));
        assert_eq!(waiting.enforced(|_| true), [revision(2), revision(3)]);
        assert_eq!(waiting.enforced(|_| true), []);
    }
}
