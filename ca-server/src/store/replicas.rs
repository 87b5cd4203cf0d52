//! What replicas of one mesh know of one another: how far the agents of each have come, and who
//! does what only one does at a time.

use std::ops::RangeInclusive;
use std::time::Duration;

use policy::Revision;
use time::OffsetDateTime;

use super::database::{Database, Row, Statement};
use super::{Store, StoreError, write};

/// A replica that was not heard of for so long holds nobody up.
pub(super) const HEARD_WITHIN: Duration = Duration::from_secs(20);

/// What only one replica does at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Making the administrator's first credential, which is a file and a row.
    FirstCredential,
    /// Letting go of what ended long ago.
    Pruning,
    /// Signing the revocation lists of the roots.
    RootRevocationLists,
    /// Making leaves of the transparency log from what is recorded.
    Sequencing,
}

/// A live replica beside this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherReplica {
    pub name: String,
    /// The number of the newest revision that all its agents have acknowledged.
    pub enforced: u64,
    /// JSON; `None`: it has told nothing yet.
    pub hold_ups: Option<String>,
}

/// Evidence that a duty is this replica's until `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    until: OffsetDateTime,
    version: u64,
}

impl Lease {
    #[must_use]
    pub fn until(&self) -> OffsetDateTime {
        self.until
    }

    /// Grows by one whenever the duty changes hands.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }
}

impl Duty {
    fn as_str(self) -> &'static str {
        match self {
            Self::FirstCredential => "first-credential",
            Self::Pruning => "pruning",
            Self::RootRevocationLists => "root-revocation-lists",
            Self::Sequencing => "sequencing",
        }
    }
}

impl Store {
    /// Whether other replicas may have it open.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(&*self.database, Database::Postgres(_))
    }

    /// Notes that all agents connected to `replica` have acknowledged `revision`, and that the
    /// replica lives. A revision is enforced when no live replica is behind it; the first note of
    /// that stays.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn note_enforced(
        &self,
        replica: &str,
        revision: Revision,
        at: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let number = write::column(revision.number);
        let mut transaction = self.database.begin().await?;
        let replica_row = Statement::new(
            "INSERT INTO replicas (name, seen_at, enforced) VALUES ($1, $2, $3)
             ON CONFLICT (name) DO UPDATE
                 SET seen_at = excluded.seen_at, enforced = excluded.enforced",
        );
        let replica_row = replica_row.bind(replica).bind(at).bind(number);
        transaction.execute(replica_row).await?;
        let revisions = Statement::by_engine(
            "UPDATE revisions SET enforced_at = $1, enforced_after = MAX($1 - committed_at, 0)
             WHERE enforced_at IS NULL
               AND number <= (SELECT MIN(enforced) FROM replicas WHERE seen_at >= $2)",
            "UPDATE revisions SET enforced_at = $1, enforced_after = GREATEST(
                 CASE WHEN written_at IS NULL THEN $1 - committed_at
                 ELSE floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - written_at END,
                 0)
             WHERE enforced_at IS NULL
               AND number <= (SELECT MIN(enforced) FROM replicas WHERE seen_at >= $2)",
        );
        let revisions = revisions.bind(at).bind(at - HEARD_WITHIN);
        transaction.execute(revisions).await?;
        transaction.commit().await
    }

    /// How long ago each of these revisions was committed: by the database's clock where the store is
    /// shared, else by the one that is told.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn ages_of(
        &self,
        numbers: RangeInclusive<u64>,
        now: OffsetDateTime,
    ) -> Result<Vec<Duration>, StoreError> {
        let ages = Statement::by_engine(
            "SELECT MAX($3 - committed_at, 0) AS age FROM revisions WHERE number BETWEEN $1 AND $2",
            "SELECT GREATEST(
                 CASE WHEN written_at IS NULL THEN $3 - committed_at
                 ELSE floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - written_at END,
                 0) AS age
             FROM revisions WHERE number BETWEEN $1 AND $2",
        );
        let ages = ages
            .bind(write::column(*numbers.start()))
            .bind(write::column(*numbers.end()))
            .bind(now);
        let rows = self.database.fetch_all(ages).await?;
        rows.iter()
            .map(|row| Ok(Duration::from_millis(row.unsigned("age")?)))
            .collect()
    }

    /// Tells the other replicas whom writes are to wait for at this one, as JSON. The same
    /// again writes nothing; what is told of a replica that nobody has heard of is lost.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn tell_hold_ups(&self, replica: &str, json: &str) -> Result<(), StoreError> {
        let tell = Statement::new(
            "UPDATE replicas SET hold_ups = $2 WHERE name = $1 AND hold_ups IS DISTINCT FROM $2",
        );
        let tell = tell.bind(replica).bind(json);
        self.database.execute(tell).await.map(drop)
    }

    /// What the other live replicas have told last, by name. Where the store is not shared there
    /// are none.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn other_replicas(
        &self,
        own: &str,
        now: OffsetDateTime,
    ) -> Result<Vec<OtherReplica>, StoreError> {
        if !self.is_shared() {
            return Ok(Vec::new());
        }
        let others = Statement::new(
            "SELECT name, enforced, hold_ups FROM replicas
             WHERE name <> $1 AND seen_at >= $2 ORDER BY name",
        );
        let others = others.bind(own).bind(now - HEARD_WITHIN);
        let rows = self.database.fetch_all(others).await?;
        let other = |row: &Row| {
            Ok(OtherReplica {
                name: row.plain("name")?,
                enforced: row.unsigned("enforced")?,
                hold_ups: row.plain("hold_ups")?,
            })
        };
        rows.iter().map(other).collect()
    }

    /// The replica has ended, and holds nobody up any more.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn leave(&self, replica: &str) -> Result<(), StoreError> {
        let leave = Statement::new("DELETE FROM replicas WHERE name = $1");
        self.database.execute(leave.bind(replica)).await.map(drop)
    }

    /// Takes a duty that nobody has, or goes on with one's own. `None`: it is another's.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn take(
        &self,
        duty: Duty,
        replica: &str,
        life: Duration,
        now: OffsetDateTime,
    ) -> Result<Option<Lease>, StoreError> {
        let until = now + life;
        let mut transaction = self.database.begin().await?;
        let take = Statement::new(
            "INSERT INTO leases (name, holder, until, version) VALUES ($1, $2, $3, 1)
             ON CONFLICT (name) DO UPDATE
                 SET holder = excluded.holder,
                     until = excluded.until,
                     version = leases.version
                         + CASE WHEN leases.holder = excluded.holder THEN 0 ELSE 1 END
                 WHERE leases.holder = excluded.holder OR leases.until <= $4
             RETURNING version",
        );
        let take = take.bind(duty.as_str()).bind(replica).bind(until).bind(now);
        let row = transaction.fetch_optional(take).await?;
        transaction.commit().await?;
        row.map(|row| {
            Ok(Lease {
                until,
                version: row.unsigned("version")?,
            })
        })
        .transpose()
    }
}
