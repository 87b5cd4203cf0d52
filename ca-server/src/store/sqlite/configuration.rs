//! Objects and revisions. A write checks its base and preconditions, changes the objects, and
//! last of all moves the counter: numbers are without gaps and in the order of commits.

use crypto::digest::Sha256;
use policy::{ObjectKey, Resource, Revision};
use sqlx::sqlite::SqliteRow;
use sqlx::{Sqlite as Engine, SqliteConnection, Transaction};
use time::OffsetDateTime;

use super::Sqlite;
use super::columns::{digest, instant, instant_if_any, millis, parsed, plain, unsigned};
use super::places;
use crate::store::configuration::Authorship;
use crate::store::{CommitError, RevisionRow, Staged, StoreError, StoredObject};

impl Sqlite {
    pub(in crate::store) async fn head(&self, epoch: u64) -> Result<Revision, StoreError> {
        let mut reader = self.readers.acquire().await?;
        head(&mut reader, epoch).await
    }

    pub(in crate::store) async fn objects(
        &self,
        epoch: u64,
    ) -> Result<(Revision, Vec<StoredObject>), StoreError> {
        // One read transaction, so that the objects are those of the revision.
        let mut transaction = self.readers.begin().await?;
        let head = head(&mut transaction, epoch).await?;
        let objects = sqlx::query("SELECT * FROM objects ORDER BY kind, namespace, name")
            .fetch_all(&mut *transaction)
            .await?
            .iter()
            .map(|row| stored_object(row, epoch))
            .collect::<Result<_, _>>()?;
        Ok((head, objects))
    }

    pub(in crate::store) async fn rehearse(
        &self,
        epoch: u64,
        staged: &Staged,
    ) -> Result<(), CommitError> {
        let mut transaction = self.begin().await?;
        check(&mut transaction, epoch, staged).await
    }

    pub(in crate::store) async fn commit(
        &self,
        epoch: u64,
        staged: &Staged,
        authorship: &Authorship,
    ) -> Result<Revision, CommitError> {
        let mut transaction = self.begin().await?;
        check(&mut transaction, epoch, staged).await?;
        if !staged.changes_anything() {
            return Ok(staged.base());
        }
        let number = staged.base().number + 1;
        write(&mut transaction, number, staged, authorship).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(Revision { epoch, number })
    }

    pub(in crate::store) async fn revisions(
        &self,
        epoch: u64,
        limit: u32,
        before: Option<u64>,
    ) -> Result<Vec<RevisionRow>, StoreError> {
        let before = before.map_or(i64::MAX, |number| i64::try_from(number).unwrap_or(i64::MAX));
        sqlx::query("SELECT * FROM revisions WHERE number < $1 ORDER BY number DESC LIMIT $2")
            .bind(before)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(|row| revision_row(row, epoch))
            .collect()
    }

    pub(in crate::store) async fn revision(
        &self,
        epoch: u64,
        number: u64,
    ) -> Result<Option<RevisionRow>, StoreError> {
        let Ok(number) = i64::try_from(number) else {
            return Ok(None);
        };
        sqlx::query("SELECT * FROM revisions WHERE number = $1")
            .bind(number)
            .fetch_optional(&self.readers)
            .await?
            .map(|row| revision_row(&row, epoch))
            .transpose()
    }

    pub(in crate::store) async fn mark_enforced(
        &self,
        number: u64,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE revisions SET enforced_at = $2 WHERE number = $1 AND enforced_at IS NULL",
        )
        .bind(column(number))
        .bind(millis(at))
        .execute(&self.writer)
        .await?;
        Ok(())
    }
}

pub(super) async fn head(
    connection: &mut SqliteConnection,
    epoch: u64,
) -> Result<Revision, StoreError> {
    let row = sqlx::query("SELECT number FROM revision_counter")
        .fetch_one(connection)
        .await?;
    Ok(Revision {
        epoch,
        number: unsigned(&row, "number")?,
    })
}

async fn check(
    transaction: &mut Transaction<'static, Engine>,
    epoch: u64,
    staged: &Staged,
) -> Result<(), CommitError> {
    let head = head(transaction, epoch).await?;
    if head != staged.base() {
        return Err(CommitError::Moved { head });
    }
    for precondition in staged.preconditions() {
        let key = &precondition.key;
        let found = object_revision(transaction, epoch, key).await?;
        if !precondition.expected.holds(found) {
            return Err(CommitError::PreconditionFailed {
                key: key.clone(),
                found,
            });
        }
    }
    Ok(())
}

async fn object_revision(
    transaction: &mut Transaction<'static, Engine>,
    epoch: u64,
    key: &ObjectKey,
) -> Result<Option<Revision>, StoreError> {
    let row = sqlx::query(
        "SELECT revision FROM objects WHERE kind = $1 AND namespace = $2 AND name = $3",
    )
    .bind(key.kind.as_str())
    .bind(namespace(key))
    .bind(key.name.to_string())
    .fetch_optional(&mut **transaction)
    .await?;
    row.map(|row| {
        Ok(Revision {
            epoch,
            number: unsigned(&row, "revision")?,
        })
    })
    .transpose()
}

async fn write(
    transaction: &mut Transaction<'static, Engine>,
    number: u64,
    staged: &Staged,
    authorship: &Authorship,
) -> Result<(), StoreError> {
    for resource in staged.upserts() {
        upsert(transaction, number, resource).await?;
    }
    for key in staged.deletes() {
        delete(transaction, number, key).await?;
    }
    new_revision(transaction, number, authorship, staged.content_sha256()).await
}

/// The last statements of a configuration write: what was written, and the counter.
pub(super) async fn new_revision(
    transaction: &mut Transaction<'static, Engine>,
    number: u64,
    authorship: &Authorship,
    content: Sha256,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO revisions (number, author, reason, committed_at, content_sha256)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(column(number))
    .bind(&authorship.author)
    .bind(&authorship.reason)
    .bind(millis(authorship.at))
    .bind(content.as_bytes().to_vec())
    .execute(&mut **transaction)
    .await?;
    let moved = sqlx::query("UPDATE revision_counter SET number = $1 WHERE number = $1 - 1")
        .bind(column(number))
        .execute(&mut **transaction)
        .await?;
    if moved.rows_affected() != 1 {
        return Err(StoreError::corrupt(
            "revision counter",
            "it did not move by one",
        ));
    }
    Ok(())
}

async fn upsert(
    transaction: &mut Transaction<'static, Engine>,
    number: u64,
    resource: &Resource,
) -> Result<(), StoreError> {
    let key = resource.key();
    let json = resource.to_json().to_string();
    sqlx::query(
        "INSERT INTO objects (kind, namespace, name, revision, json) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (kind, namespace, name) DO UPDATE
             SET revision = excluded.revision, json = excluded.json",
    )
    .bind(key.kind.as_str())
    .bind(namespace(&key))
    .bind(key.name.to_string())
    .bind(column(number))
    .bind(&json)
    .execute(&mut **transaction)
    .await?;
    places::give(transaction, &key).await?;
    remember(transaction, number, &key, Some(json)).await
}

async fn delete(
    transaction: &mut Transaction<'static, Engine>,
    number: u64,
    key: &ObjectKey,
) -> Result<(), StoreError> {
    let done = sqlx::query("DELETE FROM objects WHERE kind = $1 AND namespace = $2 AND name = $3")
        .bind(key.kind.as_str())
        .bind(namespace(key))
        .bind(key.name.to_string())
        .execute(&mut **transaction)
        .await?;
    if done.rows_affected() != 1 {
        return Err(StoreError::corrupt(
            "object",
            "it is in the snapshot, but not in the store",
        ));
    }
    remember(transaction, number, key, None).await
}

async fn remember(
    transaction: &mut Transaction<'static, Engine>,
    number: u64,
    key: &ObjectKey,
    json: Option<String>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO object_history (kind, namespace, name, revision, json)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(key.kind.as_str())
    .bind(namespace(key))
    .bind(key.name.to_string())
    .bind(column(number))
    .bind(json)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn namespace(key: &ObjectKey) -> String {
    key.namespace
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn column(number: u64) -> i64 {
    i64::try_from(number).expect("a revision number counts writes")
}

fn stored_object(row: &SqliteRow, epoch: u64) -> Result<StoredObject, StoreError> {
    let namespace: &str = plain(row, "namespace")?;
    let namespace = match namespace {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|error| StoreError::corrupt("namespace", error))?,
        ),
    };
    let json: &str = plain(row, "json")?;
    Ok(StoredObject {
        key: ObjectKey {
            kind: parsed(row, "kind")?,
            namespace,
            name: parsed(row, "name")?,
        },
        revision: Revision {
            epoch,
            number: unsigned(row, "revision")?,
        },
        json: serde_json::from_str(json).map_err(|error| StoreError::corrupt("object", error))?,
    })
}

fn revision_row(row: &SqliteRow, epoch: u64) -> Result<RevisionRow, StoreError> {
    Ok(RevisionRow {
        revision: Revision {
            epoch,
            number: unsigned(row, "number")?,
        },
        author: plain(row, "author")?,
        reason: plain(row, "reason")?,
        committed_at: instant(row, "committed_at")?,
        content_sha256: digest(row, "content_sha256")?,
        enforced_at: instant_if_any(row, "enforced_at")?,
    })
}
