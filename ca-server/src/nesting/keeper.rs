//! The background job: looks at the instance above, follows its roots, renews the authority, refuses
//! what is revoked of it above, and says above which bundle is followed here.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use crypto::random::{Random, SystemRandom};
use runtime::{Backoff, Clock, Shutdown};
use time::OffsetDateTime;

use super::followed::{Difference, RootsToFollow};
use super::revoked::refuse_revoked;
use super::wire::Followed;
use super::{Nesting, NestingError};
use crate::authority::lifecycle::{Event, Generation, Lifecycle, Refusal};
use crate::authority::{Authority, PublishedRoots};
use crate::clock_check::ClockCheck;
use crate::registry::Registry;
use crate::rotation::{Rotation, RotationError};

/// Who makes the steps that the instance above has made first.
pub(super) const AUTHOR: &str = "upstream";
/// How long a root that the instance above has removed is trusted at most.
const GONE_WITHIN: Duration = Duration::from_secs(5 * 60);
const SLOWEST_LOOK: Duration = Duration::from_secs(5);
const FASTEST_LOOK: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct NestingKeeper {
    nesting: Nesting,
    rotation: Rotation,
    registry: Registry,
    authority: Authority,
    clock: Clock,
    clock_check: ClockCheck,
    look_every: Duration,
    /// What the instance above was told last.
    told: u64,
    /// Whether a root that it does not trust was ever its own.
    was_above: BTreeMap<Generation, bool>,
}

impl NestingKeeper {
    pub(crate) fn new(
        nesting: Nesting,
        (rotation, registry, authority): (Rotation, Registry, Authority),
        (clock, clock_check): (Clock, ClockCheck),
        refresh_hint: Duration,
    ) -> Self {
        Self {
            nesting,
            rotation,
            registry,
            authority,
            clock,
            clock_check,
            look_every: (refresh_hint / 20).clamp(FASTEST_LOOK, SLOWEST_LOOK),
            told: 0,
            was_above: BTreeMap::new(),
        }
    }

    /// Runs until the shutdown begins. What fails is tried again.
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut retry = self.retry();
        loop {
            let pause = match self.look().await {
                Ok(()) => {
                    retry = self.retry();
                    self.nesting.standing.note_answer(self.clock.now());
                    self.look_every
                }
                Err(error) => {
                    self.say(&error);
                    retry.next(SystemRandom.unit())
                }
            };
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn retry(&self) -> Backoff {
        Backoff::try_new(self.look_every, RETRY_MOST, 0.2).expect("the constants are in order")
    }

    /// Once for each reason.
    fn say(&self, error: &NestingError) {
        let failure = runtime::exit::one_line(error);
        if self.nesting.standing.heard().failure.as_ref() != Some(&failure) {
            tracing::error!(
                alarm = "upstream-unheard",
                error = failure,
                "the instance above is not followed; everything goes on until what it has signed ends"
            );
        }
        self.nesting.standing.note_failure(failure);
    }

    async fn look(&mut self) -> Result<(), NestingError> {
        let was_refused = self.is_refused();
        // Before it is asked: a root that another replica takes up meanwhile its answer may lack.
        let before = self.rotation.lifecycle().await?;
        let trusted = self.registry.snapshot().roots().clone();
        let bundle = self.nesting.above.bundle(&trusted).await?;
        let above = bundle.check(&self.nesting.above.trust_domain)?;
        self.nesting.offered.tell(above.as_told());
        let followed = self.follow_roots(&before, &above).await;
        // Asked for first: who hears of the revocation has something to renew with. It is obeyed
        // also when there is nothing.
        let renewed = self.renew_authority(&above, &trusted).await;
        refuse_revoked(&self.registry, &above.revoked, self.clock.now()).await?;
        let difference = followed?;
        renewed?;
        if was_refused && self.is_refused() && self.can_sign().await? {
            // When it came to be refused there was nothing to renew it with.
            self.authority.want_successor();
        }
        let sequence = above.sequence;
        if difference.is_same && sequence != self.told && self.all_follow().await? {
            let followed = Followed { sequence };
            self.nesting.above.note_followed(followed, &trusted).await?;
            self.told = sequence;
        }
        Ok(())
    }

    async fn follow_roots(
        &mut self,
        before: &Lifecycle,
        above: &RootsToFollow,
    ) -> Result<Difference, NestingError> {
        // What may go by itself is not given up.
        self.rotation.advance().await?;
        self.rotation.look();
        let now = self.clock.now();
        let lifecycle = self.rotation.lifecycle().await?;
        self.registry.look().await.map_err(RotationError::from)?;
        let roots = self.registry.snapshot().roots().clone();
        let difference = above.compare((before, &lifecycle), &roots, now);
        self.follow(&difference).await?;
        Ok(difference)
    }

    async fn renew_authority(
        &self,
        above: &RootsToFollow,
        trusted: &PublishedRoots,
    ) -> Result<(), NestingError> {
        let now = self.clock.now();
        if self.clock_check.require().is_ok() && self.authority_is_due(above, now).await? {
            self.nesting.ask_for_authority(trusted, now).await?;
            self.rotation.look();
        }
        Ok(())
    }

    /// Whether everybody refuses what this replica signs.
    fn is_refused(&self) -> bool {
        let denials = self.registry.denials().borrow().clone();
        self.authority.intermediate().is_refused_by(denials.list())
    }

    async fn can_sign(&self) -> Result<bool, NestingError> {
        let roots = self.registry.snapshot().roots().clone();
        let Some((active, _)) = roots.active() else {
            return Ok(false);
        };
        let keeper = &self.nesting.keeper;
        Ok(keeper.can_sign(active, self.clock.now()).await?)
    }

    async fn all_follow(&self) -> Result<bool, NestingError> {
        let progress = self.rotation.progress().await?;
        Ok(progress.pending.is_empty() && progress.pending_below.is_empty())
    }

    async fn follow(&mut self, difference: &Difference) -> Result<(), NestingError> {
        for (generation, within) in &difference.compromised {
            self.give_up(*generation, *within).await?;
        }
        for generation in &difference.gone {
            // A root of before this instance stood below another drains as any other does.
            let was_above = match self.was_above.get(generation) {
                Some(known) => *known,
                None => self.nesting.keeper.is_of_upstream(*generation).await?,
            };
            self.was_above.insert(*generation, was_above);
            if was_above {
                self.give_up(*generation, GONE_WITHIN).await?;
            }
        }
        Ok(())
    }

    /// Another replica may have been faster.
    async fn give_up(&self, generation: Generation, within: Duration) -> Result<(), NestingError> {
        let event = Event::Compromised { generation, within };
        match self.rotation.wish(&event, AUTHOR.to_owned()).await {
            Ok(()) => {
                tracing::error!(
                    alarm = "upstream-root-gone",
                    root = %generation,
                    "the instance above has given up a root; what leads to it is replaced here"
                );
                Ok(())
            }
            Err(RotationError::Refused(Refusal::Tainted(_) | Refusal::Removed(_))) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// At half of its life, as every certificate; and at once when another root signs above, or it
    /// is revoked.
    async fn authority_is_due(
        &self,
        above: &RootsToFollow,
        now: OffsetDateTime,
    ) -> Result<bool, NestingError> {
        let newest = self.nesting.keeper.newest_authority(now).await?;
        Ok(newest.is_none_or(|newest| {
            let (from, until) = (newest.validity.not_before(), newest.validity.not_after());
            newest.root != above.active().der().as_ref() || now >= from + (until - from) / 2
        }))
    }
}
