//! The one reader of the wall clock.
//!
//! Everything that judges time takes `now` as a parameter; the edge of a process asks its
//! [`Clock`] for it. Tests hold the [`ClockControl`] of an adjustable clock and move it; sleepers
//! then wake early. It refuses nothing: a clock that is off is detected by its users.

mod steps;

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;

pub use steps::StepWatch;

/// The longest uninterrupted sleep of [`Clock::sleep_until`] where nobody watches for steps: the
/// wall clock may be stepped, or the host suspended, while the monotonic timer runs on.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// A handle on the wall clock, in UTC. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    offset: Option<watch::Receiver<time::Duration>>,
    steps: Option<watch::Receiver<()>>,
}

impl Clock {
    /// The clock of the host.
    pub fn system() -> Self {
        Self {
            offset: None,
            steps: None,
        }
    }

    /// The same clock, whose sleepers are told of steps as long as the [`StepWatch`] runs, and do
    /// not wake to look for them: with ten thousand sleepers that is most of what they cost.
    pub fn watched(self) -> (Self, StepWatch) {
        let (watch, steps) = StepWatch::of(self.clone());
        let steps = Some(steps);
        (Self { steps, ..self }, watch)
    }

    /// A clock that starts at the host's time and that its [`ClockControl`] can move.
    pub fn adjustable() -> (Self, ClockControl) {
        let (sender, offset) = watch::channel(time::Duration::ZERO);
        let control = ClockControl {
            offset: Arc::new(sender),
        };
        (
            Self {
                offset: Some(offset),
                steps: None,
            },
            control,
        )
    }

    /// The current time.
    pub fn now(&self) -> OffsetDateTime {
        let offset = self
            .offset
            .as_ref()
            .map_or(time::Duration::ZERO, |offset| *offset.borrow());
        host_time() + offset
    }

    /// Returns once the clock shows `deadline` or later, at once if it already does.
    ///
    /// A sleeper on an adjustable clock wakes when the clock is moved past its deadline; on the
    /// host's clock, a step is noticed within half a minute, on a [watched](Self::watched) one
    /// within a second.
    pub async fn sleep_until(&self, deadline: OffsetDateTime) {
        let (mut offset, mut steps) = (self.offset.clone(), self.steps.clone());
        loop {
            let remaining = deadline - self.now();
            let Ok(remaining) = Duration::try_from(remaining) else {
                return;
            };
            if remaining.is_zero() {
                return;
            }
            let longest = steps.as_ref().map_or(LONGEST_SLEEP, |_| Duration::MAX);
            tokio::select! {
                () = tokio::time::sleep(remaining.min(longest)) => {}
                () = changed(&mut offset) => {}
                () = changed(&mut steps) => {}
            }
        }
    }

    /// The steps from now on, for who must do more about one than sleep anew.
    pub fn steps(&self) -> ClockSteps {
        let (mut offset, mut steps) = (self.offset.clone(), self.steps.clone());
        if let Some(offset) = &mut offset {
            offset.mark_unchanged();
        }
        if let Some(steps) = &mut steps {
            steps.mark_unchanged();
        }
        ClockSteps { offset, steps }
    }

    /// Sleeps for `span` of this clock's time.
    pub async fn sleep(&self, span: Duration) {
        self.sleep_until(self.now() + span).await;
    }
}

/// Tells of the steps of a [watched](Clock::watched) or an adjustable clock.
#[derive(Debug)]
pub struct ClockSteps {
    offset: Option<watch::Receiver<time::Duration>>,
    steps: Option<watch::Receiver<()>>,
}

impl ClockSteps {
    /// Resolves after the next step, or at once if there was one since it was asked last. Cancel
    /// safe. Never on a clock that nobody watches.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                true = stepped(&mut self.offset) => return,
                true = stepped(&mut self.steps) => return,
                else => {}
            }
        }
    }
}

/// Whether the change is a step, and not the end of who would tell of one.
async fn stepped<T>(watched: &mut Option<watch::Receiver<T>>) -> bool {
    changed(watched).await;
    watched.is_some()
}

/// Moves an adjustable [`Clock`] and all its clones.
#[derive(Clone, Debug)]
pub struct ClockControl {
    offset: Arc<watch::Sender<time::Duration>>,
}

impl ClockControl {
    /// Moves the clock forward.
    pub fn advance(&self, span: Duration) {
        self.offset
            .send_modify(|offset| *offset = offset.saturating_add(bounded(span)));
    }

    /// Sets the clock to the host's time plus `offset`, which may be negative.
    pub fn set_offset(&self, offset: time::Duration) {
        self.offset.send_replace(offset);
    }
}

fn bounded(span: Duration) -> time::Duration {
    time::Duration::try_from(span).unwrap_or(time::Duration::MAX)
}

/// Resolves at the next change, also at the last: when nobody is left who could make one.
async fn changed<T>(watched: &mut Option<watch::Receiver<T>>) {
    let Some(receiver) = watched else {
        return std::future::pending().await;
    };
    if receiver.changed().await.is_err() {
        *watched = None;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads the wall clock"
)]
fn host_time() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleeper_wakes_when_the_clock_is_moved_past_its_deadline() {
        let (clock, control) = Clock::adjustable();
        let deadline = clock.now() + Duration::from_secs(3600);
        let sleeper = {
            let clock = clock.clone();
            async move { clock.sleep_until(deadline).await }
        };
        let mover = async { control.advance(Duration::from_secs(3600)) };
        tokio::join!(sleeper, mover);
        assert!(clock.now() >= deadline);
    }

    #[tokio::test]
    async fn sleepers_outlive_whoever_watches_for_steps() {
        let (clock, control) = Clock::adjustable();
        let (clock, watch) = clock.watched();
        drop(watch);
        let deadline = clock.now() + Duration::from_secs(3600);
        let mover = async { control.advance(Duration::from_secs(3600)) };
        tokio::join!(clock.sleep_until(deadline), mover);
        assert!(clock.now() >= deadline);
    }

    #[tokio::test]
    async fn a_step_is_told_once_also_when_nobody_asked_meanwhile() {
        let (clock, control) = Clock::adjustable();
        control.advance(Duration::from_secs(1));
        let mut steps = clock.steps();
        control.set_offset(time::Duration::minutes(-5));
        steps.next().await;
        tokio::select! {
            biased;
            () = steps.next() => panic!("there was one step"),
            () = std::future::ready(()) => {}
        }
    }

    #[tokio::test]
    async fn deadline_in_the_past_returns_at_once() {
        let clock = Clock::system();
        clock
            .sleep_until(clock.now() - Duration::from_secs(1))
            .await;
    }

    #[test]
    fn offset_moves_every_clone_backwards_too() {
        let (clock, control) = Clock::adjustable();
        let clones = [clock.clone(), clock];
        control.set_offset(time::Duration::days(-2));
        let yesterday = Clock::system().now() - Duration::from_secs(86_400);
        assert!(clones.iter().all(|clock| clock.now() < yesterday));
    }

    #[test]
    fn clock_outlives_its_control() {
        let (clock, control) = Clock::adjustable();
        control.advance(Duration::from_secs(7200));
        drop(control);
        assert!(clock.now() > Clock::system().now() + Duration::from_secs(7000));
    }
}
