//! Which serial each agent showed last in a handshake. An expired SVID of which a newer one has
//! been seen does not come back (`Reattest`), so what is seen is noted before it is served.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use identity::{SerialNumber, SpiffeId};

use crate::peer::AgentPeer;
use crate::store::Store;

/// Cheap to clone; writes to the store only what it has not written.
#[derive(Debug, Clone)]
pub(crate) struct SeenSerials {
    store: Store,
    noted: Arc<Mutex<HashMap<SpiffeId, SerialNumber>>>,
}

impl SeenSerials {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            noted: Arc::default(),
        }
    }

    /// A store that is away keeps nobody out: the next handshake notes it.
    pub(super) async fn note(&self, agent: &AgentPeer) {
        let known = self.noted().get(agent.spiffe_id()) == Some(&agent.serial());
        if known {
            return;
        }
        let outcome = self
            .store
            .note_seen_serial(agent.spiffe_id(), agent.serial())
            .await;
        match outcome {
            Ok(()) => {
                self.noted()
                    .insert(agent.spiffe_id().clone(), agent.serial());
            }
            Err(error) => tracing::warn!(
                agent = %agent.spiffe_id(),
                error = %runtime::exit::one_line(&error),
                "the serial that an agent showed was not noted"
            ),
        }
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, HashMap<SpiffeId, SerialNumber>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
