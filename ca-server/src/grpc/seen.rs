//! Which serial each agent showed last in a handshake. An expired SVID of which a newer one has
//! been seen does not come back (`Reattest`), so what is seen is noted before it is served; while the
//! store is away, as soon as it is back.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use identity::{SerialNumber, SpiffeId};
use runtime::Shutdown;

use crate::peer::AgentPeer;
use crate::spool::StoreStanding;
use crate::store::Store;

/// Cheap to clone; writes to the store only what it has not written.
#[derive(Debug, Clone)]
pub(crate) struct SeenSerials {
    store: Store,
    standing: StoreStanding,
    noted: Arc<Mutex<HashMap<SpiffeId, SerialNumber>>>,
    /// Seen while the store was away; the last of each agent.
    waiting: Arc<Mutex<HashMap<SpiffeId, SerialNumber>>>,
}

impl SeenSerials {
    pub(crate) fn new(store: Store, standing: StoreStanding) -> Self {
        Self {
            store,
            standing,
            noted: Arc::default(),
            waiting: Arc::default(),
        }
    }

    /// A store that is away keeps nobody out: the next handshake notes it.
    pub(super) async fn note(&self, agent: &AgentPeer) {
        let known = self.noted().get(agent.spiffe_id()) == Some(&agent.serial());
        if known {
            return;
        }
        if self.standing.is_away() {
            self.waiting()
                .insert(agent.spiffe_id().clone(), agent.serial());
            return;
        }
        self.write(agent.spiffe_id(), agent.serial()).await;
    }

    /// Notes what was seen while the store was away, until the shutdown begins.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = self.standing.gone() => {}
            }
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = self.standing.back() => {}
            }
            let waiting = std::mem::take(&mut *self.waiting());
            for (agent, serial) in waiting {
                self.write(&agent, serial).await;
            }
        }
    }

    async fn write(&self, agent: &SpiffeId, serial: SerialNumber) {
        match self.store.note_seen_serial(agent, serial).await {
            Ok(()) => drop(self.noted().insert(agent.clone(), serial)),
            Err(error) => tracing::warn!(
                %agent,
                error = %runtime::exit::one_line(&error),
                "the serial that an agent showed was not noted"
            ),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<SpiffeId, SerialNumber>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, HashMap<SpiffeId, SerialNumber>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
