//! What the other live replicas have told of their agents, some seconds ago at most.

use runtime::Clock;

use crate::store::{Store, StoreError};
use crate::watch::HoldUps;

/// Asks the store; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Elsewhere {
    pub(super) store: Store,
    /// This one.
    pub(super) replica: String,
    pub(super) clock: Clock,
}

/// A live replica beside this one.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) name: String,
    /// The number of the newest revision that all its agents have acknowledged.
    pub(super) enforced: u64,
    /// `None`: it has told nothing yet, or nothing that this build can read.
    pub(super) hold_ups: Option<HoldUps>,
}

impl Elsewhere {
    pub(super) async fn others(&self) -> Result<Vec<Other>, StoreError> {
        let now = self.clock.now();
        let others = self.store.other_replicas(&self.replica, now).await?;
        let read = |json: String| serde_json::from_str(&json).ok();
        let others = others.into_iter().map(|other| Other {
            name: other.name,
            enforced: other.enforced,
            hold_ups: other.hold_ups.and_then(read),
        });
        Ok(others.collect())
    }
}
