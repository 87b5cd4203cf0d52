//! Keeps the subscription alive: one at a time, with pauses that grow.

use std::sync::Arc;
use std::time::Duration;

use crypto::random::{Random, SystemRandom};
use identity::QualifiedName;
use mtls::{Credentials, Publisher};
use runtime::{Backoff, Clock, InvalidBackoff, Shutdown};
use tokio::sync::watch;
use tokio::time::Instant;

use super::announcements::{Announcements, Place};
use super::assembly::Assembly;
use super::connect::Connector;
use super::session::Session;
use crate::live::Live;
use crate::sightings::Sightings;
use crate::state::MeshState;
use crate::status::StatusBoard;
use crate::transport::fronts::Followed;
use crate::transport::routing::Wants;
use crate::worker::Workers;

/// The proxy's side of the feed.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) connector: Connector,
    pub(crate) workload: QualifiedName,
    pub(crate) place: Place,
    pub(crate) assembly: Assembly,
    pub(crate) publisher: Publisher,
    pub(crate) credentials: Credentials,
    pub(crate) states: watch::Sender<Arc<MeshState>>,
    pub(crate) live: Live,
    pub(crate) wants: Wants,
    pub(crate) announcements: Announcements,
    pub(crate) followed: Followed,
    pub(crate) board: StatusBoard,
    pub(crate) freshness: Freshness,
    pub(crate) sightings: Sightings,
    pub(crate) clock: Clock,
    pub(crate) workers: Workers,
    pub(crate) shutdown: Shutdown,
}

/// When the CA was last heard. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Freshness {
    last: watch::Sender<Option<Instant>>,
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const SECOND_COMPLAINT: Duration = Duration::from_secs(10);
const RAREST_COMPLAINT: Duration = Duration::from_secs(600);

impl Feed {
    /// Subscribes again and again until the proxy has drained.
    ///
    /// # Errors
    /// Never in practice: the pauses are constants.
    pub(crate) async fn run(mut self) -> Result<(), InvalidBackoff> {
        let (workers, shutdown) = (self.workers.clone(), self.shutdown.clone());
        tokio::select! {
            ended = self.subscribe() => ended,
            () = drained(&workers, &shutdown) => Ok(()),
        }
    }

    /// Ready once credentials and policy are live, every mesh listener is bound, callers are told,
    /// and every listener of a Gateway has been tried.
    pub(crate) fn refresh_readiness(&self) {
        let bound = self.announcements.bound();
        let state = Arc::clone(&self.states.borrow());
        let ready = state.policy.is_some()
            && self.credentials.current().is_some()
            && self.announcements.is_told()
            && state.served.keys().all(|name| bound.contains_key(name))
            && self.followed.has_tried(&state);
        self.board.update(|status| {
            status.ready = ready || (status.ready && !status.draining);
            status.mesh_listeners = (*bound).clone();
        });
    }

    async fn subscribe(&mut self) -> Result<(), InvalidBackoff> {
        let mut backoff = Backoff::try_new(FIRST_PAUSE, LONGEST_PAUSE, 0.5)?;
        let mut complaints = Complaints::default();
        loop {
            let error = match Session::open(self).await {
                Ok(session) => {
                    backoff.reset();
                    complaints = Complaints::default();
                    session.run().await
                }
                Err(error) => error,
            };
            if complaints.is_due(Instant::now()) {
                let error = runtime::exit::one_line(&error);
                tracing::warn!(
                    error,
                    "the feed is lost; the last configuration stays in force"
                );
            }
            tokio::time::sleep(backoff.next(SystemRandom.unit())).await;
        }
    }
}

/// Says that the feed is lost at once, and then ever more rarely while it is.
#[derive(Debug, Default)]
struct Complaints {
    again: Option<(Instant, Duration)>,
}

impl Complaints {
    fn is_due(&mut self, now: Instant) -> bool {
        let pause = match self.again {
            None => SECOND_COMPLAINT,
            Some((at, pause)) if now >= at => (pause * 2).min(RAREST_COMPLAINT),
            Some(_) => return false,
        };
        self.again = Some((now + pause, pause));
        true
    }
}

impl Freshness {
    pub(crate) fn new() -> Self {
        let (last, _) = watch::channel(None);
        Self { last }
    }

    pub(crate) fn heard(&self, now: Instant, ago: Duration) {
        self.last.send_replace(now.checked_sub(ago));
    }

    pub(crate) fn age(&self) -> Option<Duration> {
        self.last.borrow().map(|last| last.elapsed())
    }
}

/// The feed stays while calls finish: what they may do can still change.
async fn drained(workers: &Workers, shutdown: &Shutdown) {
    shutdown.draining().await;
    tokio::select! {
        () = workers.ended() => {}
        () = shutdown.forced() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_feed_is_told_at_once_and_then_ever_more_rarely() {
        let lost = Instant::now();
        let mut complaints = Complaints::default();
        let told: Vec<u64> = (0..120)
            .filter(|at| complaints.is_due(lost + Duration::from_secs(*at)))
            .collect();
        assert_eq!(told, [0, 10, 30, 70]);
    }
}
