//! What replicas of one mesh know of one another: how far the agents of each have come, and who
//! does what only one does at a time.

use std::time::Duration;

use policy::Revision;
use time::OffsetDateTime;

use super::database::{Database, Statement};
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
        let revisions = Statement::new(
            "UPDATE revisions SET enforced_at = $1
             WHERE enforced_at IS NULL
               AND number <= (SELECT MIN(enforced) FROM replicas WHERE seen_at >= $2)",
        );
        let revisions = revisions.bind(at).bind(at - HEARD_WITHIN);
        transaction.execute(revisions).await?;
        transaction.commit().await
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
