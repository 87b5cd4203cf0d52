//! Notes in the store which agents have acknowledged the bundle in force, so that whoever looks
//! after the roots knows it of the agents of every replica.
//!
//! Invariant: an agent is noted for a bundle only when it has acknowledged a revision that this
//! replica has told with it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use identity::SpiffeId;
use policy::Revision;
use runtime::Shutdown;

use super::presence::{Presence, StreamId};
use crate::registry::Registry;
use crate::rotation::Rotation;
use crate::store::Store;

/// Acknowledgements of a fleet come in bursts; each burst is a few statements.
const BURST: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_secs(1);

/// The background job.
#[derive(Debug)]
pub(crate) struct BundleKeeper {
    presence: Presence,
    registry: Registry,
    store: Store,
    rotation: Rotation,
}

/// What is known of one bundle.
#[derive(Debug)]
struct Told {
    sequence: u64,
    /// The first revision that this replica has told with it.
    since: Revision,
    noted: HashMap<SpiffeId, StreamId>,
}

impl BundleKeeper {
    pub(crate) fn new(
        presence: Presence,
        registry: Registry,
        store: Store,
        rotation: Rotation,
    ) -> Self {
        Self {
            presence,
            registry,
            store,
            rotation,
        }
    }

    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut acknowledgements = self.presence.subscribe();
        let mut snapshots = self.registry.subscribe();
        let mut told = Told::of(&self.registry);
        loop {
            let snapshot = snapshots.borrow_and_update().clone();
            acknowledgements.mark_unchanged();
            if snapshot.roots().sequence() != told.sequence {
                told = Told::of(&self.registry);
            }
            let pause = if self.note(&mut told).await {
                BURST
            } else {
                RETRY
            };
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            if pause == RETRY {
                continue;
            }
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                Ok(()) = acknowledgements.changed() => {}
                Ok(()) = snapshots.changed() => {}
            }
        }
    }

    /// `false`: the store was not to be had.
    async fn note(&self, told: &mut Told) -> bool {
        let news: Vec<_> = self
            .presence
            .acknowledged_by(told.since)
            .into_iter()
            .filter(|(agent, stream)| told.noted.get(agent) != Some(stream))
            .collect();
        if news.is_empty() {
            return true;
        }
        let agents: Vec<_> = news.iter().map(|(agent, _)| agent.clone()).collect();
        if let Err(error) = self.store.note_bundle(&agents, told.sequence).await {
            tracing::warn!(
                error = %runtime::exit::one_line(&error),
                "which agents have the bundle could not be kept"
            );
            return false;
        }
        told.noted.extend(news);
        self.rotation.look();
        true
    }
}

impl Told {
    fn of(registry: &Registry) -> Self {
        let snapshot = registry.snapshot();
        Self {
            sequence: snapshot.roots().sequence(),
            since: snapshot.revision(),
            noted: HashMap::new(),
        }
    }
}
