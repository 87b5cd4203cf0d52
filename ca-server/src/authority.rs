//! The authorities of the trust domain: the root, sealed in the store, and this replica's
//! intermediate, whose key is in memory only.
//!
//! Invariant: outside of the moments in which an intermediate is signed, no key that the bundle
//! trusts is in this process. Nothing here decides what may be signed: `issue` does, and only it
//! and this module reach a signing key.

mod kek;
mod renewal;
mod replica;
mod root;

use std::sync::Arc;

use arc_swap::ArcSwap;
use identity::x509::{Bundle, BundleSet, RootCertificate};
use proto::mesh::v1 as wire;

pub use kek::KekError;
pub(crate) use renewal::IntermediateRenewal;
pub(crate) use replica::Intermediate;
pub use root::RootError;
pub(crate) use root::{RootKeeper, kek_and_bundle};

/// A cheap handle on what this replica signs with.
#[derive(Debug, Clone)]
pub(crate) struct Authority(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: RootCertificate,
    bundles: BundleSet,
    bundle: Bundle,
    wire_bundle: wire::Bundle,
    current: ArcSwap<Intermediate>,
}

impl Authority {
    fn new(root: RootCertificate, bundle: Bundle, first: Intermediate) -> Self {
        let wire_bundle = wire::Bundle {
            trust_domain: bundle.trust_domain().to_string(),
            sequence: bundle.sequence(),
            x509_authorities: bundle
                .authorities()
                .iter()
                .map(|root| root.der().to_vec())
                .collect(),
        };
        Self(Arc::new(Inner {
            root,
            bundles: BundleSet::from(bundle.clone()),
            bundle,
            wire_bundle,
            current: ArcSwap::from_pointee(first),
        }))
    }

    /// What signs leaves now; a later call may answer with its successor.
    pub(crate) fn intermediate(&self) -> Arc<Intermediate> {
        self.0.current.load_full()
    }

    pub(crate) fn root(&self) -> &RootCertificate {
        &self.0.root
    }

    pub(crate) fn bundle(&self) -> &Bundle {
        &self.0.bundle
    }

    pub(crate) fn bundles(&self) -> &BundleSet {
        &self.0.bundles
    }

    /// The bundle as agents get it.
    pub(crate) fn wire_bundle(&self) -> wire::Bundle {
        self.0.wire_bundle.clone()
    }

    fn replace_intermediate(&self, successor: Intermediate) {
        self.0.current.store(Arc::new(successor));
    }
}
