//! The authorities of the trust domain: the roots, sealed in the store, and this replica's
//! intermediate, whose key is in memory only.
//!
//! Invariant: outside of the moments in which an intermediate is signed, no key that the bundle
//! trusts is in this process. Nothing here decides what may be signed: `issue` does, and only it
//! and this module reach a signing key.

mod kek;
pub(crate) mod lifecycle;
mod log_key;
mod renewal;
mod replica;
mod root;
mod roots;
mod sealed;
mod upstream;

use std::sync::Arc;

use arc_swap::ArcSwap;
use proto::mesh::v1 as wire;
use tokio::sync::{Notify, watch};

pub use kek::KekError;
pub(crate) use kek::{Kek, KekSource};
pub(crate) use renewal::IntermediateRenewal;
pub(crate) use replica::Intermediate;
pub use root::RootError;
pub(crate) use root::{KeyPlaces, MadeRoot, RootKeeper, kek_and_bundle, rotate_kek};
pub(crate) use roots::PublishedRoots;
pub use upstream::UpstreamError;
pub(crate) use upstream::{RootsAbove, ToldAbove};

/// A cheap handle on what this replica signs with, and on what the trust domain trusts.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    roots: watch::Receiver<Arc<PublishedRoots>>,
    current: Arc<ArcSwap<Intermediate>>,
    /// Counts what those who show certificates of ours must follow.
    changes: watch::Sender<u64>,
    successor_wanted: Arc<Notify>,
    replaced: Arc<Notify>,
}

impl Authority {
    pub(crate) fn new(roots: watch::Receiver<Arc<PublishedRoots>>, first: Intermediate) -> Self {
        Self {
            roots,
            current: Arc::new(ArcSwap::from_pointee(first)),
            changes: watch::Sender::new(0),
            successor_wanted: Arc::default(),
            replaced: Arc::default(),
        }
    }

    /// What signs leaves now; a later call may answer with its successor.
    pub(crate) fn intermediate(&self) -> Arc<Intermediate> {
        self.current.load_full()
    }

    /// What the trust domain trusts now.
    pub(crate) fn roots(&self) -> Arc<PublishedRoots> {
        Arc::clone(&self.roots.borrow())
    }

    /// The bundle as agents get it.
    pub(crate) fn wire_bundle(&self) -> wire::Bundle {
        self.roots.borrow().wire().clone()
    }

    /// Wakes when this replica's own certificate must be issued again, or published with another
    /// bundle.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Has the intermediate renewed before its time.
    pub(crate) fn want_successor(&self) {
        self.successor_wanted.notify_one();
    }

    /// Resolves when the intermediate was replaced since the last time; for one who waits.
    pub(crate) async fn replaced(&self) {
        self.replaced.notified().await;
    }

    fn replace_intermediate(&self, successor: Intermediate) {
        self.current.store(Arc::new(successor));
        self.replaced.notify_one();
    }

    fn announce_change(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}
