//! Which revisions somebody has seen that the store does not hold: evidence that it was restored, or
//! failed over to a server that had not heard of everything.
//!
//! Invariant: only what is above the head of the store's own epoch counts, and of an agent only for
//! as long as it is one; a new epoch, or a head that has caught up, ends it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::SpiffeId;
use policy::Revision;

/// Cheap to clone; all clones show the same.
#[derive(Clone, Debug)]
pub(crate) struct Sightings(Arc<Mutex<Table>>);

#[derive(Debug)]
struct Table {
    head: Revision,
    /// What this replica itself has put in force.
    own: Revision,
    agents: BTreeMap<SpiffeId, Revision>,
}

/// The store lacks revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Of the store.
    pub head: Revision,
    /// The highest that was seen.
    pub seen: Revision,
    /// What this replica has seen itself, if that is more than the store holds.
    pub own: Option<Revision>,
    /// Agents that hold more than the store.
    pub agents: BTreeMap<SpiffeId, Revision>,
}

impl Sightings {
    pub(super) fn new(head: Revision) -> Self {
        Self(Arc::new(Mutex::new(Table {
            head,
            own: head,
            agents: BTreeMap::new(),
        })))
    }

    /// An agent holds this revision.
    pub(crate) fn note(&self, agent: &SpiffeId, seen: Revision) {
        let mut table = self.table();
        if is_above(seen, table.head) {
            let known = table.agents.entry(agent.clone()).or_insert(seen);
            known.number = known.number.max(seen.number);
        }
    }

    /// It is no agent any more.
    pub(crate) fn forget(&self, agent: &SpiffeId) {
        self.table().agents.remove(agent);
    }

    /// What the store holds, and what this replica has put in force.
    pub(super) fn compare(&self, head: Revision, own: Revision) {
        let mut table = self.table();
        (table.head, table.own) = (head, own);
        table.agents.retain(|_, seen| is_above(*seen, head));
    }

    pub(crate) fn behind(&self) -> Option<Behind> {
        let table = self.table();
        let own = Some(table.own).filter(|own| is_above(*own, table.head));
        let all = table.agents.values().copied().chain(own);
        Some(Behind {
            head: table.head,
            seen: all.max_by_key(|seen| seen.number)?,
            own,
            agents: table.agents.clone(),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_above(seen: Revision, head: Revision) -> bool {
    seen.epoch == head.epoch && seen.number > head.number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(epoch: u64, number: u64) -> Revision {
        Revision { epoch, number }
    }

    fn agent(name: &str) -> SpiffeId {
        format!("spiffe://td/countersign/agent/join-token/{name}")
            .parse()
            .unwrap()
    }

    #[test]
    fn what_the_store_holds_and_what_another_epoch_held_proves_nothing() {
        let sightings = Sightings::new(revision(1, 5));
        sightings.note(&agent("a"), revision(1, 5));
        sightings.note(&agent("b"), revision(2, 9));
        assert_eq!(sightings.behind(), None);
    }

    #[test]
    fn the_highest_that_anybody_has_seen_counts() {
        let sightings = Sightings::new(revision(1, 5));
        sightings.note(&agent("a"), revision(1, 7));
        sightings.note(&agent("b"), revision(1, 6));
        sightings.compare(revision(1, 5), revision(1, 8));
        let behind = sightings.behind().unwrap();
        assert_eq!((behind.seen.number, behind.agents.len()), (8, 2));
    }

    #[test]
    fn an_agent_that_was_ended_is_no_witness() {
        let sightings = Sightings::new(revision(1, 5));
        sightings.note(&agent("a"), revision(1, 7));
        sightings.forget(&agent("a"));
        assert_eq!(sightings.behind(), None);
    }

    #[test]
    fn a_store_that_has_caught_up_or_begun_anew_is_not_behind() {
        for head in [revision(1, 7), revision(2, 6)] {
            let sightings = Sightings::new(revision(1, 5));
            sightings.note(&agent("a"), revision(1, 7));
            sightings.compare(head, head);
            assert_eq!(sightings.behind(), None);
        }
    }
}
