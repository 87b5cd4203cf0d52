//! One proxy's feed: what is new is sent, what comes back goes into the roster.
//!
//! Invariants: the peer is attested again before each push; an expired certificate is never sent;
//! the feed ends when the identity is no longer this agent's, or the proxy's process has gone.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::stream::{Stream, unfold};
use identity::{QualifiedName, SerialNumber};
use policy::{Resource, Revision};
use proto::mesh::v1::{self as mesh, feed_message, proxy_message};
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};

use super::peer::{FeedPeer, ProxyMap};
use super::roster::Seat;
use super::service::FeedParts;
use super::sightings;
use crate::view::{View, wire_revision};

/// A proxy that has not acknowledged by then stops counting.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(10);
/// `Heard` more often than this says nothing new.
const HEARD_AT_MOST_EVERY: Duration = Duration::from_millis(500);

/// The state of one feed.
#[derive(Debug)]
pub(super) struct Subscription {
    parts: FeedParts,
    proxies: ProxyMap,
    peer: FeedPeer,
    workload: QualifiedName,
    seat: Seat,
    inbound: Streaming<mesh::ProxyMessage>,
    queue: VecDeque<feed_message::Message>,
    sent: Sent,
    /// When the revision that was sent last should have been acknowledged.
    silent_at: Option<Instant>,
    /// The proxy's number and ours of what it announced last, until callers are told.
    unpublished: Option<(u64, u64)>,
    ended: bool,
}

/// What the proxy has.
#[derive(Debug, Default)]
struct Sent {
    welcome: bool,
    credentials: Option<(SerialNumber, u64)>,
    configuration: Option<mesh::Configuration>,
    endpoints: BTreeMap<String, mesh::ServiceEndpoints>,
    heard: Option<Instant>,
}

impl Subscription {
    pub(super) fn new(
        parts: FeedParts,
        proxies: ProxyMap,
        peer: FeedPeer,
        workload: QualifiedName,
        seat: Seat,
        inbound: Streaming<mesh::ProxyMessage>,
    ) -> Self {
        Self {
            parts,
            proxies,
            peer,
            workload,
            seat,
            inbound,
            queue: VecDeque::new(),
            sent: Sent::default(),
            silent_at: None,
            unpublished: None,
            ended: false,
        }
    }

    /// Everything that is sent, until the feed ends.
    pub(super) fn messages(self) -> impl Stream<Item = Result<mesh::FeedMessage, Status>> + Send {
        unfold(self, |mut subscription| async move {
            let message = subscription.next().await?;
            Some((message, subscription))
        })
    }

    async fn next(&mut self) -> Option<Result<mesh::FeedMessage, Status>> {
        if self.ended {
            return None;
        }
        match self.next_message().await {
            Ok(message) => message.map(|message| {
                Ok(mesh::FeedMessage {
                    message: Some(message),
                })
            }),
            Err(status) => {
                self.ended = true;
                Some(Err(status))
            }
        }
    }

    async fn next_message(&mut self) -> Result<Option<feed_message::Message>, Status> {
        let mut heard = self.parts.heard.subscribe();
        let mut publication = self.seat.publication();
        loop {
            if self.queue.is_empty() {
                self.refill()?;
            }
            if let Some(message) = self.queue.pop_front() {
                return Ok(Some(message));
            }
            let silent_at = self.silent_at;
            tokio::select! {
                () = self.parts.shutdown.draining() => {
                    return Err(Status::unavailable("the agent is stopping"));
                }
                () = gone(&self.peer) => return Ok(None),
                message = self.inbound.message() => match message? {
                    Some(message) => self.take(message)?,
                    None => return Ok(None),
                },
                Ok(()) = self.parts.view.changed() => {}
                Ok(()) = self.parts.holdings.changed() => {}
                Ok(()) = heard.changed() => {}
                Ok(()) = publication.changed(), if self.unpublished.is_some() => {}
                () = at(silent_at) => {
                    tracing::warn!(workload = %self.workload, "proxy does not acknowledge; it stops counting");
                    self.seat.discount();
                    self.silent_at = None;
                }
            }
        }
    }

    /// Queues what the proxy does not have yet.
    fn refill(&mut self) -> Result<(), Status> {
        self.parts.holdings.mark_unchanged();
        let view = self.parts.view.borrow_and_update().clone();
        let Some(view) = view else {
            return Ok(());
        };
        let Some(assignment) = view.assignment_of(&self.workload) else {
            let text = format!("{} is no longer assigned to this agent", self.workload);
            return Err(Status::permission_denied(text));
        };
        let spiffe_id = assignment.spiffe_id.clone();
        if !self.sent.welcome {
            self.sent.welcome = true;
            self.queue.push_back(self.welcome(spiffe_id.to_string()));
        }
        self.refill_credentials(&spiffe_id);
        self.refill_configuration(&view);
        self.refill_heard();
        self.refill_announced();
        if self.queue.is_empty() {
            return Ok(());
        }
        let peer = self.proxies.admit(&self.peer, Some(&self.workload));
        peer.map(|_| ()).map_err(Status::from)
    }

    fn welcome(&self, spiffe_id: String) -> feed_message::Message {
        let applications =
            self.parts
                .applications
                .iter()
                .map(|application| mesh::ApplicationAddress {
                    namespace: application.service.namespace.to_string(),
                    service: application.service.name.to_string(),
                    port: application.port.clone(),
                    address: application.address.clone(),
                });
        feed_message::Message::Welcome(mesh::Welcome {
            version: Some(mesh::PROTOCOL),
            workload: self.workload.to_string(),
            spiffe_id,
            applications: applications.collect(),
        })
    }

    fn refill_credentials(&mut self, spiffe_id: &identity::SpiffeId) {
        let holdings = self.parts.holdings.borrow_and_update().clone();
        let held = holdings.workload(spiffe_id, self.parts.clock.now());
        let (Some(held), Some(bundle)) = (held, &holdings.bundle) else {
            return;
        };
        let version = (held.svid.svid().serial(), bundle.sequence);
        if self.sent.credentials == Some(version) {
            return;
        }
        self.sent.credentials = Some(version);
        self.queue
            .push_back(feed_message::Message::Credentials(mesh::Credentials {
                spiffe_id: spiffe_id.to_string(),
                chain: held.chain(),
                key: held.svid.key().to_pkcs8().to_vec(),
                bundles: vec![bundle.as_ref().clone()],
            }));
    }

    fn refill_configuration(&mut self, view: &View) {
        let configuration = view.configuration();
        // Not by revision: a name that was asked for adds to the configuration of the same one.
        if self.sent.configuration.as_ref() != Some(&configuration) {
            self.sent.configuration = Some(configuration.clone());
            self.silent_at = Some(Instant::now() + ACKNOWLEDGE_WITHIN);
            self.queue
                .push_back(feed_message::Message::Configuration(configuration));
        }
        for (service, endpoints) in view.endpoints() {
            if self.sent.endpoints.get(service) != Some(endpoints) {
                self.sent
                    .endpoints
                    .insert(service.clone(), endpoints.clone());
                self.queue
                    .push_back(feed_message::Message::Endpoints(endpoints.clone()));
            }
        }
    }

    fn refill_heard(&mut self) {
        let Some(heard) = *self.parts.heard.subscribe().borrow() else {
            return;
        };
        let news = self
            .sent
            .heard
            .is_none_or(|sent| heard.saturating_duration_since(sent) >= HEARD_AT_MOST_EVERY);
        if !news {
            return;
        }
        self.sent.heard = Some(heard);
        let ago = heard.elapsed().as_millis();
        self.queue
            .push_back(feed_message::Message::Heard(mesh::Heard {
                milliseconds_ago: u64::try_from(ago).unwrap_or(u64::MAX),
            }));
    }

    fn refill_announced(&mut self) {
        let publication = *self.seat.publication().borrow();
        let published = self
            .unpublished
            .take_if(|(_, number)| publication.covers(*number));
        if let Some((sequence, _)) = published {
            self.queue
                .push_back(feed_message::Message::Announced(mesh::Announced {
                    sequence,
                }));
        }
    }

    fn take(&mut self, message: mesh::ProxyMessage) -> Result<(), Status> {
        match message.message {
            Some(proxy_message::Message::Applied(applied)) => self.applied(applied),
            Some(proxy_message::Message::Want(want)) => self.wants(&want),
            Some(proxy_message::Message::Announce(announce)) => {
                let view = self.parts.view.borrow().clone();
                let served = announce.announcements.into_iter().filter(|announcement| {
                    let served = view
                        .as_ref()
                        .is_some_and(|view| serves(view, announcement, &self.workload));
                    if !served {
                        tracing::warn!(
                            workload = %self.workload,
                            service = announcement.service,
                            "announcement ignored: the Service does not name this workload"
                        );
                    }
                    served
                });
                let number = self.seat.announced(served.collect());
                self.unpublished = Some((announce.sequence, number));
                Ok(())
            }
            Some(proxy_message::Message::Status(status)) => {
                self.seat.reported(status);
                Ok(())
            }
            Some(proxy_message::Message::Seen(seen)) => {
                sightings::require_well_formed(&seen.leaves)
                    .map_err(|error| Status::invalid_argument(error.to_string()))?;
                self.seat.saw(seen.leaves, self.parts.clock.now());
                Ok(())
            }
            Some(proxy_message::Message::Subscribe(_)) => Err(Status::invalid_argument(
                "message: `subscribe` comes once, first",
            )),
            // A newer proxy's message.
            None => Ok(()),
        }
    }

    fn applied(&mut self, applied: mesh::Applied) -> Result<(), Status> {
        let revision = applied
            .revision
            .ok_or_else(|| Status::invalid_argument("applied.revision: must be set"))?;
        let revision = Revision {
            epoch: revision.epoch,
            number: revision.number,
        };
        let sent = self.sent.configuration.as_ref();
        let up_to_date = sent.and_then(|it| it.revision) == Some(wire_revision(revision));
        if up_to_date {
            self.silent_at = None;
        }
        self.seat.applied(revision, applied, up_to_date);
        Ok(())
    }

    fn wants(&mut self, want: &mesh::Want) -> Result<(), Status> {
        let service: QualifiedName = format!("{}/{}", want.namespace, want.service)
            .parse()
            .map_err(|error| Status::invalid_argument(format!("want: {error}")))?;
        let name = format!("{}.{}", service.name, service.namespace);
        if !self.seat.wants(&name, self.parts.clock.now()) {
            tracing::warn!(workload = %self.workload, service = name, "too many services are wanted");
        }
        Ok(())
    }
}

/// Whether the Service's `workloads` name the one whose proxy announces.
fn serves(view: &View, announcement: &mesh::Announcement, workload: &QualifiedName) -> bool {
    let name = format!("{}/{}", announcement.namespace, announcement.service);
    let service = name.parse().ok().and_then(|name| view.service_json(&name));
    let parsed = service.and_then(|json| serde_json::from_str(json).ok());
    match parsed.map(|value| policy::parse_json(&value)) {
        Some(Ok(Resource::Service(service))) => service.workloads.contains(workload),
        _ => false,
    }
}

async fn gone(peer: &FeedPeer) {
    match peer {
        // The connection itself says so.
        FeedPeer::InProcess(_) => std::future::pending().await,
        FeedPeer::Process(caller) => caller.process.exited().await,
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
