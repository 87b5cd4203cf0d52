//! Carries announcements between this replica and the others, by way of the store: writes what
//! agents announce here, reads what they announce elsewhere, and lets the others know when callers
//! are told.
//!
//! Invariant: whatever fails is done again. After a time without the store everything is read and
//! written anew, since the server may have lost what was not on its disk yet.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use runtime::{Clock, Shutdown};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::endpoints::{COALESCE, EndpointBoard};
use super::enforcement::HEARTBEAT;
use crate::store::{AnnouncedRow, Store, StoreError};

/// Of one statement.
const MOST: usize = 1_000;
/// Of the store, when it has failed.
const REST: Duration = Duration::from_secs(1);
/// Who has not read for so long may have missed what was forgotten since.
const READ_WITHIN: Duration = Duration::from_secs(5 * 60);
/// Hints that wait; those that find no room are made up for by the next look.
const QUEUE: usize = 1_024;

/// What another replica did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hint {
    /// `replica` has written something under this stamp; 0: it has arrived.
    Announced { replica: String, stamp: u64 },
    /// Callers at `by` are told of what this replica has written up to this stamp.
    Told { by: String, stamp: u64 },
    /// The server may have changed.
    Anything,
}

/// Where hints go; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Hints(mpsc::Sender<Hint>);

impl Hints {
    pub(crate) fn give(&self, hint: Hint) {
        // See [`QUEUE`].
        drop(self.0.try_send(hint));
    }
}

/// The background job; only where the store is shared.
#[derive(Debug)]
pub(crate) struct AnnouncementSharing {
    replica: String,
    store: Store,
    clock: Clock,
    board: EndpointBoard,
    hints: mpsc::Receiver<Hint>,
    arrived: bool,
    /// Whether the store may hold less than is known.
    doubt: bool,
    read_at: Instant,
    rests_until: Instant,
    relaying: FuturesUnordered<Relaying>,
}

/// By replica.
type Stamps = BTreeMap<String, u64>;

/// Resolves to a replica, and up to which of its stamps callers here are told.
type Relaying = Pin<Box<dyn Future<Output = (String, u64)> + Send>>;

impl AnnouncementSharing {
    pub(crate) fn new(
        replica: String,
        store: Store,
        clock: Clock,
        board: EndpointBoard,
    ) -> (Hints, Self) {
        let (give, hints) = mpsc::channel(QUEUE);
        let now = Instant::now();
        let sharing = Self {
            replica,
            store,
            clock,
            board,
            hints,
            arrived: false,
            doubt: true,
            read_at: now,
            rests_until: now,
            relaying: FuturesUnordered::new(),
        };
        (Hints(give), sharing)
    }

    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut unwritten = self.board.unwritten();
        let mut look = interval(HEARTBEAT);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let rested = Instant::now() >= self.rests_until;
            let done = tokio::select! {
                () = shutdown.draining() => return Ok(()),
                Some(hint) = self.hints.recv() => self.take(hint).await,
                Some((of, stamp)) = self.relaying.next() => {
                    self.store.tell_told(&self.replica, &of, stamp).await
                }
                _ = look.tick() => self.look().await,
                () = turned_true(&mut unwritten), if rested => self.write().await,
                () = sleep_until(self.rests_until), if !rested => Ok(()),
            };
            if let Err(error) = done {
                self.failed(&error);
            }
        }
    }

    async fn take(&mut self, hint: Hint) -> Result<(), StoreError> {
        match hint {
            Hint::Anything => {
                self.doubt = true;
                self.look().await
            }
            Hint::Announced { replica, stamp: 0 } => {
                self.board.met(replica).await;
                Ok(())
            }
            Hint::Announced { replica, stamp } => {
                let mut known = self.board.known().await;
                known.retain(|name, _| *name == replica);
                let known_of_it = known.entry(replica).or_default();
                match stamp > *known_of_it {
                    true => self.read(&known).await,
                    false => Ok(()),
                }
            }
            Hint::Told { by, stamp } => {
                self.board.told(by, stamp).await;
                Ok(())
            }
        }
    }

    /// Follows the other replicas' heartbeats, and what they have written if that was missed.
    async fn look(&mut self) -> Result<(), StoreError> {
        if !self.arrived {
            self.store.arrive(&self.replica, self.clock.now()).await?;
            self.arrived = true;
        }
        let seen = self.store.replicas_seen().await?;
        for lost in self.board.seen(seen).await {
            tracing::warn!(
                replica = lost.replica,
                "a replica is gone, and its agents with it"
            );
            self.store
                .forget_replica(&lost.replica, lost.seen, lost.stamp)
                .await?;
        }
        if self.doubt || self.read_at.elapsed() > READ_WITHIN {
            return self.read_all().await;
        }
        let known = self.board.known().await;
        self.read(&known).await
    }

    async fn read(&mut self, known: &Stamps) -> Result<(), StoreError> {
        let rows = self.store.announced_since(known).await?;
        self.read_at = Instant::now();
        if !rows.is_empty() {
            let stamps = highest(&rows);
            let published = self.board.heard(rows).await;
            self.relay(stamps, published);
        }
        Ok(())
    }

    async fn read_all(&mut self) -> Result<(), StoreError> {
        let rows = self.store.announced().await?;
        self.read_at = Instant::now();
        self.doubt = false;
        let stamps = highest(&rows);
        let published = self.board.heard_all(rows).await;
        self.relay(stamps, published);
        Ok(())
    }

    /// Tells the other replicas, once callers here are told.
    fn relay(&self, stamps: Stamps, published: oneshot::Receiver<()>) {
        let published = published.shared();
        for (replica, stamp) in stamps {
            let published = published.clone();
            if replica != self.replica {
                self.relaying.push(Box::pin(async move {
                    // The keeper is gone only when the replica is going too.
                    drop(published.await);
                    (replica, stamp)
                }));
            }
        }
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        let changes = self.board.take(MOST).await;
        if changes.is_empty() {
            return Ok(());
        }
        self.rests_until = Instant::now() + COALESCE;
        let written = self
            .store
            .announce(&self.replica, &changes, self.clock.now())
            .await;
        let stamp = written.as_ref().ok().copied();
        self.board.written(changes, stamp).await;
        written.map(drop)
    }

    fn failed(&mut self, error: &StoreError) {
        self.rests_until = Instant::now() + REST;
        if !std::mem::replace(&mut self.doubt, true) {
            tracing::warn!(
                error = %runtime::exit::one_line(error),
                "announcements cannot be shared with other replicas; trying again"
            );
        }
    }
}

async fn turned_true(receiver: &mut watch::Receiver<bool>) {
    if receiver.wait_for(|value| *value).await.is_err() {
        // The keeper is gone only when the replica is going too.
        std::future::pending().await
    }
}

fn highest(rows: &[AnnouncedRow]) -> Stamps {
    let mut highest = Stamps::new();
    for row in rows {
        let stamp: &mut u64 = highest.entry(row.replica.clone()).or_default();
        *stamp = row.stamp.max(*stamp);
    }
    highest
}
