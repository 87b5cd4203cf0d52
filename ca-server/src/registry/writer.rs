//! The one task that changes the configuration: judge, commit, publish, in that order.

use std::convert::Infallible;
use std::sync::Arc;

use policy::{Kind, Outcome, Revision};
use runtime::{Clock, Shutdown};
use tokio::sync::mpsc;

use super::sightings::{Behind, Sightings};
use super::snapshot::Places;
use super::{
    Applied, ApplyError, Proposal, PublishedDenials, Publisher, RegistryError, RegistrySnapshot,
    RevokeError, StepError, Write,
};
use crate::authority::PublishedRoots;
use crate::store::{
    AuthorityStep, Authorship, CommitError, Expected, RevocationChange, RevocationChanged, Staged,
    Store, StoreError,
};

/// How often a change is judged again because another replica wrote first.
const ATTEMPTS: usize = 32;

/// Owned by whoever supervises the replica's tasks.
#[derive(Debug)]
pub struct RegistryWriter {
    store: Store,
    clock: Clock,
    publisher: Arc<Publisher>,
    sightings: Sightings,
    waiting: mpsc::Receiver<Write>,
}

impl RegistryWriter {
    pub(super) fn new(
        store: Store,
        clock: Clock,
        publisher: Arc<Publisher>,
        sightings: Sightings,
        waiting: mpsc::Receiver<Write>,
    ) -> Self {
        Self {
            store,
            clock,
            publisher,
            sightings,
            waiting,
        }
    }

    /// Serves writes until the shutdown begins; those that wait then are still done.
    ///
    /// # Errors
    /// None; the type is what supervisors take.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        loop {
            let write = tokio::select! {
                biased;
                write = self.waiting.recv() => write,
                () = shutdown.draining(), if !self.waiting.is_closed() => {
                    self.waiting.close();
                    continue;
                }
            };
            // Who asked may have gone away; the write stands all the same.
            match write {
                Some(Write::Follow) => self.follow().await,
                Some(Write::Settle { answer }) => {
                    let _ = answer.send(self.settle().await);
                }
                Some(Write::Look { answer }) => {
                    let _ = answer.send(self.look().await);
                }
                Some(Write::AcceptLoss {
                    head,
                    authorship,
                    answer,
                }) => {
                    let _ = answer.send(self.accept_loss(head, &authorship).await);
                }
                Some(Write::Objects { proposal, answer }) => {
                    let _ = answer.send(self.apply(proposal).await);
                }
                Some(Write::Authority {
                    step,
                    authorship,
                    answer,
                }) => {
                    let _ = answer.send(self.step(&step, &authorship).await);
                }
                Some(Write::Revocation {
                    change,
                    expected,
                    authorship,
                    answer,
                }) => {
                    let _ = answer.send(self.revoke(&change, &expected, &authorship).await);
                }
                None => break,
            }
        }
        shutdown.draining().await;
        Ok(())
    }

    async fn follow(&self) {
        if let Err(error) = self.catch_up().await {
            tracing::warn!(
                error = %runtime::exit::one_line(&error),
                "what other replicas have written cannot be read"
            );
        }
    }

    async fn apply(&self, proposal: Proposal) -> Result<Applied, ApplyError> {
        for _ in 0..ATTEMPTS {
            self.catch_up().await?;
            self.require_whole()?;
            match self.attempt(&proposal).await {
                Err(CommitAttempt::Moved) => {}
                Err(CommitAttempt::Refused(error)) => return Err(error),
                Ok(applied) => return Ok(applied),
            }
        }
        Err(ApplyError::Contended)
    }

    async fn step(
        &self,
        step: &AuthorityStep,
        authorship: &Authorship,
    ) -> Result<Revision, StepError> {
        self.catch_up().await?;
        self.require_whole()?;
        let revision = match self.store.step_authority(step, authorship).await {
            Ok(revision) => revision,
            Err(error) => {
                // It may have been done although its answer was lost.
                self.catch_up().await?;
                return Err(error.into());
            }
        };
        tracing::info!(%revision, author = authorship.author, reason = authorship.reason, "authorities changed");
        let current = self.publisher.current();
        let follows = revision.number == current.revision().number + 1;
        match PublishedRoots::read(&self.store).await {
            Ok(roots) if follows => self.publish(current.with_roots(revision, roots)),
            // Others have written meanwhile, or the store is gone: it is read again, whole.
            _ => self.catch_up().await?,
        }
        Ok(revision)
    }

    async fn revoke(
        &self,
        change: &RevocationChange,
        expected: &[Expected],
        authorship: &Authorship,
    ) -> Result<RevocationChanged, RevokeError> {
        self.catch_up().await?;
        self.require_whole()?;
        let made = self.store.change_revocation(change, expected, authorship);
        let made = match made.await.map_err(RevokeError::from) {
            Ok(made) => made,
            Err(error) => {
                // It may have been done although its answer was lost.
                self.catch_up().await?;
                return Err(error);
            }
        };
        if !made.changed {
            return Ok(made);
        }
        let (revision, author) = (made.revision, &authorship.author);
        tracing::info!(%revision, author, reason = authorship.reason, "revocations changed");
        let current = self.publisher.current();
        let follows = revision.number == current.revision().number + 1;
        match PublishedDenials::read(&self.store, self.clock.now()).await {
            Ok(denials) if follows => self.publish(current.with_denials(revision, denials)),
            // Others have written meanwhile, or the store is gone: it is read again, whole.
            _ => self.catch_up().await?,
        }
        Ok(made)
    }

    /// Publishes what the store has and this replica does not yet know: another replica's write,
    /// or one of ours whose result was lost. Never goes back.
    async fn catch_up(&self) -> Result<(), ApplyError> {
        let current = self.publisher.current();
        let (head, seen) = (self.store.head().await?, current.revision());
        self.sightings.compare(head, seen);
        if head == seen {
            return Ok(());
        }
        if head.epoch == seen.epoch && head.number < seen.number {
            tracing::error!(alarm = "store-behind", %head, %seen, "the store has lost revisions");
            return Err(ApplyError::Behind { head, seen });
        }
        let now = self.clock.now();
        let next = match head.epoch == seen.epoch {
            true => current.read_on(&self.store, now).await,
            false => RegistrySnapshot::read(&self.store, current.mesh().clone(), now).await,
        };
        match next {
            Ok(snapshot) => {
                self.publish(snapshot);
                Ok(())
            }
            Err(RegistryError::Store(error)) => Err(error.into()),
            Err(error) => {
                tracing::error!(%error, "cannot follow the store");
                Err(ApplyError::Contended)
            }
        }
    }

    /// What the store holds, as was just read or written.
    fn publish(&self, mut next: RegistrySnapshot) {
        next.leave_out_ended(self.clock.now());
        self.sightings.compare(next.revision(), next.revision());
        self.publisher.publish(next);
    }

    /// Refuses while somebody has seen what the store does not hold.
    fn require_whole(&self) -> Result<(), ApplyError> {
        match self.sightings.behind() {
            Some(Behind { head, seen, .. }) => Err(ApplyError::Behind { head, seen }),
            None => Ok(()),
        }
    }

    async fn settle(&self) -> Result<(), ApplyError> {
        self.catch_up().await?;
        let denials = PublishedDenials::read(&self.store, self.clock.now()).await;
        let denials = denials.map_err(|error| match error {
            RegistryError::Store(error) => ApplyError::Store(error),
            error => {
                tracing::error!(%error, "cannot follow the store");
                ApplyError::Contended
            }
        })?;
        let current = self.publisher.current();
        let settled = current.with_denials(current.revision(), denials);
        self.publisher.settle(settled);
        Ok(())
    }

    async fn look(&self) -> Result<(), ApplyError> {
        match self.catch_up().await {
            Ok(()) | Err(ApplyError::Behind { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn accept_loss(
        &self,
        head: Revision,
        authorship: &Authorship,
    ) -> Result<Revision, ApplyError> {
        let accepted = self.store.accept_loss(head, authorship).await;
        // It may have been done although its answer was lost.
        self.look().await?;
        let revision = accepted.map_err(|error| match error {
            CommitError::Moved { head } => ApplyError::NotHead { head },
            other => other.into(),
        })?;
        tracing::warn!(%revision, author = authorship.author, reason = authorship.reason, "a new epoch has begun");
        Ok(revision)
    }

    async fn attempt(&self, proposal: &Proposal) -> Result<Applied, CommitAttempt> {
        let current = self.publisher.current();
        let changes = proposal.changes.clone();
        let staged = Staged::try_new(current.in_force(), changes, current.mesh())
            .map_err(|error| CommitAttempt::Refused(error.into()))?;
        let changed = staged.changes_anything();
        let outcomes = staged.outcomes().to_vec();
        if proposal.dry_run {
            self.store.rehearse(&staged).await?;
            return Ok(Applied {
                revision: current.revision(),
                changed,
                outcomes,
            });
        }
        let authorship = Authorship {
            author: proposal.author.clone(),
            reason: proposal.reason.clone(),
            at: self.clock.now(),
        };
        let revision = match self.store.commit(&staged, &authorship).await {
            Ok(revision) => revision,
            Err(error) => return Err(self.commit_failed(error).await),
        };
        if changed {
            tracing::info!(%revision, author = authorship.author, "configuration changed");
            let places = self.new_places(&staged).await?;
            let next = current.after(&staged, places);
            self.publish(next);
        }
        Ok(Applied {
            revision,
            changed,
            outcomes,
        })
    }

    /// If this fails, the next write or [`Self::catch_up`] publishes the revision.
    async fn new_places(&self, staged: &Staged) -> Result<Option<Places>, StoreError> {
        let new = staged
            .outcomes()
            .iter()
            .any(|(key, outcome)| key.kind == Kind::Service && *outcome == Outcome::Created);
        match new {
            true => self.store.places().await.map(Some),
            false => Ok(None),
        }
    }

    /// A commit may have been done although its answer was lost: look, and publish what is there.
    async fn commit_failed(&self, error: CommitError) -> CommitAttempt {
        if matches!(error, CommitError::Store(_))
            && let Err(later) = self.catch_up().await
        {
            tracing::warn!(error = %later, "cannot tell whether the last write was committed");
        }
        error.into()
    }
}

enum CommitAttempt {
    Moved,
    Refused(ApplyError),
}

impl From<StoreError> for CommitAttempt {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<CommitError> for CommitAttempt {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Moved { .. } => Self::Moved,
            other => Self::Refused(other.into()),
        }
    }
}
