//! What time does: streams past their limits, idle connections, the status that ages, and a
//! look at who could get around the proxy.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use mtls::Credentials;
use runtime::Clock;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::level_feed::LevelFeed;
use crate::config::Limits;
use crate::feed::client::Freshness;
use crate::guard::bypass;
use crate::live::{Live, Sweep};
use crate::record::Verdict;
use crate::state::MeshState;
use crate::status::{StatusBoard, survives};
use crate::telemetry::Journal;
use crate::worker::Workers;

const EVERY: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The task that looks at the clock.
#[derive(Debug)]
pub(super) struct Housekeeping {
    pub(super) states: watch::Receiver<Arc<MeshState>>,
    pub(super) live: Live,
    pub(super) credentials: Credentials,
    pub(super) freshness: Freshness,
    pub(super) board: StatusBoard,
    pub(super) journal: Journal,
    pub(super) limits: Arc<Limits>,
    pub(super) clock: Clock,
    pub(super) workers: Workers,
    /// Our inbound redirect port, if we have one.
    pub(super) inbound: Option<u16>,
    pub(super) levels: LevelFeed,
}

impl Housekeeping {
    /// Runs until the last worker has ended.
    ///
    /// # Errors
    /// Never.
    pub(super) async fn run(mut self) -> Result<(), Infallible> {
        let workers = self.workers.clone();
        tokio::select! {
            never = self.rounds() => match never {},
            () = workers.ended() => Ok(()),
        }
    }

    async fn rounds(&mut self) -> Infallible {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look_at = Instant::now();
        let mut served = None;
        loop {
            ticks.tick().await;
            self.sweep();
            let state = Arc::clone(&self.states.borrow_and_update());
            let changed = served.as_ref() != Some(&state.served);
            if changed || Instant::now() >= look_at {
                self.look(&state);
                served = Some(state.served.clone());
                look_at = Instant::now() + LOOK_EVERY;
            }
            self.levels.note(&state, Instant::now());
            self.note();
        }
    }

    fn sweep(&self) {
        let leaf_life = self
            .credentials
            .current()
            .map_or(Duration::ZERO, |current| current.life());
        let ended = self.live.sweep(&Sweep {
            now: self.clock.now(),
            feed_age: self.freshness.age(),
            leaf_life,
            idle: self.limits.idle.duration(),
            total: self.limits.total.duration(),
        });
        if ended > 0 {
            tracing::info!(ended, "streams past their limits ended");
        }
    }

    fn look(&self, state: &MeshState) {
        let found = bypass::look(&state.served, self.inbound);
        self.board.update(|status| {
            let new = found
                .iter()
                .filter(|port| !status.bypassable.contains(port));
            for port in new {
                tracing::warn!(
                    target = %port.target,
                    port = port.application_port,
                    reach = port.reach.as_str(),
                    "BYPASSABLE: the application can be reached around the proxy"
                );
            }
            status.bypassable = found;
        });
    }

    fn note(&self) {
        let now = self.clock.now();
        self.board.update(|status| {
            let age = self.freshness.age();
            status.ca_heard_ms_ago = age.and_then(|it| u64::try_from(it.as_millis()).ok());
            status.survives_seconds = status.not_after.map(|it| survives(it, now));
            status.live_streams = self.live.count();
            status.calls_allowed = self.journal.total(Verdict::Allowed);
            status.calls_denied = self.journal.total(Verdict::Denied);
            status.calls_failed = self.journal.total(Verdict::Failed);
        });
        self.journal.note(&self.board.current());
    }
}
