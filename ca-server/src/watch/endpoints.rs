//! Drives the announcement table: takes what streams announce, follows the registry, and publishes
//! the endpoints of all Services, at most once in 100 ms.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use identity::{QualifiedName, SpiffeId};
use runtime::Shutdown;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::announcements::{Announcement, AnnouncementTable, EndpointMap, Hosting};
use super::presence::StreamId;
use crate::issue::{Assignments, Directory};

const COALESCE: Duration = Duration::from_millis(100);
/// Streams wait here when the keeper is behind.
const QUEUE: usize = 1_024;

/// What streams announce to and read from; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct EndpointBoard {
    events: mpsc::Sender<Event>,
    published: watch::Receiver<Arc<EndpointMap>>,
}

/// The one owner of the table.
#[derive(Debug)]
pub(crate) struct EndpointKeeper {
    table: AnnouncementTable,
    events: mpsc::Receiver<Event>,
    published: watch::Sender<Arc<EndpointMap>>,
    directory: Directory,
    /// Told once what they announced is published.
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Event {
    Announced(SpiffeId, StreamId, Vec<Announcement>, oneshot::Sender<()>),
    Closed(SpiffeId, StreamId),
}

impl EndpointBoard {
    /// What is returned resolves once whoever subscribes is told of the list.
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

    async fn send(&self, event: Event) {
        // The keeper is gone only when the replica is going too.
        drop(self.events.send(event).await);
    }
}

impl EndpointKeeper {
    /// `live` are the agents with an unexpired SVID when this replica started.
    pub(crate) fn new(
        directory: Directory,
        first_generation: u64,
        live: BTreeSet<SpiffeId>,
    ) -> (EndpointBoard, Self) {
        let now = Instant::now();
        let mut table = AnnouncementTable::new(first_generation, live, now);
        let first = table.publish(directory.current().as_ref(), now);
        let (events, received) = mpsc::channel(QUEUE);
        let (published, subscribed) = watch::channel(first);
        let board = EndpointBoard {
            events,
            published: subscribed,
        };
        let keeper = Self {
            table,
            events: received,
            published,
            directory,
            waiting: Vec::new(),
        };
        (board, keeper)
    }

    pub(crate) async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut snapshots = self.directory.registry().subscribe();
        let mut due: Option<Instant> = None;
        let mut earliest = Instant::now();
        loop {
            let wake = [due, self.table.next_deadline()]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                Some(event) = self.events.recv() => self.take(event),
                Ok(()) = snapshots.changed() => {}
                () = sleep_or_wait(wake) => {
                    let now = Instant::now();
                    self.publish(now);
                    (due, earliest) = (None, now + COALESCE);
                    continue;
                }
            }
            due = due.or_else(|| Some(earliest.max(Instant::now())));
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Announced(agent, stream, list, published) => {
                self.table.announced(&agent, stream, list);
                self.waiting.push(published);
            }
            Event::Closed(agent, stream) => self.table.closed(&agent, stream, Instant::now()),
        }
    }

    fn publish(&mut self, now: Instant) {
        let map = self.table.publish(self.directory.current().as_ref(), now);
        self.published.send_if_modified(|published| {
            let changed = !Arc::ptr_eq(published, &map);
            *published = map;
            changed
        });
        for waiting in self.waiting.drain(..) {
            // A stream that has ended waits no more.
            let _nobody = waiting.send(());
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

async fn sleep_or_wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}
