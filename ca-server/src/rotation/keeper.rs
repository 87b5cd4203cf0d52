//! The background job: looks when there is something to look at, and goes on until nothing changes.

use std::convert::Infallible;
use std::time::Duration;

use runtime::Shutdown;
use time::OffsetDateTime;

use super::{Rotation, RotationError};
use crate::clock_check::ClockCheck;

/// While something is under way, a look costs some queries.
const SLOWEST_LOOK: Duration = Duration::from_secs(5);
const FASTEST_LOOK: Duration = Duration::from_millis(100);
/// While nothing is, for a clock that jumps and for steps of other replicas.
const IDLE_LOOK: Duration = Duration::from_secs(60);

/// Drives one replica's rotation; not by a clock that is off.
#[derive(Debug)]
pub(crate) struct RotationKeeper(Rotation, ClockCheck);

impl RotationKeeper {
    pub(crate) fn new(rotation: Rotation, clock_check: ClockCheck) -> Self {
        Self(rotation, clock_check)
    }

    /// Runs until the shutdown begins. What fails is tried again at the next look.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        loop {
            let next = match self.advance().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(
                        error = %runtime::exit::one_line(&error),
                        "the roots cannot be looked after"
                    );
                    self.0.clock.now() + SLOWEST_LOOK
                }
            };
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = self.0.wake.notified() => {}
                () = self.0.clock.sleep_until(next) => {}
            }
        }
    }

    /// Makes every step that can be made; answers when to look again.
    async fn advance(&self) -> Result<OffsetDateTime, RotationError> {
        if self.1.require().is_err() {
            return Ok(self.0.clock.now() + SLOWEST_LOOK);
        }
        self.0.advance().await?;
        let (lifecycle, _) = self.0.state().await?;
        let now = self.0.clock.now();
        if lifecycle.is_settled() {
            return Ok(lifecycle
                .active()
                .due_at()
                .clamp(now + FASTEST_LOOK, now + IDLE_LOOK));
        }
        let look = (self.0.refresh_hint / 20).clamp(FASTEST_LOOK, SLOWEST_LOOK);
        Ok(now + look)
    }
}
