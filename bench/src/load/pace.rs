//! A clock that ticks closer than a runtime's timers do (theirs round to a millisecond).

use std::time::Duration;

use anyhow::Result;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// Gives each in turn the time at which its request is due, so many a second in all.
pub(super) async fn pace(
    each_second: f64,
    lasting: Duration,
    turns: Vec<UnboundedSender<Instant>>,
) -> Result<()> {
    let period = Duration::from_secs_f64(1.0 / each_second);
    spawn_blocking(move || {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::empty())?;
        let every = Expiration::Interval(TimeSpec::from_duration(period));
        timer.set(every, TimerSetTimeFlags::empty())?;
        let (began, mut ticks) = (Instant::now(), 0_u32);
        let mut next = turns.iter().cycle();
        while began.elapsed() < lasting {
            let mut expired = [0; 8];
            nix::unistd::read(&timer, &mut expired)?;
            for _ in 0..u64::from_ne_bytes(expired) {
                ticks += 1;
                let turn = next.next().expect("at least one connection");
                turn.send(began + period * ticks)?;
            }
        }
        Ok(())
    })
    .await?
}
