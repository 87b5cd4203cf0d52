//! Revocations while PostgreSQL is away: kept in a file of this replica beside the spool, obeyed and
//! pushed at once, and made revisions when the store is back.
//!
//! Invariant: a revocation is on the disk before anybody is told that it is accepted, and is obeyed
//! here from then on until the store holds it, also by the next process. Until it has a revision it
//! has no number: agents hear of it as a change of the deny-list within the revision that they hold,
//! and acknowledge nothing. Replaying it once more changes nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use identity::SpiffeId;
use identity::x509::Denied;
use policy::resource::NamedAgents;
use policy::{Kind, ObjectKey, Resource};
use runtime::{Clock, Shutdown};
use time::format_description::well_known::Rfc3339;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::config::SpoolConfig;
use crate::issue::Directory;
use crate::metrics::Metrics;
use crate::registry::{ApplyError, NotHeld, RevokeError};
use crate::spool::{
    AppendError, Found, NotShipped, SpoolFile, SpoolOpenError, SpooledRevocation, tell_unreadable,
};
use crate::store::{
    Authorship, NewRevocation, RevocationChange, RevocationError, RevocationSubject, Store,
    StoreError,
};
use crate::watch::Presence;

type File = SpoolFile<SpooledRevocation>;

/// For a few hundred of the longest.
const SIZE: u64 = 1024 * 1024;
/// Wishes that wait for the disk.
const QUEUE: usize = 16;
const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_WITHIN: Duration = Duration::from_secs(3);

/// Takes revocations while the store is away; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RevocationSpool(mpsc::Sender<Asked>);

/// What a revocation does before the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provisional {
    /// What everybody here refuses now.
    pub(crate) denied: Vec<Denied>,
    /// Identities of a banned agent that others hold too: which of their certificates are its own
    /// only the store knows.
    pub(crate) later: Vec<SpiffeId>,
}

/// Why a revocation was not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAccepted {
    #[error("too many revocations wait for the disk; try again")]
    Overloaded,
    #[error("the revocation cannot be kept: {0}")]
    NotKept(#[from] AppendError),
    #[error(transparent)]
    NotHeld(#[from] NotHeld),
    #[error("this replica is shutting down")]
    Gone,
}

#[derive(Debug)]
struct Asked {
    revocation: SpooledRevocation,
    answer: oneshot::Sender<Result<Provisional, NotAccepted>>,
}

/// What obeys, and what remembers.
#[derive(Debug)]
pub(crate) struct Obeying {
    pub(crate) directory: Directory,
    pub(crate) presence: Presence,
    pub(crate) store: Store,
    pub(crate) replica: String,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
}

/// The background job; owns the file.
#[derive(Debug)]
pub(crate) struct RevocationShipping {
    /// `None` only after a write has panicked.
    file: Option<File>,
    waiting: VecDeque<SpooledRevocation>,
    queue: mpsc::Receiver<Asked>,
    obeying: Obeying,
}

/// Why revocations were not shipped; they stay.
#[derive(Debug, thiserror::Error)]
enum NotReplayed {
    #[error("the store does not take them")]
    Store(#[from] StoreError),
    #[error("the store refuses one")]
    Revoke(#[from] RevokeError),
    #[error("the store's deny-list cannot be read")]
    Settle(#[from] ApplyError),
    #[error("the store did not answer in time")]
    Silent,
    #[error("the file cannot be emptied")]
    File(#[from] io::Error),
    #[error("the file's writer is gone")]
    Gone,
}

impl RevocationSpool {
    /// Opens the file beside the spool and obeys what an earlier process has left in it.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(crate) async fn open(
        config: &SpoolConfig,
        obeying: Obeying,
    ) -> Result<(Self, RevocationShipping), SpoolOpenError> {
        let path = beside(config);
        let trust_domain = obeying.store.trust_domain().clone();
        let opening = spawn_blocking(move || File::open(&path, SIZE, &trust_domain));
        let (file, found) = opening.await.map_err(|_| NotShipped::Gone)??;
        tell_unreadable(&file, &found);
        let (sender, queue) = mpsc::channel(QUEUE);
        let mut shipping = RevocationShipping {
            file: Some(file),
            waiting: VecDeque::new(),
            queue,
            obeying,
        };
        shipping.obey_left(found);
        Ok((Self(sender), shipping))
    }

    /// On the disk, obeyed and pushed on return.
    ///
    /// # Errors
    /// See [`NotAccepted`]; nothing has changed then.
    pub(crate) async fn accept(
        &self,
        revocation: SpooledRevocation,
    ) -> Result<Provisional, NotAccepted> {
        let (answer, accepted) = oneshot::channel();
        let asked = Asked { revocation, answer };
        self.0.try_send(asked).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotAccepted::Overloaded,
            mpsc::error::TrySendError::Closed(_) => NotAccepted::Gone,
        })?;
        accepted.await.unwrap_or(Err(NotAccepted::Gone))
    }
}

impl RevocationShipping {
    /// Takes and ships until the shutdown begins; what has not been shipped then is found by the
    /// next process.
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                Some(Asked { revocation, answer }) = self.queue.recv() => {
                    // Who asked may have gone away; it stands all the same.
                    let _ = answer.send(self.accept(revocation).await);
                }
                () = answers(&self.obeying.store), if !self.waiting.is_empty() => {
                    if let Err(error) = self.ship().await {
                        tracing::error!(
                            alarm = "revocations-not-recorded",
                            waiting = self.waiting.len(),
                            error = %runtime::exit::one_line(&error),
                            "revocations are obeyed here and still without a record; trying again"
                        );
                    }
                }
            }
        }
    }

    async fn accept(&mut self, revocation: SpooledRevocation) -> Result<Provisional, NotAccepted> {
        let provisional = self.obeying.provisional(&revocation.subject);
        self.obeying.require_room(&provisional)?;
        self.append(revocation.clone()).await?;
        self.obeying.obey(&revocation, &provisional)?;
        self.waiting.push_back(revocation);
        self.obeying.metrics.revocations_waiting(self.waiting.len());
        Ok(provisional)
    }

    fn obey_left(&mut self, found: Found<SpooledRevocation>) {
        for revocation in found.rows {
            let provisional = self.obeying.provisional(&revocation.subject);
            if let Err(error) = self.obeying.obey(&revocation, &provisional) {
                tracing::error!(
                    alarm = "revocations-not-recorded",
                    subject = %revocation.subject,
                    %error,
                    "a revocation that was left in the spool is not obeyed before it is recorded"
                );
            }
            self.waiting.push_back(revocation);
        }
        self.obeying.metrics.revocations_waiting(self.waiting.len());
    }

    async fn append(&mut self, revocation: SpooledRevocation) -> Result<(), NotAccepted> {
        let mut file = self.file.take().ok_or(NotAccepted::Gone)?;
        let writing = spawn_blocking(move || {
            let appended = file.append(&[revocation]);
            (file, appended)
        });
        let (file, appended) = writing.await.map_err(|_| NotAccepted::Gone)?;
        self.file = Some(file);
        Ok(appended?)
    }

    /// All of them, or they are shipped again from the first.
    async fn ship(&mut self) -> Result<(), NotReplayed> {
        let probe = timeout(PROBE_WITHIN, self.obeying.store.probe_write());
        probe.await.map_err(|_| NotReplayed::Silent)??;
        let mut refused = None;
        for revocation in &self.waiting {
            match self.obeying.record(revocation).await {
                // It keeps no other from being recorded.
                Err(
                    error @ NotReplayed::Revoke(RevokeError::Refused(RevocationError::TooMany)),
                ) => {
                    refused = Some(error);
                }
                other => other?,
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        self.obeying.directory.registry().settle().await?;
        let mut file = self.file.take().ok_or(NotReplayed::Gone)?;
        let emptying = spawn_blocking(move || {
            let emptied = file.empty();
            (file, emptied)
        });
        let (file, emptied) = emptying.await.map_err(|_| NotReplayed::Gone)?;
        self.file = Some(file);
        emptied?;
        for revocation in self.waiting.drain(..) {
            if let RevocationSubject::Agent(agent) = &revocation.subject {
                self.obeying.presence.ban_is_recorded(agent);
            }
        }
        self.obeying.metrics.revocations_waiting(0);
        Ok(())
    }
}

impl Obeying {
    /// Of an agent, the identities that no other may hold; of others, what they say.
    fn provisional(&self, subject: &RevocationSubject) -> Provisional {
        let mut provisional = Provisional {
            denied: subject.denied().into_iter().collect(),
            later: Vec::new(),
        };
        let RevocationSubject::Agent(agent) = subject else {
            return provisional;
        };
        let assignments = self.directory.current();
        for name in assignments.workloads_of(agent) {
            let snapshot = assignments.snapshot();
            let key = ObjectKey::namespaced(Kind::Workload, name);
            let entry = snapshot.objects().get(&key).map(|object| &**object);
            let (Some(Resource::Workload(entry)), Some(id)) = (entry, snapshot.identity_of(name))
            else {
                continue;
            };
            let own = |holder: &NamedAgents| matches!(holder, NamedAgents::Id(id) if id == agent);
            match entry.agents.iter().all(own) {
                true => provisional.denied.push(Denied::Identity(id)),
                false => provisional.later.push(id),
            }
        }
        provisional
    }

    fn require_room(&self, provisional: &Provisional) -> Result<(), NotHeld> {
        self.directory.registry().has_room(provisional.denied.len())
    }

    /// The deny-list first: what an agent's end is told of must be refused by then.
    fn obey(
        &self,
        revocation: &SpooledRevocation,
        provisional: &Provisional,
    ) -> Result<(), NotHeld> {
        let denied = provisional.denied.iter().cloned();
        let denied = denied.map(|entry| (entry, revocation.expires_at));
        let held = self.directory.registry().hold(denied.collect());
        if let RevocationSubject::Agent(agent) = &revocation.subject {
            self.presence.ban_unrecorded(agent);
        }
        held
    }

    async fn record(&self, revocation: &SpooledRevocation) -> Result<(), NotReplayed> {
        if revocation
            .expires_at
            .is_some_and(|end| end <= self.clock.now())
        {
            return Ok(());
        }
        let change = RevocationChange::Revoke(NewRevocation {
            subject: revocation.subject.clone(),
            expires_at: revocation.expires_at,
        });
        let authorship = Authorship {
            author: revocation.author.clone(),
            reason: told(revocation, &self.replica),
            at: self.clock.now(),
        };
        let registry = self.directory.registry();
        let changed = registry.change_revocation(change, Vec::new(), authorship);
        let changed = changed.await?;
        tracing::warn!(
            kind = revocation.subject.kind(),
            subject = %revocation.subject,
            author = revocation.author,
            revision = %changed.revision,
            "a revocation that was accepted while the store was away is recorded"
        );
        Ok(())
    }
}

/// The same whenever it is replayed, so that the second time changes nothing.
fn told(revocation: &SpooledRevocation, replica: &str) -> String {
    let at = revocation.accepted_at.format(&Rfc3339).unwrap_or_default();
    format!(
        "{} (accepted by {replica} at {at}, without the store)",
        revocation.reason
    )
}

fn beside(config: &SpoolConfig) -> PathBuf {
    let mut path = config.file.as_os_str().to_owned();
    path.push(".revocations");
    path.into()
}

/// Resolves when the store may take them.
async fn answers(store: &Store) {
    loop {
        sleep(PROBE_EVERY).await;
        if matches!(timeout(PROBE_WITHIN, store.probe_write()).await, Ok(Ok(()))) {
            return;
        }
    }
}
