//! Puts snapshots in force, and with them the roots and the deny-list that they hold.
//!
//! Invariant: what is held here before the store has a revision of it is on the deny-list of every
//! snapshot that is published, until it is settled. It changes no revision's number.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::x509::{Denied, MOST_DENIED};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::{PublishedDenials, RegistrySnapshot};
use crate::authority::PublishedRoots;

/// What is refused before the store holds it.
const MOST_HELD: usize = MOST_DENIED / 50;

#[derive(Debug)]
pub(super) struct Publisher {
    snapshots: watch::Sender<Arc<RegistrySnapshot>>,
    roots: watch::Sender<Arc<PublishedRoots>>,
    denials: watch::Sender<Arc<PublishedDenials>>,
    /// Locked while anything is published.
    held: Mutex<Vec<HeldDenial>>,
}

/// What a publisher's values are read from.
pub(super) struct Readers {
    pub(super) snapshots: watch::Receiver<Arc<RegistrySnapshot>>,
    pub(super) roots: watch::Receiver<Arc<PublishedRoots>>,
    pub(super) denials: watch::Receiver<Arc<PublishedDenials>>,
}

/// An entry, and when it leaves by itself.
pub(crate) type HeldDenial = (Denied, Option<OffsetDateTime>);

/// Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MOST_HELD} identities would be refused here before the store holds it")]
pub(crate) struct NotHeld;

impl Publisher {
    pub(super) fn of(first: RegistrySnapshot) -> (Self, Readers) {
        let (roots, of_roots) = watch::channel(Arc::clone(first.roots()));
        let (denials, of_denials) = watch::channel(Arc::clone(first.denials()));
        let (snapshots, of_snapshots) = watch::channel(Arc::new(first));
        let readers = Readers {
            snapshots: of_snapshots,
            roots: of_roots,
            denials: of_denials,
        };
        let publisher = Self {
            snapshots,
            roots,
            denials,
            held: Mutex::default(),
        };
        (publisher, readers)
    }

    pub(super) fn current(&self) -> Arc<RegistrySnapshot> {
        self.snapshots.borrow().clone()
    }

    pub(super) fn publish(&self, next: RegistrySnapshot) {
        let held = self.held();
        self.put(next, &held);
    }

    pub(super) fn has_room(&self, count: usize) -> Result<(), NotHeld> {
        match self.held().len() + count > MOST_HELD {
            true => Err(NotHeld),
            false => Ok(()),
        }
    }

    /// Refuses more from now on, within the revision that is in force.
    pub(super) fn hold(&self, more: Vec<HeldDenial>) -> Result<(), NotHeld> {
        let mut held = self.held();
        if held.len() + more.len() > MOST_HELD {
            return Err(NotHeld);
        }
        held.extend(more);
        let current = self.current();
        let same = PublishedDenials::clone(current.denials());
        self.put(current.with_denials(current.revision(), same), &held);
        Ok(())
    }

    /// `next` is of a store that holds all of it.
    pub(super) fn settle(&self, next: RegistrySnapshot) {
        let mut held = self.held();
        held.clear();
        self.put(next, &held);
    }

    /// The roots and the deny-list first: who follows snapshots must find them.
    fn put(&self, mut next: RegistrySnapshot, held: &[HeldDenial]) {
        if let Err(error) = next.refuse_too(held) {
            tracing::error!(
                alarm = "revocations-not-obeyed",
                %error,
                "what waits for the store does not fit the deny-list beside what the store holds"
            );
        }
        publish_changed(&self.roots, next.roots());
        publish_changed(&self.denials, next.denials());
        self.snapshots.send_replace(Arc::new(next));
    }

    fn held(&self) -> MutexGuard<'_, Vec<HeldDenial>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn publish_changed<T>(known: &watch::Sender<Arc<T>>, next: &Arc<T>) {
    known.send_if_modified(|known| {
        let changed = !Arc::ptr_eq(known, next);
        if changed {
            *known = Arc::clone(next);
        }
        changed
    });
}
