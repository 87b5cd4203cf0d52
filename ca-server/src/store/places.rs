//! Which place each Service has in the mesh's address ranges.
//!
//! Invariant: a Service has a place as soon as it is committed, no two names share one, and a name
//! never loses its own.

use std::collections::BTreeMap;

use identity::QualifiedName;

use super::{Backend, Store, StoreError};

/// From 1; addresses are computed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(u32);

impl Place {
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    pub(super) fn from_stored(number: i64) -> Result<Self, StoreError> {
        u32::try_from(number)
            .map(Self)
            .map_err(|error| StoreError::corrupt("place", error))
    }

    #[cfg(test)]
    pub(crate) fn of_number(number: u32) -> Self {
        Self(number)
    }
}

impl Store {
    /// Every name that ever was a Service's, with its place.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn places(&self) -> Result<BTreeMap<QualifiedName, Place>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.places().await,
        }
    }
}
