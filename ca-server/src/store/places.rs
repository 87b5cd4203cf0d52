//! Which place each Service has in the mesh's address ranges.
//!
//! Invariant: a Service has a place as soon as it is committed, no two names share one, and a name
//! never loses its own.

use std::collections::BTreeMap;

use identity::QualifiedName;
use policy::{Kind, ObjectKey};

use super::database::{Database, Statement, Transaction};
use super::{Store, StoreError};

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
        let all = Statement::new("SELECT place, namespace, name FROM service_places");
        let rows = self.database.fetch_all(all).await?;
        rows.iter()
            .map(|row| {
                let name = QualifiedName {
                    namespace: row.parsed("namespace")?,
                    name: row.parsed("name")?,
                };
                Ok((name, Place::from_stored(row.plain("place")?)?))
            })
            .collect()
    }
}

/// For Services that a build without places wrote.
pub(super) async fn give_missing(database: &Database) -> Result<(), StoreError> {
    let give = Statement::new(
        "INSERT INTO service_places (namespace, name)
         SELECT namespace, name FROM objects
         WHERE kind = $1 AND NOT EXISTS (
             SELECT 1 FROM service_places
             WHERE service_places.namespace = objects.namespace
               AND service_places.name = objects.name)
         ORDER BY revision, namespace, name
         ON CONFLICT (namespace, name) DO NOTHING",
    );
    let give = give.bind(Kind::Service.as_str());
    database.execute(give).await.map(drop)
}

/// Gives a Service its place, unless its name has one. Looks first: on PostgreSQL an insert that
/// does nothing would still use up a place.
pub(super) async fn give(transaction: &mut Transaction, key: &ObjectKey) -> Result<(), StoreError> {
    let (Kind::Service, Some(namespace)) = (key.kind, &key.namespace) else {
        return Ok(());
    };
    let give = Statement::new(
        "INSERT INTO service_places (namespace, name)
         SELECT $1, $2
         WHERE NOT EXISTS (SELECT 1 FROM service_places WHERE namespace = $1 AND name = $2)
         ON CONFLICT (namespace, name) DO NOTHING",
    )
    .bind(namespace.to_string())
    .bind(key.name.to_string());
    transaction.execute(give).await.map(drop)
}
