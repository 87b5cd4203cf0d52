//! Places of Services: given in the transaction that writes the Service.

use std::collections::BTreeMap;

use identity::QualifiedName;
use policy::{Kind, ObjectKey};
use sqlx::{Sqlite as Engine, Transaction};

use super::Sqlite;
use super::columns::{parsed, plain};
use crate::store::StoreError;
use crate::store::places::Place;

impl Sqlite {
    pub(in crate::store) async fn places(
        &self,
    ) -> Result<BTreeMap<QualifiedName, Place>, StoreError> {
        sqlx::query("SELECT place, namespace, name FROM service_places")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| {
                let name = QualifiedName {
                    namespace: parsed(row, "namespace")?,
                    name: parsed(row, "name")?,
                };
                Ok((name, Place::from_stored(plain(row, "place")?)?))
            })
            .collect()
    }

    /// For Services that a build without places wrote.
    pub(super) async fn give_missing_places(&self) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO service_places (namespace, name)
             SELECT namespace, name FROM objects WHERE kind = $1 ORDER BY revision, namespace, name
             ON CONFLICT (namespace, name) DO NOTHING",
        )
        .bind(Kind::Service.as_str())
        .execute(&self.writer)
        .await
        .map(drop)
    }
}

/// Gives a Service its place, unless its name has one.
pub(super) async fn give(
    transaction: &mut Transaction<'static, Engine>,
    key: &ObjectKey,
) -> Result<(), StoreError> {
    let (Kind::Service, Some(namespace)) = (key.kind, &key.namespace) else {
        return Ok(());
    };
    sqlx::query(
        "INSERT INTO service_places (namespace, name) VALUES ($1, $2)
         ON CONFLICT (namespace, name) DO NOTHING",
    )
    .bind(namespace.to_string())
    .bind(key.name.to_string())
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
