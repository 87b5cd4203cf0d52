//! What is in force: the objects of one revision, which revision last changed each, and its digest.
//!
//! Invariant: it costs what a change touches, not what there is: what follows shares the rest.

mod stamps;

use std::sync::Arc;

use crypto::digest::Sha256;
use identity::Namespace;
use policy::{Change, ObjectKey, ObjectSet, Outcome, Resource, Revision};
use tokio::task::spawn_blocking;

use super::database::{Row, Statement, Transaction};
use super::{Store, StoreError, write};
use stamps::{Stamp, Stamps};

/// Objects that are read at once.
const PAGE: u32 = 4_096;

/// Immutable; cloning shares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    revision: Revision,
    objects: ObjectSet,
    stamps: Stamps,
}

/// Why the store's configuration cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum InForceError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store holds {key}, which this version refuses: {why}")]
    Object { key: ObjectKey, why: String },
}

impl InForce {
    /// No objects.
    #[must_use]
    pub fn nothing(revision: Revision) -> Self {
        Self {
            revision,
            objects: ObjectSet::new(),
            stamps: Stamps::default(),
        }
    }

    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    #[must_use]
    pub fn objects(&self) -> &ObjectSet {
        &self.objects
    }

    /// The object, and the revision that last changed it.
    #[must_use]
    pub fn get<'a>(
        &'a self,
        key: &ObjectKey,
    ) -> Option<(&'a ObjectKey, &'a Arc<Resource>, Revision)> {
        let (key, stamp) = self.stamps.get(key)?;
        Some((key, self.objects.get(key)?, stamp.revision))
    }

    /// All objects, in key order, each with the revision that last changed it.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<Resource>, Revision)> {
        let both = self.objects.iter().zip(self.stamps.values());
        both.map(|((key, resource), stamp)| (key, resource, stamp.revision))
    }

    /// SHA-256 over those of the kinds in each namespace, which are over those of each object's
    /// canonical JSON; all in key order.
    pub(super) fn content_sha256(&mut self) -> Sha256 {
        self.stamps.content_sha256()
    }

    /// The same objects at a later revision.
    #[must_use]
    pub fn at(&self, revision: Revision) -> Self {
        Self {
            revision,
            ..self.clone()
        }
    }

    /// Writes one object, whose canonical JSON is `json`.
    pub(crate) fn put(&mut self, revision: Revision, resource: Resource, json: &str) -> Outcome {
        let key = resource.key();
        let outcome = self.objects.apply(Change::Put(resource));
        if outcome != Outcome::Unchanged {
            let sha256 = Sha256::of(json.as_bytes());
            self.stamps.insert(key, Stamp { revision, sha256 });
        }
        outcome
    }

    /// The digests are made now, and not by each change that is judged on top of it.
    fn settled(mut self) -> Self {
        self.content_sha256();
        self
    }

    fn with(mut self, rows: &[Row]) -> Result<Self, InForceError> {
        for row in rows {
            let revision = Revision {
                number: row.unsigned("revision")?,
                ..self.revision
            };
            match row.plain::<Option<&str>>("json")? {
                Some(json) => self.put(revision, read(row, json)?, json),
                None => self.delete(&write::key(row)?),
            };
        }
        Ok(self)
    }

    pub(super) fn delete(&mut self, key: &ObjectKey) -> Outcome {
        self.stamps.remove(key);
        self.objects.apply(Change::Delete(key.clone()))
    }
}

impl Store {
    /// The newest revision and all objects in force at it.
    ///
    /// # Errors
    /// The store is unavailable or damaged, or holds what this version cannot obey.
    pub async fn in_force(&self) -> Result<InForce, InForceError> {
        let mut transaction = self.database.snapshot().await?;
        let head = transaction.fetch_one(write::head()).await?;
        let mut whole = InForce::nothing(self.head_in(&head)?);
        let mut rows = page(&mut transaction, None).await?;
        while let Some(last) = rows.last() {
            let last = write::key(last)?;
            // One page is read while the one before is understood.
            let next = page(&mut transaction, Some(&last));
            let understood = spawn_blocking(move || whole.with(&rows));
            let (next, understood) = tokio::join!(next, understood);
            whole = understood.map_err(|error| StoreError::corrupt("object", error))??;
            rows = next?;
        }
        let settled = spawn_blocking(move || whole.settled()).await;
        Ok(settled.map_err(|error| StoreError::corrupt("object", error))?)
    }

    /// As [`Self::in_force`], but of a store that has gone on from `base` it reads only what was written
    /// since.
    ///
    /// # Errors
    /// As [`Self::in_force`].
    pub async fn in_force_since(&self, base: &InForce) -> Result<InForce, InForceError> {
        let mut transaction = self.database.snapshot().await?;
        let head = transaction.fetch_one(write::head()).await?;
        let head = self.head_in(&head)?;
        let known = base.revision();
        if head.epoch != known.epoch || head.number < known.number {
            drop(transaction);
            return self.in_force().await;
        }
        let mut whole = base.at(head);
        let mut last = None;
        loop {
            let rows = written(&mut transaction, known.number, last.as_ref()).await?;
            whole = whole.with(&rows)?;
            match rows.last() {
                Some(row) => last = Some((row.unsigned("revision")?, write::key(row)?)),
                None => return Ok(whole.settled()),
            }
        }
    }
}

/// What was written above revision `from`, in the order of the revisions.
async fn written(
    transaction: &mut Transaction,
    from: u64,
    after: Option<&(u64, ObjectKey)>,
) -> Result<Vec<Row>, StoreError> {
    let Some((revision, key)) = after else {
        let first = "SELECT revision, kind, namespace, name, json
                     FROM object_history WHERE revision > $1
                     ORDER BY revision, kind, namespace, name LIMIT $2";
        let first = Statement::new(first).bind(write::column(from)).bind(PAGE);
        return transaction.fetch_all(first).await;
    };
    let next = "SELECT revision, kind, namespace, name, json
                FROM object_history
                WHERE revision >= $4 AND (revision, kind, namespace, name) > ($4, $1, $2, $3)
                ORDER BY revision, kind, namespace, name LIMIT $5";
    let next = write::of(Statement::new(next), key).bind(write::column(*revision));
    transaction.fetch_all(next.bind(PAGE)).await
}

/// In the order of the columns' bytes, which is not that of the kinds.
async fn page(
    transaction: &mut Transaction,
    after: Option<&ObjectKey>,
) -> Result<Vec<Row>, StoreError> {
    let Some(after) = after else {
        let first = "SELECT revision, kind, namespace, name, json
                     FROM objects ORDER BY kind, namespace, name LIMIT $1";
        return transaction
            .fetch_all(Statement::new(first).bind(PAGE))
            .await;
    };
    let next = "SELECT revision, kind, namespace, name, json
                FROM objects WHERE (kind, namespace, name) > ($1, $2, $3)
                ORDER BY kind, namespace, name LIMIT $4";
    let next = write::of(Statement::new(next), after).bind(PAGE);
    transaction.fetch_all(next).await
}

fn read(row: &Row, json: &str) -> Result<Resource, InForceError> {
    let value = serde_json::from_str(json).map_err(|error| StoreError::corrupt("object", error))?;
    let read = policy::parse_json(&value).map_err(|error| error.to_string());
    let why = match read {
        Ok(resource) if is_named(&resource.key(), row)? => return Ok(resource),
        Ok(resource) => format!("its content names {}", resource.key()),
        Err(error) => error,
    };
    let key = write::key(row)?;
    Err(InForceError::Object { key, why })
}

fn is_named(key: &ObjectKey, row: &Row) -> Result<bool, StoreError> {
    let (kind, namespace, name): (&str, &str, &str) = (
        row.plain("kind")?,
        row.plain("namespace")?,
        row.plain("name")?,
    );
    let written = key.namespace.as_ref().map_or("", Namespace::as_str);
    Ok(key.kind.as_str() == kind && written == namespace && key.name.as_str() == name)
}
