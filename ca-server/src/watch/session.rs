//! One watch stream: introduces itself, then tells the agent each change that concerns it, and
//! takes what the agent says. It ends with the agent's SVID, with a newer stream of the same agent,
//! and with this replica.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use identity::QualifiedName;
use policy::Revision;
use proto::agent::v1::ca_message::Message;
use proto::agent::v1::{self as wire};
use proto::mesh::v1::{self as mesh, PROTOCOL};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use super::announcements::EndpointMap;
use super::decode::{Hello, Said, Sighting};
use super::presence::Session;
use super::service::WatchDesk;
use super::view::{Subscriptions, View};
use crate::issue::SelectorWatch;
use crate::peer::AgentPeer;
use crate::status;
use crate::store::SeenLeaf;

/// Who opens a stream says who it is, and reads what it is told, within so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// An agent's clock that is off by more than the back-date makes calls fail; it is told at once.
const RETRY_ELSEWHERE: Duration = Duration::from_secs(1);

/// The driver of one stream.
pub(super) struct WatchSession {
    desk: Arc<WatchDesk>,
    agent: AgentPeer,
    outgoing: Outgoing,
}

/// Boxed, so that a channel for many small messages is small while there are none.
pub(super) type Outgoing = mpsc::Sender<Box<Result<wire::CaMessage, Status>>>;

/// What the agent knows, as far as this stream has told it.
struct Told {
    view: View,
    /// `None` until an older agent says it.
    asked: Option<Subscriptions>,
    endpoints: BTreeMap<QualifiedName, u64>,
    /// What it announced last, until callers are told.
    publication: Option<(u64, oneshot::Receiver<()>)>,
}

/// How a stream ends.
enum End {
    /// The agent closed it, or the connection broke.
    Gone,
    Refused(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

impl WatchSession {
    pub(super) fn new(desk: Arc<WatchDesk>, agent: AgentPeer, outgoing: Outgoing) -> Self {
        Self {
            desk,
            agent,
            outgoing,
        }
    }

    pub(super) async fn run(self, mut incoming: Streaming<wire::AgentMessage>) {
        let Err(end) = self.converse(&mut incoming).await else {
            return;
        };
        if let End::Refused(refusal) = end {
            tracing::info!(
                agent = %self.agent.spiffe_id(),
                reason = refusal.message(),
                "watch stream ended"
            );
            // An agent that does not even read this is gone.
            drop(timeout(PATIENCE, self.outgoing.send(Box::new(Err(refusal)))).await);
        }
    }

    async fn converse(&self, incoming: &mut Streaming<wire::AgentMessage>) -> Result<(), End> {
        let hello = timeout(PATIENCE, self.hello(incoming))
            .await
            .map_err(|_| refused("hello-missing", "the first message must be `hello`"))??;
        self.require_admitted()?;
        self.report_clock(&hello);
        let introduction = hello.introduction.clone();
        let session = self
            .desk
            .presence
            .connect(self.agent.spiffe_id(), introduction);
        // Once more: who was forgotten before this stream could be found was not disconnected.
        self.require_admitted()?;
        tracing::info!(
            agent = %self.agent.spiffe_id(),
            product = hello.introduction.product,
            "agent connected"
        );
        let board = &self.desk.board;
        board
            .connected(self.agent.spiffe_id(), session.stream())
            .await;
        let result = self.tell(&session, &hello, incoming).await;
        board.closed(self.agent.spiffe_id(), session.stream()).await;
        if self.require_admitted().is_err() {
            let sightings = self.desk.directory.registry().sightings();
            sightings.forget(self.agent.spiffe_id());
        }
        result
    }

    fn require_admitted(&self) -> Result<(), End> {
        let admitted = self.desk.admitted.require(self.agent.spiffe_id());
        admitted.map_err(|refusal| refusal.to_status().into())
    }

    async fn hello(&self, incoming: &mut Streaming<wire::AgentMessage>) -> Result<Hello, End> {
        match self.next(incoming).await? {
            Said::Hello(hello) => Ok(hello),
            _ => Err(refused("hello-missing", "the first message must be `hello`").into()),
        }
    }

    async fn next(&self, incoming: &mut Streaming<wire::AgentMessage>) -> Result<Said, End> {
        let Ok(Some(message)) = incoming.message().await else {
            return Err(End::Gone);
        };
        self.desk.metrics.agent_request("watch-message");
        let said = Said::decode(message, &self.desk.limits, self.desk.clock.now());
        said.map_err(|error| refused("malformed", &error.to_string()).into())
    }

    async fn tell(
        &self,
        session: &Session,
        hello: &Hello,
        incoming: &mut Streaming<wire::AgentMessage>,
    ) -> Result<(), End> {
        // Subscribed before the first look, so that no change falls between.
        let mut snapshots = self.desk.directory.registry().subscribe();
        let mut endpoints = self.desk.board.subscribe();
        let mut lists = self.desk.lists.clone();
        let admitted = self.desk.directory.admitted();
        let mut selectors = admitted.watch_selectors(self.agent.spiffe_id());
        let takes_lists = hello.introduction.obeys_deny_lists;
        snapshots.mark_unchanged();
        endpoints.mark_unchanged();
        lists.mark_changed();

        self.send(Message::Greeting(self.greeting())).await?;
        let map = Arc::clone(&endpoints.borrow());
        let mut told = self.begin(hello, &map).await?;
        let map = Arc::clone(&endpoints.borrow());
        self.send_endpoints(&mut told, &map).await?;
        let expires = self.agent.not_after();
        let mut dismissed = pin!(self.desk.admitted.not_admitted(self.agent.spiffe_id()));
        loop {
            tokio::select! {
                said = self.next(incoming) => {
                    self.take(said?, session, &mut told).await?;
                }
                Ok(()) = told_otherwise(&mut snapshots, &mut selectors) => {
                    let asked = told.asked.clone();
                    self.update(&mut told, asked).await?;
                    // A Route or a Gateway may lead to Services that nobody asked for.
                    let map = Arc::clone(&endpoints.borrow());
                    self.send_endpoints(&mut told, &map).await?;
                }
                Ok(()) = endpoints.changed() => {
                    let map = Arc::clone(&endpoints.borrow_and_update());
                    self.send_endpoints(&mut told, &map).await?;
                }
                Ok(()) = lists.changed(), if takes_lists => {
                    let lists = Arc::clone(&lists.borrow_and_update());
                    if !lists.is_empty() {
                        self.send(Message::RevocationLists(lists.wire())).await?;
                    }
                }
                sequence = published(&mut told.publication) => {
                    let announced = wire::Announced { sequence };
                    self.send(Message::Announced(announced)).await?;
                }
                () = session.ended(dismissed.as_mut()) => {
                    let why = "a newer stream of this agent took over, or the agent was ended";
                    return Err(status::refused(Code::Aborted, "stream-replaced", why).into());
                }
                () = self.desk.clock.sleep_until(expires) => {
                    let why = "the SVID that opened this stream expired; connect with its successor";
                    return Err(status::refused(Code::Unauthenticated, "svid-expired", why).into());
                }
                () = self.desk.shutdown.draining() => {
                    let why = "this replica is draining; connect to another, or again";
                    return Err(status::unavailable("draining", why, RETRY_ELSEWHERE).into());
                }
            }
        }
    }

    async fn take(&self, said: Said, session: &Session, told: &mut Told) -> Result<(), End> {
        match said {
            Said::Hello(_) => Err(refused("hello-again", "`hello` comes first, and once").into()),
            Said::Acknowledge(revision) => {
                self.seen(revision).await;
                session.acknowledged(revision);
                Ok(())
            }
            Said::Subscriptions(asked) => {
                self.update(told, Some(asked)).await?;
                let map = Arc::clone(&self.desk.board.subscribe().borrow());
                self.send_endpoints(told, &map).await
            }
            Said::Announcements(list, sequence) => {
                let board = &self.desk.board;
                let publication = board
                    .announce(self.agent.spiffe_id(), session.stream(), list)
                    .await;
                told.publication = Some((sequence, publication));
                Ok(())
            }
            Said::Report(workload, report) => {
                let assignments = self.desk.directory.current();
                if assignments.holds(self.agent.spiffe_id(), &workload) {
                    session.reported(workload, report);
                }
                Ok(())
            }
            Said::Proxies(proxies) => {
                session.attached(proxies);
                Ok(())
            }
            Said::Sightings(sightings) => {
                self.saw(sightings);
                Ok(())
            }
        }
    }

    /// Only of workloads that the agent may hold.
    fn saw(&self, sightings: Vec<Sighting>) {
        let assignments = self.desk.directory.current();
        let agent = self.agent.spiffe_id();
        let seen = sightings
            .into_iter()
            .filter(|sighting| assignments.holds(agent, &sighting.workload))
            .map(|sighting| SeenLeaf {
                sha256: sighting.sha256,
                authorities: sighting.authorities,
                serial: sighting.serial,
                spiffe_id: sighting.spiffe_id,
                agent_id: agent.clone(),
                workload: sighting.workload,
            });
        self.desk.sightings.note(seen.collect());
    }

    /// A delta where the agent's cache can be continued, else a snapshot.
    async fn begin(&self, hello: &Hello, map: &EndpointMap) -> Result<Told, End> {
        let asked = hello.asked.clone();
        if let Some(resume) = &hello.resume {
            self.desk.directory.registry().reach(resume.revision).await;
        }
        let mut view = self.view(asked.as_ref());
        let mut endpoints = BTreeMap::new();
        let resume = hello.resume.as_ref();
        let resume = resume.filter(|it| it.revision.epoch == view.revision().epoch);
        let first = match resume {
            Some(resume) if resume.revision.number <= view.revision().number => {
                if asked.is_none() {
                    view.keep(&self.desk.directory.current(), resume);
                }
                Message::Delta(view.since_resumed(resume))
            }
            _ => {
                if let Some(resume) = resume {
                    self.seen(resume.revision).await;
                }
                let known = self.endpoints_of(&view, &mut endpoints, map);
                Message::Snapshot(view.snapshot(known))
            }
        };
        self.send(first).await?;
        Ok(Told {
            view,
            asked,
            endpoints,
            publication: None,
        })
    }

    /// The agent holds this revision. When the store does not, that is evidence.
    async fn seen(&self, seen: Revision) {
        let registry = self.desk.directory.registry();
        let head = registry.snapshot().revision();
        if seen.epoch != head.epoch || seen.number <= head.number {
            return;
        }
        registry.reach(seen).await;
        let head = registry.snapshot().revision();
        if seen.number > head.number {
            registry.sightings().note(self.agent.spiffe_id(), seen);
            tracing::error!(
                alarm = "store-behind",
                agent = %self.agent.spiffe_id(),
                %seen,
                %head,
                "an agent has seen a later revision than the store holds: was it restored?"
            );
        }
    }

    async fn update(&self, told: &mut Told, asked: Option<Subscriptions>) -> Result<(), End> {
        let view = self.view(asked.as_ref());
        let news = view.revision() != told.view.revision()
            || asked != told.asked
            || view.refuses_others_than(&told.view)
            || view.shows_others_than(&told.view);
        let another_epoch = view.revision().epoch != told.view.revision().epoch;
        let wanted = view.callable();
        told.endpoints.retain(|service, _| wanted.contains(service));
        let message = if another_epoch {
            told.endpoints.clear();
            let map = Arc::clone(&self.desk.board.subscribe().borrow());
            let known = self.endpoints_of(&view, &mut told.endpoints, &map);
            Message::Snapshot(view.snapshot(known))
        } else {
            Message::Delta(view.since(&told.view))
        };
        told.view = view;
        told.asked = asked;
        if news {
            self.send(message).await?;
        }
        Ok(())
    }

    fn view(&self, asked: Option<&Subscriptions>) -> View {
        let assignments = self.desk.directory.current();
        View::of(
            &assignments,
            self.agent.spiffe_id(),
            asked.unwrap_or(&Subscriptions::new()),
            &self.desk.lifetimes,
        )
    }

    async fn send_endpoints(&self, told: &mut Told, map: &EndpointMap) -> Result<(), End> {
        for message in self.endpoints_of(&told.view, &mut told.endpoints, map) {
            self.send(Message::Endpoints(message)).await?;
        }
        Ok(())
    }

    /// Those of the view's Services that are news beside the generations in `known`.
    fn endpoints_of(
        &self,
        view: &View,
        known: &mut BTreeMap<QualifiedName, u64>,
        map: &EndpointMap,
    ) -> Vec<mesh::ServiceEndpoints> {
        let mut news = Vec::new();
        for service in view.callable() {
            let Some(published) = map.get(service) else {
                continue;
            };
            if known.get(service) != Some(&published.generation) {
                news.push(published.wire(service, &self.desk.replica));
                known.insert(service.clone(), published.generation);
            }
        }
        news
    }

    fn greeting(&self) -> wire::Greeting {
        wire::Greeting {
            version: Some(PROTOCOL),
            replicas: self.desk.replicas.clone(),
            ca_time_unix_ms: status::unix_millis(self.desk.clock.now()),
            replica: self.desk.replica.clone(),
            recovery_key: self.desk.recovery.wire_key(),
            bundle_update: self.desk.recovery.wire_update(),
        }
    }

    fn report_clock(&self, hello: &Hello) {
        let offset = hello.introduction.clock_offset;
        if offset.unsigned_abs() > self.desk.lifetimes.back_date {
            tracing::warn!(
                agent = %self.agent.spiffe_id(),
                offset_ms = i64::try_from(offset.whole_milliseconds()).unwrap_or(i64::MAX),
                "the agent's clock is off by more than certificates are back-dated; calls may fail"
            );
        }
    }

    async fn send(&self, message: Message) -> Result<(), End> {
        let message = wire::CaMessage {
            message: Some(message),
        };
        match timeout(PATIENCE, self.outgoing.send(Box::new(Ok(message)))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(refused("too-slow", "the agent does not read what it is told").into()),
        }
    }
}

fn refused(reason: &'static str, message: &str) -> Status {
    status::refused(Code::InvalidArgument, reason, message)
}

/// Resolves when the registry has changed, or what is said of the agent.
async fn told_otherwise<T>(
    snapshots: &mut watch::Receiver<T>,
    selectors: &mut SelectorWatch,
) -> Result<(), watch::error::RecvError> {
    tokio::select! {
        changed = snapshots.changed() => changed,
        () = selectors.changed() => Ok(()),
    }
}

/// Resolves, once, when callers are told of the announcements with this number.
async fn published(publication: &mut Option<(u64, oneshot::Receiver<()>)>) -> u64 {
    let Some((sequence, waiting)) = publication else {
        return std::future::pending().await;
    };
    let sequence = *sequence;
    if waiting.await.is_err() {
        // The keeper is gone only when the replica is going too.
        return std::future::pending().await;
    }
    *publication = None;
    sequence
}
