//! What is in force now, compiled; and the one road by which it changes.
//!
//! Invariant: snapshots are published in commit order, each after its commit, and none is left
//! out of force: the writer owns both steps, so a caller that goes away cannot part them. After a
//! commit whose result is unknown the writer reads the store again before it does anything else.

mod addresses;
mod denials;
mod publisher;
mod sightings;
mod snapshot;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use identity::x509::DenyListError;
use policy::{MeshNames, ObjectKey, Outcome, Revision};
use runtime::Clock;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::authority::{PublishedRoots, RootError};
use crate::store::{
    AuthorityStep, AuthorityStepError, Authorship, Changes, CommitError, Expected, InForceError,
    RevocationChange, RevocationChanged, RevocationError, StageError, Store, StoreError,
};
pub use addresses::ServiceAddresses;
pub(crate) use denials::PublishedDenials;
use publisher::Publisher;
pub(crate) use publisher::{HeldDenial, NotHeld};
pub use sightings::Behind;
use sightings::Sightings;
pub use snapshot::{RegistryObject, RegistrySnapshot};
pub use writer::RegistryWriter;

/// Writes that wait; above it a caller is told that the CA is overloaded.
const QUEUE: usize = 64;
/// Reading what another replica has committed takes no longer, if it did commit it.
const REACHED_WITHIN: Duration = Duration::from_secs(2);

/// A cheap handle on the configuration in force.
#[derive(Clone, Debug)]
pub struct Registry {
    /// Whether other replicas write to the store too.
    shared: bool,
    snapshots: watch::Receiver<Arc<RegistrySnapshot>>,
    roots: watch::Receiver<Arc<PublishedRoots>>,
    denials: watch::Receiver<Arc<PublishedDenials>>,
    sightings: Sightings,
    publisher: Arc<Publisher>,
    writes: mpsc::Sender<Write>,
}

/// Somebody's wish to change the configuration.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub changes: Changes,
    pub author: String,
    pub reason: String,
    /// Judge it, and write nothing.
    pub dry_run: bool,
}

/// What became of a [`Proposal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The revision in force afterwards.
    pub revision: Revision,
    /// Whether this write made (or, as a dry run, would make) a revision.
    pub changed: bool,
    pub outcomes: Vec<(ObjectKey, Outcome)>,
}

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("a precondition on {key} does not hold")]
    PreconditionFailed {
        key: ObjectKey,
        found: Option<Revision>,
    },
    /// Others write faster than this change could be judged.
    #[error("the configuration kept changing; try again")]
    Contended,
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was restored, or failed over to a server that had not heard of everything.
    #[error("the store holds revision {head}, but {seen} was seen: was it restored?")]
    Behind { head: Revision, seen: Revision },
    /// A loss is accepted on top of what the store holds, and of nothing else.
    #[error("the store holds revision {head}")]
    NotHead { head: Revision },
    #[error("too many configuration writes are waiting")]
    Overloaded,
    #[error("this replica is shutting down")]
    ShuttingDown,
}

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("cannot read the configuration in force")]
    Store(#[source] StoreError),
    #[error("the store holds {key}, which this version refuses: {why}")]
    Object { key: ObjectKey, why: String },
    #[error("cannot read the roots of the trust domain")]
    Roots(#[source] RootError),
    #[error("cannot obey the revocations")]
    Denials(#[source] DenyListError),
}

impl Registry {
    /// Reads what is in force. The writer must be run for as long as the registry is used.
    /// `ca_dns_names` are those that the CA itself serves: no workload may have one.
    ///
    /// # Errors
    /// The store is unavailable, or holds what this version cannot obey.
    pub async fn open(
        store: Store,
        ca_dns_names: Vec<String>,
        clock: Clock,
    ) -> Result<(Self, RegistryWriter), RegistryError> {
        let mesh = MeshNames::new(store.trust_domain().clone(), store.id_template().clone())
            .with_ca_dns_names(ca_dns_names);
        let first = RegistrySnapshot::read(&store, mesh, clock.now()).await?;
        let sightings = Sightings::new(first.revision());
        let (publisher, readers) = Publisher::of(first);
        let publisher = Arc::new(publisher);
        let (writes, waiting) = mpsc::channel(QUEUE);
        let shared = store.is_shared();
        let writer = RegistryWriter::new(
            store,
            clock,
            Arc::clone(&publisher),
            sightings.clone(),
            waiting,
        );
        let registry = Self {
            shared,
            snapshots: readers.snapshots,
            roots: readers.roots,
            denials: readers.denials,
            sightings,
            publisher,
            writes,
        };
        Ok((registry, writer))
    }

    /// What the trust domain trusts; follows the snapshots.
    #[must_use]
    pub(crate) fn roots(&self) -> watch::Receiver<Arc<PublishedRoots>> {
        self.roots.clone()
    }

    /// Who is refused although the certificate verifies; follows the snapshots.
    #[must_use]
    pub(crate) fn denials(&self) -> watch::Receiver<Arc<PublishedDenials>> {
        self.denials.clone()
    }

    /// What is in force.
    #[must_use]
    pub fn snapshot(&self) -> Arc<RegistrySnapshot> {
        self.snapshots.borrow().clone()
    }

    /// Every snapshot from now on (some may be skipped, never reordered).
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<RegistrySnapshot>> {
        self.snapshots.clone()
    }

    /// Judges a change on the resulting whole, commits it and puts it in force; all or nothing.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub async fn apply(&self, proposal: Proposal) -> Result<Applied, ApplyError> {
        let (answer, result) = oneshot::channel();
        self.write(Write::Objects { proposal, answer })?;
        result.await.unwrap_or(Err(ApplyError::ShuttingDown))
    }

    /// Makes a step in the life of authorities and puts it in force; all or nothing.
    ///
    /// # Errors
    /// See [`StepError`].
    pub(crate) async fn step_authority(
        &self,
        step: AuthorityStep,
        authorship: Authorship,
    ) -> Result<Revision, StepError> {
        let (answer, result) = oneshot::channel();
        self.write(Write::Authority {
            step: Box::new(step),
            authorship,
            answer,
        })?;
        result
            .await
            .unwrap_or(Err(StepError::Apply(ApplyError::ShuttingDown)))
    }

    /// Changes what is revoked and puts it in force; all or nothing.
    ///
    /// # Errors
    /// See [`RevokeError`].
    pub(crate) async fn change_revocation(
        &self,
        change: RevocationChange,
        expected: Vec<Expected>,
        authorship: Authorship,
    ) -> Result<RevocationChanged, RevokeError> {
        let (answer, result) = oneshot::channel();
        self.write(Write::Revocation {
            change: Box::new(change),
            expected,
            authorship,
            answer,
        })?;
        result
            .await
            .unwrap_or(Err(RevokeError::Apply(ApplyError::ShuttingDown)))
    }

    /// Whether so many may be held.
    pub(crate) fn has_room(&self, count: usize) -> Result<(), NotHeld> {
        self.publisher.has_room(count)
    }

    /// Refuses these from now on, though no revision says so yet; [`Self::settle`] ends it.
    ///
    /// # Errors
    /// There are too many; nothing has changed.
    pub(crate) fn hold(&self, denied: Vec<HeldDenial>) -> Result<(), NotHeld> {
        self.publisher.hold(denied)
    }

    /// The store holds by now what was held here: its deny-list alone is in force again.
    ///
    /// # Errors
    /// It cannot be read; what is held stays.
    pub(crate) async fn settle(&self) -> Result<(), ApplyError> {
        let (answer, result) = oneshot::channel();
        self.write(Write::Settle { answer })?;
        result.await.unwrap_or(Err(ApplyError::ShuttingDown))
    }

    /// Begins a new epoch on top of `head`, and puts in force what the store holds.
    ///
    /// # Errors
    /// See [`ApplyError`].
    pub async fn accept_loss(
        &self,
        head: Revision,
        authorship: Authorship,
    ) -> Result<Revision, ApplyError> {
        let (answer, result) = oneshot::channel();
        self.write(Write::AcceptLoss {
            head,
            authorship,
            answer,
        })?;
        result.await.unwrap_or(Err(ApplyError::ShuttingDown))
    }

    /// Compares what is in force with the store, as of now.
    ///
    /// # Errors
    /// See [`ApplyError`]; that the store is behind is none.
    pub async fn look(&self) -> Result<(), ApplyError> {
        let (answer, result) = oneshot::channel();
        self.write(Write::Look { answer })?;
        result.await.unwrap_or(Err(ApplyError::ShuttingDown))
    }

    /// Evidence that the store has lost revisions, as of the last look at it.
    #[must_use]
    pub fn behind(&self) -> Option<Behind> {
        self.sightings.behind()
    }

    /// What agents have seen.
    pub(crate) fn sightings(&self) -> &Sightings {
        &self.sightings
    }

    /// Another replica may have committed something: looks, and puts it in force.
    pub(crate) fn follow(&self) {
        // Where writes wait already, the next one looks too.
        drop(self.write(Write::Follow));
    }

    /// Somebody has seen this revision at another replica: returns when it is in force here, or
    /// soon after if it never is.
    pub(crate) async fn reach(&self, seen: Revision) {
        let here = self.snapshot().revision();
        if !self.shared || seen.epoch != here.epoch || seen.number <= here.number {
            return;
        }
        self.follow();
        let mut snapshots = self.subscribe();
        let reached = snapshots.wait_for(|snapshot| snapshot.revision().number >= seen.number);
        // Who asked judges what is in force then.
        drop(timeout(REACHED_WITHIN, reached).await);
    }

    fn write(&self, write: Write) -> Result<(), ApplyError> {
        self.writes.try_send(write).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ApplyError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => ApplyError::ShuttingDown,
        })
    }
}

/// Why a step in the life of authorities was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// Somebody else made one first.
    #[error("the authorities have moved on")]
    Moved,
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl From<AuthorityStepError> for StepError {
    fn from(error: AuthorityStepError) -> Self {
        match error {
            AuthorityStepError::Moved => Self::Moved,
            AuthorityStepError::Store(error) => Self::Apply(error.into()),
        }
    }
}

/// Why what is revoked was not changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeError {
    #[error(transparent)]
    Refused(RevocationError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl From<RevocationError> for RevokeError {
    fn from(error: RevocationError) -> Self {
        match error {
            RevocationError::Store(error) => Self::Apply(error.into()),
            refused => Self::Refused(refused),
        }
    }
}

#[derive(Debug)]
enum Write {
    Follow,
    Settle {
        answer: oneshot::Sender<Result<(), ApplyError>>,
    },
    Look {
        answer: oneshot::Sender<Result<(), ApplyError>>,
    },
    AcceptLoss {
        head: Revision,
        authorship: Authorship,
        answer: oneshot::Sender<Result<Revision, ApplyError>>,
    },
    Objects {
        proposal: Proposal,
        answer: oneshot::Sender<Result<Applied, ApplyError>>,
    },
    Authority {
        step: Box<AuthorityStep>,
        authorship: Authorship,
        answer: oneshot::Sender<Result<Revision, StepError>>,
    },
    Revocation {
        change: Box<RevocationChange>,
        expected: Vec<Expected>,
        authorship: Authorship,
        answer: oneshot::Sender<Result<RevocationChanged, RevokeError>>,
    },
}

impl From<InForceError> for RegistryError {
    fn from(error: InForceError) -> Self {
        match error {
            InForceError::Store(error) => Self::Store(error),
            InForceError::Object { key, why } => Self::Object { key, why },
        }
    }
}

impl From<CommitError> for ApplyError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Moved { .. } => Self::Contended,
            CommitError::PreconditionFailed { key, found } => {
                Self::PreconditionFailed { key, found }
            }
            CommitError::Store(error) => Self::Store(error),
        }
    }
}
