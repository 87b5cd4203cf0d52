//! Notices that the wall clock went another way than time: it was stepped, slewed, or the host was
//! suspended. One look a second for a whole process, so that its sleepers need none of their own.

use std::convert::Infallible;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::{Clock, bounded};
use crate::shutdown::Shutdown;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What slewing adds up to before sleepers are told to reckon anew.
const TOLERATED: time::Duration = time::Duration::milliseconds(100);

/// Tells the sleepers of a [watched](Clock::watched) clock of its steps.
#[derive(Debug)]
pub struct StepWatch {
    clock: Clock,
    told: watch::Sender<()>,
}

impl StepWatch {
    pub(super) fn of(clock: Clock) -> (Self, watch::Receiver<()>) {
        let (told, steps) = watch::channel(());
        (Self { clock, told }, steps)
    }

    /// Runs until the shutdown drains; sleepers then look for themselves again.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut reckoned = Reckoning::now(&self.clock);
        loop {
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = shutdown.draining() => return Ok(()),
            }
            let seen = Reckoning::now(&self.clock);
            if reckoned.apart(&seen) > TOLERATED {
                self.told.send_replace(());
                reckoned = seen;
            }
        }
    }
}

/// What both clocks showed at one moment.
#[derive(Debug, Clone, Copy)]
struct Reckoning {
    wall: OffsetDateTime,
    monotonic: Instant,
}

impl Reckoning {
    fn now(clock: &Clock) -> Self {
        Self {
            wall: clock.now(),
            monotonic: Instant::now(),
        }
    }

    /// How far the clocks have gone apart since then, either way.
    fn apart(&self, later: &Self) -> time::Duration {
        let passed = later.monotonic.saturating_duration_since(self.monotonic);
        let shown = later.wall - self.wall;
        (shown - bounded(passed)).abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(reckoning: Reckoning, wall: time::Duration, monotonic: Duration) -> Reckoning {
        Reckoning {
            wall: reckoning.wall + wall,
            monotonic: reckoning.monotonic + monotonic,
        }
    }

    #[test]
    fn a_step_either_way_and_a_suspension_are_noticed() {
        let before = Reckoning::now(&Clock::system());
        for wall in [-300, 0, 600] {
            let wall = time::Duration::seconds(wall);
            let after = at(before, wall, Duration::from_secs(1));
            assert!(before.apart(&after) > TOLERATED, "{wall}");
        }
    }

    #[test]
    fn clocks_that_go_together_are_left_alone() {
        let before = Reckoning::now(&Clock::system());
        let after = at(before, time::Duration::HOUR, Duration::from_secs(3600));
        assert_eq!(before.apart(&after), time::Duration::ZERO);
    }
}
