//! Drives the announcement table: takes what streams announce and what other replicas have written,
//! follows the registry and what is said of agents, and publishes the endpoints of all Services, at most once in 100 ms.

mod confirmations;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use identity::{QualifiedName, SpiffeId};
use runtime::Shutdown;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::announcements::{Announcement, AnnouncementTable, EndpointMap, Hosting, Lost, Seen};
use super::presence::{Presence, StreamId};
use crate::issue::{Assignments, Directory};
use crate::store::{AnnouncedChange, AnnouncedRow};
use confirmations::Confirmations;

pub(super) const COALESCE: Duration = Duration::from_millis(100);
/// Streams wait here when the keeper is behind.
const QUEUE: usize = 1_024;

/// What streams announce to and read from; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EndpointBoard {
    events: mpsc::Sender<Event>,
    published: watch::Receiver<Arc<EndpointMap>>,
    unwritten: watch::Receiver<bool>,
}

/// The one owner of the table.
#[derive(Debug)]
pub(crate) struct EndpointKeeper {
    table: AnnouncementTable,
    events: mpsc::Receiver<Event>,
    published: watch::Sender<Arc<EndpointMap>>,
    presence: Presence,
    /// Whether other replicas are to be told of something.
    unwritten: watch::Sender<bool>,
    directory: Directory,
    confirmations: Confirmations,
    /// Told once what other replicas have written is published.
    relayed: Vec<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Event {
    Connected(SpiffeId, StreamId),
    Announced(SpiffeId, StreamId, Vec<Announcement>, oneshot::Sender<()>),
    Closed(SpiffeId, StreamId),
    Known(oneshot::Sender<BTreeMap<String, u64>>),
    Heard(Vec<AnnouncedRow>, oneshot::Sender<()>),
    HeardAll(Vec<AnnouncedRow>, oneshot::Sender<()>),
    Met(String),
    Seen(Seen, oneshot::Sender<Vec<Lost>>),
    Told(String, u64),
    Take(usize, oneshot::Sender<Vec<AnnouncedChange>>),
    Written(Vec<AnnouncedChange>, Option<u64>),
}

impl EndpointBoard {
    pub(super) async fn connected(&self, agent: &SpiffeId, stream: StreamId) {
        self.send(Event::Connected(agent.clone(), stream)).await;
    }

    /// What is returned resolves once whoever subscribes is told of the list, here and at the other
    /// replicas.
    pub(super) async fn announce(
        &self,
        agent: &SpiffeId,
        stream: StreamId,
        list: Vec<Announcement>,
    ) -> oneshot::Receiver<()> {
        let (published, publication) = oneshot::channel();
        self.send(Event::Announced(agent.clone(), stream, list, published))
            .await;
        publication
    }

    pub(super) async fn closed(&self, agent: &SpiffeId, stream: StreamId) {
        self.send(Event::Closed(agent.clone(), stream)).await;
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<EndpointMap>> {
        self.published.clone()
    }

    /// Turns `true` when [`Self::take`] has something.
    pub(super) fn unwritten(&self) -> watch::Receiver<bool> {
        self.unwritten.clone()
    }

    /// Up to which stamp each other replica's rows are known.
    pub(super) async fn known(&self) -> BTreeMap<String, u64> {
        self.ask(Event::Known).await.unwrap_or_default()
    }

    /// Resolves once callers are told of the rows.
    pub(super) async fn heard(&self, rows: Vec<AnnouncedRow>) -> oneshot::Receiver<()> {
        let (published, publication) = oneshot::channel();
        self.send(Event::Heard(rows, published)).await;
        publication
    }

    /// As [`Self::heard`], of everything that is written; what this replica wrote may be lost.
    pub(super) async fn heard_all(&self, rows: Vec<AnnouncedRow>) -> oneshot::Receiver<()> {
        let (published, publication) = oneshot::channel();
        self.send(Event::HeardAll(rows, published)).await;
        publication
    }

    pub(super) async fn met(&self, replica: String) {
        self.send(Event::Met(replica)).await;
    }

    /// Answers which replicas are over.
    pub(super) async fn seen(&self, seen: Seen) -> Vec<Lost> {
        let lost = self.ask(|answer| Event::Seen(seen, answer)).await;
        lost.unwrap_or_default()
    }

    pub(super) async fn told(&self, by: String, stamp: u64) {
        self.send(Event::Told(by, stamp)).await;
    }

    pub(super) async fn take(&self, most: usize) -> Vec<AnnouncedChange> {
        let changes = self.ask(|answer| Event::Take(most, answer)).await;
        changes.unwrap_or_default()
    }

    /// What was taken is written under this stamp, or is not.
    pub(super) async fn written(&self, changes: Vec<AnnouncedChange>, stamp: Option<u64>) {
        self.send(Event::Written(changes, stamp)).await;
    }

    async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.send(event(answer)).await;
        answered.await.ok()
    }

    async fn send(&self, event: Event) {
        // The keeper is gone only when the replica is going too.
        drop(self.events.send(event).await);
    }
}

impl EndpointKeeper {
    /// `live` are the agents with an unexpired SVID when this replica started; `shared`, where there
    /// may be others, is its name and what all have written.
    pub(crate) fn new(
        directory: Directory,
        presence: Presence,
        first_generation: u64,
        live: BTreeSet<SpiffeId>,
        shared: Option<(&str, Vec<AnnouncedRow>)>,
    ) -> (EndpointBoard, Self) {
        let now = Instant::now();
        let confirmations = Confirmations::new(shared.is_some());
        let mut table = AnnouncementTable::new(first_generation, live, now);
        if let Some((replica, rows)) = shared {
            table = table.shared(replica, rows, now);
        }
        let first = table.publish(directory.current().as_ref(), now);
        let (events, received) = mpsc::channel(QUEUE);
        let (published, subscribed) = watch::channel(first);
        presence.connect_elsewhere(table.connected_elsewhere());
        let (unwritten, to_write) = watch::channel(false);
        let board = EndpointBoard {
            events,
            published: subscribed,
            unwritten: to_write,
        };
        let keeper = Self {
            table,
            events: received,
            published,
            presence,
            unwritten,
            directory,
            confirmations,
            relayed: Vec::new(),
        };
        (board, keeper)
    }

    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut snapshots = self.directory.registry().subscribe();
        let mut selectors = self.directory.admitted().selector_changes();
        let mut due: Option<Instant> = None;
        let mut earliest = Instant::now();
        loop {
            let deadlines = [due, self.table.next_deadline()];
            let wake = deadlines.into_iter().flatten().min();
            let patience = self.confirmations.next_deadline();
            let changed = tokio::select! {
                () = shutdown.draining() => return Ok(()),
                Some(event) = self.events.recv() => self.take(event),
                Ok(()) = snapshots.changed() => true,
                Ok(()) = selectors.changed() => true,
                () = sleep_or_wait(patience) => false,
                () = sleep_or_wait(wake) => {
                    let now = Instant::now();
                    self.publish(now);
                    (due, earliest) = (None, now + COALESCE);
                    false
                }
            };
            self.confirmations
                .settle(self.table.others(), Instant::now());
            self.unwritten
                .send_if_modified(|before| replace(before, self.table.has_unwritten()));
            if changed {
                due = due.or_else(|| Some(earliest.max(Instant::now())));
            }
        }
    }

    /// Answers whether something is to be published. Who asked may be gone.
    fn take(&mut self, event: Event) -> bool {
        let now = Instant::now();
        match event {
            Event::Connected(agent, stream) => self.table.connected(&agent, stream, now),
            Event::Announced(agent, stream, list, published) => {
                self.table.announced(&agent, stream, list);
                self.confirmations.wait(agent, published, now);
            }
            Event::Closed(agent, stream) => self.table.closed(&agent, stream, now),
            Event::Heard(rows, published) => {
                self.table.heard(rows);
                self.relayed.push(published);
            }
            Event::HeardAll(rows, published) => {
                self.table.heard_all(rows, now);
                self.table.write_all();
                self.relayed.push(published);
            }
            Event::Seen(seen, lost) => {
                let over = self.table.seen(&seen, now);
                let changed = !over.is_empty();
                let _nobody = lost.send(over);
                return changed;
            }
            Event::Met(replica) => {
                self.table.met(&replica, now);
                return false;
            }
            Event::Known(known) => {
                let _nobody = known.send(self.table.known());
                return false;
            }
            Event::Told(by, stamp) => {
                self.confirmations.told(by, stamp);
                return false;
            }
            Event::Take(most, answer) => {
                let changes = self.table.take_unwritten(most);
                self.confirmations.being_written(&changes);
                let _nobody = answer.send(changes);
                return false;
            }
            Event::Written(changes, stamp) => {
                self.table.written(&changes, stamp);
                self.confirmations.written(&changes, stamp);
                return false;
            }
        }
        true
    }

    fn publish(&mut self, now: Instant) {
        let map = self.table.publish(self.directory.current().as_ref(), now);
        self.published.send_if_modified(|published| {
            let changed = !Arc::ptr_eq(published, &map);
            *published = map;
            changed
        });
        self.presence
            .connect_elsewhere(self.table.connected_elsewhere());
        self.confirmations.published();
        for relayed in self.relayed.drain(..) {
            let _nobody = relayed.send(());
        }
    }
}

impl Hosting for Assignments {
    fn permits(&self, agent: &SpiffeId, workload: &QualifiedName, service: &QualifiedName) -> bool {
        self.may_announce(agent, workload, service)
    }

    fn services_of(&self, agent: &SpiffeId) -> BTreeSet<QualifiedName> {
        Self::services_of(self, agent)
    }
}

/// Answers whether that was news.
fn replace(before: &mut bool, now: bool) -> bool {
    std::mem::replace(before, now) != now
}

async fn sleep_or_wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
