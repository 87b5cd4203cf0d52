//! Revocations: agents that are banned, identities, single certificates and authorities that are
//! refused. Each change of them is a revision.
//!
//! Invariant: what is in force fits a deny-list as everybody takes it; a change that would not is
//! refused whole.

mod subject;

use std::collections::BTreeMap;

use identity::x509::{Denied, MOST_DENIED};
use policy::Revision;
use time::OffsetDateTime;

pub use subject::{RevocationSubject, SubjectError};

use super::authorities::last_content;
use super::database::{Row, Statement, Transaction, Turn};
use super::{Authorship, Expected, LiveSvids, Store, StoreError, write};

/// What agents that are banned already are issued while replicas hear of it must fit too.
const MOST_REVOKED: u64 = MOST_DENIED as u64 / 10 * 9;

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    pub subject: RevocationSubject,
    pub reason: String,
    pub author: String,
    pub created_at: OffsetDateTime,
    /// When it leaves by itself.
    pub expires_at: Option<OffsetDateTime>,
    /// The revision that last changed it.
    pub revision: Revision,
}

/// What is to be revoked.
#[derive(Clone, Debug)]
pub struct NewRevocation {
    pub subject: RevocationSubject,
    pub expires_at: Option<OffsetDateTime>,
}

/// What becomes of one revocation.
#[derive(Clone, Debug)]
pub enum RevocationChange {
    Revoke(NewRevocation),
    Lift(RevocationSubject),
    /// Nothing of the revocations themselves: more was issued through agents that are banned.
    Tell,
}

/// A change that was made; without a difference it made no revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationChanged {
    /// That of the change, or of the earlier one that had the same outcome.
    pub revision: Revision,
    pub changed: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    #[error("there is no such revocation")]
    NotFound,
    #[error("a precondition on the revocation does not hold")]
    PreconditionFailed { found: Option<Revision> },
    /// Nothing has changed then.
    #[error("more than {MOST_REVOKED} certificates and identities would be refused at once")]
    TooMany,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Changes revocations as one revision, or nothing.
    ///
    /// # Errors
    /// See [`RevocationError`].
    pub async fn change_revocation(
        &self,
        change: &RevocationChange,
        expected: &[Expected],
        authorship: &Authorship,
    ) -> Result<RevocationChanged, RevocationError> {
        let mut transaction = self.database.begin_alone(Turn::Configuration).await?;
        let head = write::head_of(&transaction.fetch_one(write::head()).await?)?;
        let number = head.number + 1;
        let known = match change {
            RevocationChange::Revoke(NewRevocation { subject, .. })
            | RevocationChange::Lift(subject) => self.known(&mut transaction, subject).await?,
            RevocationChange::Tell => None,
        };
        let found = known.as_ref().map(|known| known.revision);
        if expected.iter().any(|expected| !expected.holds(found)) {
            return Err(RevocationError::PreconditionFailed { found });
        }
        match (change, known) {
            (RevocationChange::Revoke(new), Some(known))
                if known.reason == authorship.reason && known.expires_at == new.expires_at =>
            {
                let (revision, changed) = (known.revision, false);
                return Ok(RevocationChanged { revision, changed });
            }
            (RevocationChange::Revoke(new), _) => {
                put(&mut transaction, new, number, authorship).await?;
                require_room(&mut transaction, authorship.at).await?;
            }
            (RevocationChange::Lift(_), None) => return Err(RevocationError::NotFound),
            (RevocationChange::Lift(subject), Some(_)) => remove(&mut transaction, subject).await?,
            (RevocationChange::Tell, _) => {}
        }
        let content = last_content(&mut transaction).await?;
        write::new_revision(&mut transaction, number, authorship, content).await?;
        transaction.commit().await?;
        Ok(RevocationChanged {
            revision: Revision { number, ..head },
            changed: true,
        })
    }

    /// All that are in force, by kind and subject.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn revocations(&self, now: OffsetDateTime) -> Result<Vec<Revocation>, StoreError> {
        let all = Statement::new(
            "SELECT kind, subject, reason, author, created_at, expires_at, revision
             FROM revocations WHERE expires_at IS NULL OR expires_at > $1
             UNION ALL
             SELECT 'agent', spiffe_id, reason, author, banned_at, CAST(NULL AS BIGINT), revision
             FROM agent_bans
             ORDER BY 1, 2",
        );
        let rows = self.database.fetch_all(all.bind(now)).await?;
        rows.iter().map(|row| self.revocation_row(row)).collect()
    }

    /// `None`: it was never made, was lifted, or has ended.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn revocation(
        &self,
        subject: &RevocationSubject,
        now: OffsetDateTime,
    ) -> Result<Option<Revocation>, StoreError> {
        let row = self.database.fetch_optional(one(subject)).await?;
        let found = row.map(|row| self.revocation_row(&row)).transpose()?;
        Ok(found.filter(|it| it.expires_at.is_none_or(|end| end > now)))
    }

    /// All that a deny-list names now, and when each leaves it: banned agents stand there with the
    /// certificates that were issued through them.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn denied(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<(Denied, Option<OffsetDateTime>)>, StoreError> {
        let all = Statement::new(
            "SELECT kind, subject, expires_at FROM revocations
             WHERE expires_at IS NULL OR expires_at > $1
             UNION ALL
             SELECT 'serial', serial, not_after FROM issued
             WHERE not_after > $1 AND agent_id IN (SELECT spiffe_id FROM agent_bans)",
        );
        let rows = self.database.fetch_all(all.bind(now)).await?;
        let mut denied = Vec::with_capacity(rows.len());
        for row in &rows {
            // An agent itself is in no deny-list.
            if let Some(entry) = subject_in(row)?.denied() {
                denied.push((entry, row.instant_if_any("expires_at")?));
            }
        }
        Ok(denied)
    }

    /// Lets go of revocations that ended before `now`; nobody is told, for nothing changes.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn prune_revocations(&self, now: OffsetDateTime) -> Result<u64, StoreError> {
        let prune = Statement::new("DELETE FROM revocations WHERE expires_at <= $1");
        self.database.execute(prune.bind(now)).await
    }

    /// The certificates that this subject stands for and that have not ended at `now`.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn live_svids_of(
        &self,
        subject: &RevocationSubject,
        now: OffsetDateTime,
    ) -> Result<LiveSvids, StoreError> {
        let live = Statement::new(match subject {
            RevocationSubject::Agent(_) => {
                "SELECT COUNT(*) AS live, MAX(not_after) AS until FROM issued
                 WHERE not_after > $2 AND agent_id = $1"
            }
            RevocationSubject::Identity(_) => {
                "SELECT COUNT(*) AS live, MAX(not_after) AS until FROM issued
                 WHERE not_after > $2 AND spiffe_id = $1"
            }
            RevocationSubject::Serial(_) => {
                "SELECT COUNT(*) AS live, MAX(not_after) AS until FROM issued
                 WHERE not_after > $2 AND serial = $1"
            }
            RevocationSubject::Authority(_) => {
                "SELECT COUNT(*) AS live, MAX(not_after) AS until FROM issued
                 WHERE not_after > $2
                   AND (issuer = $1 OR issuer IN (
                       SELECT key_id FROM intermediates WHERE issuer = $1
                       UNION ALL
                       SELECT intermediates.key_id FROM intermediates JOIN sealed_keys
                           ON sealed_keys.version = intermediates.generation
                       WHERE sealed_keys.key_id = $1 AND sealed_keys.purpose = 'x509-root'))"
            }
        });
        let live = live.bind(subject.to_string()).bind(now);
        let row = self.database.fetch_one(live).await?;
        Ok(LiveSvids {
            count: row.unsigned("live")?,
            until: row.instant_if_any("until")?,
        })
    }

    /// [`Self::live_svids_of`] each revocation that hits any, in one question.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn live_svids_of_revoked(
        &self,
        now: OffsetDateTime,
    ) -> Result<BTreeMap<RevocationSubject, LiveSvids>, StoreError> {
        let live = Statement::new(
            "SELECT kind, subject, COUNT(*) AS live, MAX(not_after) AS until FROM (
                 SELECT 'agent' AS kind, agent_id AS subject, not_after FROM issued
                 WHERE not_after > $1 AND agent_id IN (SELECT spiffe_id FROM agent_bans)
                 UNION ALL
                 SELECT kind, subject, not_after FROM issued
                     JOIN revocations ON subject = spiffe_id
                 WHERE kind = 'identity' AND not_after > $1
                 UNION ALL
                 SELECT kind, subject, not_after FROM issued
                     JOIN revocations ON subject = serial
                 WHERE kind = 'serial' AND not_after > $1
                 UNION ALL
                 SELECT kind, subject, not_after FROM issued
                     JOIN revocations ON subject = issuer
                 WHERE kind = 'authority' AND not_after > $1
                 UNION ALL
                 SELECT kind, subject, issued.not_after FROM revocations
                     JOIN sealed_keys ON sealed_keys.key_id = subject
                     JOIN intermediates ON intermediates.generation = sealed_keys.version
                     JOIN issued ON issued.issuer = intermediates.key_id
                 WHERE kind = 'authority' AND issued.not_after > $1
                     AND sealed_keys.purpose = 'x509-root'
                 UNION ALL
                 SELECT kind, subject, issued.not_after FROM revocations
                     JOIN sealed_keys ON sealed_keys.key_id = subject
                     JOIN intermediates ON intermediates.issuer = subject
                     JOIN issued ON issued.issuer = intermediates.key_id
                 WHERE kind = 'authority' AND issued.not_after > $1
                     AND sealed_keys.purpose = 'mesh-authority'
             ) AS hit GROUP BY kind, subject",
        );
        let rows = self.database.fetch_all(live.bind(now)).await?;
        let hits = rows.iter().map(|row| {
            let live = LiveSvids {
                count: row.unsigned("live")?,
                until: row.instant_if_any("until")?,
            };
            Ok((subject_in(row)?, live))
        });
        hits.collect()
    }

    async fn known(
        &self,
        transaction: &mut Transaction,
        subject: &RevocationSubject,
    ) -> Result<Option<Revocation>, StoreError> {
        let row = transaction.fetch_optional(one(subject)).await?;
        row.map(|row| self.revocation_row(&row)).transpose()
    }

    fn revocation_row(&self, row: &Row) -> Result<Revocation, StoreError> {
        Ok(Revocation {
            subject: subject_in(row)?,
            reason: row.plain("reason")?,
            author: row.plain("author")?,
            created_at: row.instant("created_at")?,
            expires_at: row.instant_if_any("expires_at")?,
            revision: self.revision_of(row.unsigned("revision")?),
        })
    }

    fn revision_of(&self, number: u64) -> Revision {
        Revision {
            epoch: self.epoch(),
            number,
        }
    }
}

fn subject_in(row: &Row) -> Result<RevocationSubject, StoreError> {
    let (kind, text): (&str, &str) = (row.plain("kind")?, row.plain("subject")?);
    RevocationSubject::parse(kind, text).map_err(|error| StoreError::corrupt("revocation", error))
}

fn one(subject: &RevocationSubject) -> Statement {
    match subject {
        RevocationSubject::Agent(id) => Statement::new(
            "SELECT 'agent' AS kind, spiffe_id AS subject, reason, author,
                    banned_at AS created_at, CAST(NULL AS BIGINT) AS expires_at, revision
             FROM agent_bans WHERE spiffe_id = $1",
        )
        .bind(id),
        other => Statement::new(
            "SELECT kind, subject, reason, author, created_at, expires_at, revision
             FROM revocations WHERE kind = $1 AND subject = $2",
        )
        .bind(other.kind())
        .bind(other.to_string()),
    }
}

async fn put(
    transaction: &mut Transaction,
    new: &NewRevocation,
    number: u64,
    authorship: &Authorship,
) -> Result<(), StoreError> {
    let subject = match &new.subject {
        RevocationSubject::Agent(id) => {
            let tokens = Statement::new("DELETE FROM join_tokens WHERE agent_id = $1");
            transaction.execute(tokens.bind(id)).await?;
            let ban = Statement::new(
                "INSERT INTO agent_bans (spiffe_id, reason, author, banned_at, revision)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (spiffe_id) DO UPDATE SET
                     reason = excluded.reason, author = excluded.author,
                     banned_at = excluded.banned_at, revision = excluded.revision",
            );
            let ban = authored(ban.bind(id), authorship).bind(write::column(number));
            return transaction.execute(ban).await.map(drop);
        }
        other => other,
    };
    let put = Statement::new(
        "INSERT INTO revocations (kind, subject, reason, author, created_at, revision, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (kind, subject) DO UPDATE SET
             reason = excluded.reason, author = excluded.author,
             created_at = excluded.created_at, expires_at = excluded.expires_at,
             revision = excluded.revision",
    );
    let put = put.bind(subject.kind()).bind(subject.to_string());
    let put = authored(put, authorship).bind(write::column(number));
    transaction
        .execute(put.bind(new.expires_at))
        .await
        .map(drop)
}

fn authored(statement: Statement, authorship: &Authorship) -> Statement {
    statement
        .bind(authorship.reason.as_str())
        .bind(authorship.author.as_str())
        .bind(authorship.at)
}

async fn remove(
    transaction: &mut Transaction,
    subject: &RevocationSubject,
) -> Result<(), StoreError> {
    let remove = match subject {
        RevocationSubject::Agent(id) => {
            Statement::new("DELETE FROM agent_bans WHERE spiffe_id = $1").bind(id)
        }
        other => Statement::new("DELETE FROM revocations WHERE kind = $1 AND subject = $2")
            .bind(other.kind())
            .bind(other.to_string()),
    };
    transaction.execute(remove).await.map(drop)
}

async fn require_room(
    transaction: &mut Transaction,
    now: OffsetDateTime,
) -> Result<(), RevocationError> {
    let count = Statement::new(
        "SELECT (SELECT COUNT(*) FROM revocations WHERE expires_at IS NULL OR expires_at > $1)
              + (SELECT COUNT(*) FROM issued
                 WHERE not_after > $1 AND agent_id IN (SELECT spiffe_id FROM agent_bans)) AS denied",
    );
    let row = transaction.fetch_one(count.bind(now)).await?;
    match row.unsigned::<u64>("denied")? > MOST_REVOKED {
        true => Err(RevocationError::TooMany),
        false => Ok(()),
    }
}
