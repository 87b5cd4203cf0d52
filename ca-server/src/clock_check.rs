//! Whether this replica's clock can be believed: it is compared with the database's, which all
//! replicas have in common.
//!
//! Invariant: beyond 30 s nothing is signed, neither leaves nor intermediates nor roots. What was
//! signed already stays good. In a file the store's clock is this host's, and there is nothing to
//! compare with.

use std::convert::Infallible;
use std::time::Duration;

use runtime::{Clock, Shutdown};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

const TOLERATED: Duration = Duration::from_secs(30);
const CHECK_EVERY: Duration = Duration::from_secs(5);

/// What the last comparison said; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ClockCheck(watch::Sender<time::Duration>);

/// This host's clock minus the database's, which is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this replica's clock is off: {:.1} s from the database's, and beyond {} s nothing is signed; \
     correct the clock of its host",
    .0.as_seconds_f64(),
    TOLERATED.as_secs()
)]
pub struct ClockOff(time::Duration);

/// Compares from time to time.
#[derive(Debug)]
pub(crate) struct ClockKeeper {
    pub(crate) check: ClockCheck,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) replica: String,
    pub(crate) metrics: Metrics,
}

impl ClockCheck {
    /// Compares once.
    ///
    /// # Errors
    /// The store is unavailable.
    pub(crate) async fn begin(store: &Store, clock: &Clock) -> Result<Self, StoreError> {
        let check = Self::unchecked();
        check.compare(store, clock).await?;
        Ok(check)
    }

    /// Of a replica whose store is in a file.
    pub(crate) fn unchecked() -> Self {
        Self(watch::Sender::new(time::Duration::ZERO))
    }

    /// This host's clock minus the database's.
    pub(crate) fn offset(&self) -> time::Duration {
        *self.0.borrow()
    }

    /// Asked before anything is signed.
    pub(crate) fn require(&self) -> Result<(), ClockOff> {
        match self.offset() {
            offset if offset.unsigned_abs() > TOLERATED => Err(ClockOff(offset)),
            _ => Ok(()),
        }
    }

    async fn compare(&self, store: &Store, clock: &Clock) -> Result<(), StoreError> {
        let before = clock.now();
        let Some(theirs) = store.database_time().await? else {
            return Ok(());
        };
        self.0.send_replace(offset(before, theirs, clock.now()));
        Ok(())
    }
}

impl ClockKeeper {
    /// Runs until the shutdown begins. While the store is away the last answer stands.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut was_off = false;
        loop {
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(CHECK_EVERY) => {}
            }
            if let Err(error) = self.check.compare(&self.store, &self.clock).await {
                tracing::debug!(error = %runtime::exit::one_line(&error), "clocks not compared");
                continue;
            }
            self.metrics.clock_offset(self.check.offset());
            let is_off = self.check.require();
            match is_off {
                Err(off) if !was_off => tracing::error!(
                    alarm = "clock-off",
                    replica = self.replica,
                    offset_ms = off.millis(),
                    "nothing is signed: this host's clock differs from the database's"
                ),
                Ok(()) if was_off => tracing::info!(
                    replica = self.replica,
                    "this host's clock is right again; signing goes on"
                ),
                _ => {}
            }
            was_off = is_off.is_err();
        }
    }
}

impl ClockOff {
    pub(crate) fn millis(self) -> i64 {
        i64::try_from(self.0.whole_milliseconds()).unwrap_or(i64::MAX)
    }
}

/// How far this clock is off at least: the other was read at some moment between the two.
fn offset(before: OffsetDateTime, theirs: OffsetDateTime, after: OffsetDateTime) -> time::Duration {
    if theirs < before {
        before - theirs
    } else if theirs > after {
        after - theirs
    } else {
        time::Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2026-11-22 12:00 UTC);

    #[track_caller]
    fn judged(ours: i64, waited: i64) -> Result<(), i64> {
        let before = NOON + time::Duration::seconds(ours);
        let check = ClockCheck::unchecked();
        let after = before + time::Duration::seconds(waited);
        check.0.send_replace(offset(before, NOON, after));
        check.require().map_err(ClockOff::millis)
    }

    #[test]
    fn a_clock_that_is_off_by_more_than_half_a_minute_signs_nothing() {
        assert_eq!(judged(31, 0), Err(31_000));
        assert_eq!(judged(-31, 0), Err(-31_000));
        assert_eq!(judged(30, 0), Ok(()));
        assert_eq!(judged(-30, 0), Ok(()));
    }

    #[test]
    fn a_slow_answer_is_no_fault_of_the_clock() {
        assert_eq!(judged(-60, 60), Ok(()));
        assert_eq!(judged(-100, 60), Err(-40_000));
    }
}
