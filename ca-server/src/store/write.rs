//! The write of one revision: its base and preconditions are checked, the objects change, and last
//! of all the counter moves, so that numbers are without gaps and in the order of commits.

use crypto::digest::Sha256;
use policy::{ObjectKey, Revision};

use super::configuration::Authorship;
use super::database::{Row, Statement, Transaction};
use super::staged::Upsert;
use super::{CommitError, Staged, StoreError, places};

pub(super) fn head() -> Statement {
    Statement::new("SELECT number, epoch, min_reader FROM revision_counter, mesh, schema")
}

/// Of a row that [`head`] gave.
pub(super) fn head_of(row: &Row) -> Result<Revision, StoreError> {
    Ok(Revision {
        epoch: row.plain::<i64>("epoch")?.cast_unsigned(),
        number: row.unsigned("number")?,
    })
}

/// Refuses what was judged on another base, and what its preconditions exclude.
pub(super) async fn check(
    transaction: &mut Transaction,
    staged: &Staged,
) -> Result<(), CommitError> {
    let head = head_of(&transaction.fetch_one(head()).await?)?;
    if head != staged.base() {
        return Err(CommitError::Moved { head });
    }
    for precondition in staged.preconditions() {
        let key = &precondition.key;
        let found = object_revision(transaction, staged.base().epoch, key).await?;
        if !precondition.expected.holds(found) {
            return Err(CommitError::PreconditionFailed {
                key: key.clone(),
                found,
            });
        }
    }
    Ok(())
}

/// Writes what was checked as revision `number`.
pub(super) async fn write(
    transaction: &mut Transaction,
    number: u64,
    staged: &Staged,
    authorship: &Authorship,
) -> Result<(), StoreError> {
    for upsert in staged.upserts() {
        put(transaction, number, upsert).await?;
    }
    for key in staged.deletes() {
        delete(transaction, number, key).await?;
    }
    new_revision(transaction, number, authorship, staged.content_sha256()).await
}

/// The last statements of a configuration write: what was written, and the counter.
pub(super) async fn new_revision(
    transaction: &mut Transaction,
    number: u64,
    authorship: &Authorship,
    content: Sha256,
) -> Result<(), StoreError> {
    let revision = Statement::new(
        "INSERT INTO revisions (number, author, reason, committed_at, content_sha256)
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(column(number))
    .bind(authorship.author.as_str())
    .bind(authorship.reason.as_str())
    .bind(authorship.at)
    .bind(content);
    transaction.execute(revision).await?;
    let counter = Statement::new("UPDATE revision_counter SET number = $1 WHERE number = $1 - 1");
    if transaction.execute(counter.bind(column(number))).await? != 1 {
        return Err(StoreError::corrupt(
            "revision counter",
            "it did not move by one",
        ));
    }
    Ok(())
}

/// The object that a row of `objects` or of its history is of.
pub(super) fn key(row: &Row) -> Result<ObjectKey, StoreError> {
    let namespace: &str = row.plain("namespace")?;
    let namespace = match namespace {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|error| StoreError::corrupt("namespace", error))?,
        ),
    };
    Ok(ObjectKey {
        kind: row.parsed("kind")?,
        namespace,
        name: row.parsed("name")?,
    })
}

pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).expect("a revision number counts writes")
}

async fn object_revision(
    transaction: &mut Transaction,
    epoch: u64,
    key: &ObjectKey,
) -> Result<Option<Revision>, StoreError> {
    let one = Statement::new(
        "SELECT revision FROM objects WHERE kind = $1 AND namespace = $2 AND name = $3",
    );
    let row = transaction.fetch_optional(of(one, key)).await?;
    row.map(|row| {
        Ok(Revision {
            epoch,
            number: row.unsigned("revision")?,
        })
    })
    .transpose()
}

async fn put(
    transaction: &mut Transaction,
    number: u64,
    Upsert { key, json }: &Upsert,
) -> Result<(), StoreError> {
    let upsert = Statement::new(
        "INSERT INTO objects (kind, namespace, name, revision, json) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (kind, namespace, name) DO UPDATE
             SET revision = excluded.revision, json = excluded.json",
    );
    let upsert = of(upsert, key).bind(column(number)).bind(json.as_str());
    transaction.execute(upsert).await?;
    places::give(transaction, key).await?;
    remember(transaction, number, key, Some(json.clone())).await
}

async fn delete(
    transaction: &mut Transaction,
    number: u64,
    key: &ObjectKey,
) -> Result<(), StoreError> {
    let delete =
        Statement::new("DELETE FROM objects WHERE kind = $1 AND namespace = $2 AND name = $3");
    if transaction.execute(of(delete, key)).await? != 1 {
        return Err(StoreError::corrupt(
            "object",
            "it is in the snapshot, but not in the store",
        ));
    }
    remember(transaction, number, key, None).await
}

async fn remember(
    transaction: &mut Transaction,
    number: u64,
    key: &ObjectKey,
    json: Option<String>,
) -> Result<(), StoreError> {
    let insert = Statement::new(
        "INSERT INTO object_history (kind, namespace, name, revision, json)
         VALUES ($1, $2, $3, $4, $5)",
    );
    let insert = of(insert, key).bind(column(number)).bind(json);
    transaction.execute(insert).await.map(drop)
}

/// `$1` to `$3`: which object.
pub(super) fn of(statement: Statement, key: &ObjectKey) -> Statement {
    let namespace = key.namespace.as_ref().map(ToString::to_string);
    statement
        .bind(key.kind.as_str())
        .bind(namespace.unwrap_or_default())
        .bind(key.name.to_string())
}
