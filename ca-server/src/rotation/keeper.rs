//! The background job: looks when there is something to look at, and goes on until nothing changes.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use runtime::Shutdown;
use time::OffsetDateTime;

use super::{Rotation, RotationError};
use crate::authority::lifecycle::{Generation, Lifecycle, Phase};
use crate::clock_check::ClockCheck;

/// While something is under way, a look costs some queries.
const SLOWEST_LOOK: Duration = Duration::from_secs(5);
const FASTEST_LOOK: Duration = Duration::from_millis(100);
/// While nothing is, for a clock that jumps.
const IDLE_LOOK: Duration = Duration::from_secs(60);

/// Drives one replica's rotation; not by a clock that is off.
#[derive(Debug)]
pub(crate) struct RotationKeeper {
    rotation: Rotation,
    clock_check: ClockCheck,
    /// Removed roots of whose keys no token has anything left.
    destroyed: BTreeSet<Generation>,
}

impl RotationKeeper {
    pub(crate) fn new(rotation: Rotation, clock_check: ClockCheck) -> Self {
        Self {
            rotation,
            clock_check,
            destroyed: BTreeSet::new(),
        }
    }

    /// Runs until the shutdown begins. What fails is tried again at the next look.
    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut roots = self.rotation.registry.roots();
        loop {
            roots.mark_unchanged();
            let next = match self.advance().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(
                        error = %runtime::exit::one_line(&error),
                        "the roots cannot be looked after"
                    );
                    self.rotation.clock.now() + SLOWEST_LOOK
                }
            };
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = self.rotation.wake.notified() => {}
                // A replica that has begun something may not live to go on with it.
                Ok(()) = roots.changed() => {}
                () = self.rotation.clock.sleep_until(next) => {}
            }
        }
    }

    /// Makes every step that can be made; answers when to look again.
    async fn advance(&mut self) -> Result<OffsetDateTime, RotationError> {
        if self.clock_check.require().is_err() {
            return Ok(self.rotation.clock.now() + SLOWEST_LOOK);
        }
        self.rotation.advance().await?;
        let (lifecycle, _) = self.rotation.state().await?;
        self.destroy_removed(&lifecycle).await?;
        let adopted = self.rotation.adopt(&lifecycle).await?;
        let now = self.rotation.clock.now();
        if adopted {
            return Ok(now + FASTEST_LOOK);
        }
        if lifecycle.is_settled() {
            return Ok(lifecycle
                .active()
                .due_at()
                .clamp(now + FASTEST_LOOK, now + IDLE_LOOK));
        }
        let look = (self.rotation.times.refresh_hint / 20).clamp(FASTEST_LOOK, SLOWEST_LOOK);
        Ok(now + look)
    }

    async fn destroy_removed(&mut self, lifecycle: &Lifecycle) -> Result<(), RotationError> {
        let removed = lifecycle.members().iter();
        let removed = removed.filter(|it| it.phase == Phase::Removed);
        let removed: Vec<_> = removed
            .map(|it| it.generation)
            .filter(|it| !self.destroyed.contains(it))
            .collect();
        if !removed.is_empty() {
            self.rotation.keeper.destroy_removed(&removed).await?;
            self.destroyed.extend(removed);
        }
        Ok(())
    }
}
