//! The watch stream: what the CA says is applied, published and cached; what the proxies did and
//! want is said back.
//!
//! Invariants: a revision is acknowledged only when it and its bundle are on disk and every counted
//! proxy decides by them; nothing is applied before the CA has said its protocol version.

use std::sync::Arc;
use std::time::Duration;

use identity::SerialNumber;
use identity::join_token::CaAddress;
use proto::agent::v1::configuration_watch_client::ConfigurationWatchClient;
use proto::agent::v1::{self as wire, agent_message, ca_message};
use proto::mesh::v1::PROTOCOL;
use runtime::Backoff;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::elsewhere::{Elsewhere, due};
use super::outbound::Said;
use super::{Next, Session};
use crate::ca::Connection;
use crate::cache::StoredConfiguration;
use crate::contact::note_clock;
use crate::feed::{Attendance, Publication};
use crate::join::origin;
use crate::view::{View, ViewError, wire_revision};

const OPEN_WITHIN: Duration = Duration::from_secs(10);
const TIDY_EVERY: Duration = Duration::from_secs(60);
const OUTBOUND: usize = 16;

/// Why the stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error("the CA refuses the stream: {}", .0.message())]
    Refused(Status),
    #[error("the CA did not open the stream in time")]
    Timeout,
    #[error("the CA closed the stream")]
    Closed,
    #[error("the CA speaks protocol {theirs_major}.{theirs_minor}, this agent {}.{}", PROTOCOL.major, PROTOCOL.minor)]
    Version {
        theirs_major: u32,
        theirs_minor: u32,
    },
    #[error("the CA said something else before its greeting")]
    NotGreeted,
    #[error(transparent)]
    View(#[from] ViewError),
}

impl WatchError {
    /// Whether the CA says that it must be attested again.
    pub(super) fn is_forgotten(&self) -> bool {
        let Self::Refused(status) = self else {
            return false;
        };
        let reason = status.metadata().get("countersign-reason");
        reason.is_some_and(|reason| reason == "agent-forgotten" || reason == "svid-revoked")
    }
}

/// One open stream.
struct Stream {
    inbound: Streaming<wire::CaMessage>,
    outbound: mpsc::Sender<wire::AgentMessage>,
    greeted: bool,
    said: Said,
}

impl Session {
    /// Returns when the agent's own SVID has been renewed, and when another replica is to be used.
    pub(super) async fn watch(
        &mut self,
        connection: Connection,
        backoff: &mut Backoff,
    ) -> Result<Next, WatchError> {
        let ended = self.converse(connection, backoff).await;
        if ended.is_err() {
            self.roster.published(Publication::Untold);
        }
        ended
    }

    async fn converse(
        &mut self,
        mut connection: Connection,
        backoff: &mut Backoff,
    ) -> Result<Next, WatchError> {
        let serial = self.own_serial();
        let mut stream = self.open(&connection).await?;
        let mut elsewhere = Elsewhere::default();
        if let Some(here) = self.addresses.current() {
            self.detour.arrived(None, here);
        }
        self.contact.send_modify(|contact| {
            contact.channel = Some(connection.channel.clone());
            contact.address = self.addresses.current().cloned();
            contact.problem = None;
        });
        tracing::info!(address = ?self.addresses.current().map(ToString::to_string), "watching the CA");
        let mut attendance = self.roster.subscribe();
        let mut holdings = self.holdings.clone();
        let mut deliveries = self.deliveries.subscribe();
        let mut tidy = interval(TIDY_EVERY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let way_back = self.way_back(&elsewhere);
            tokio::select! {
                message = stream.inbound.message() => {
                    let message = message.map_err(WatchError::Refused)?.ok_or(WatchError::Closed)?;
                    let had_greeted = stream.greeted;
                    self.take(&mut stream, message).await?;
                    // A CA that greets, and then says what must be refused, is not asked at once.
                    if had_greeted {
                        backoff.reset();
                    }
                }
                Ok(()) = attendance.changed() => {}
                Ok(()) = deliveries.changed() => {}
                Ok(()) = holdings.changed() => {
                    if self.own_serial() != serial {
                        return Ok(Next::Renewed(connection));
                    }
                }
                Some(verdict) = self.verdicts.recv() => self.judge(&verdict, &mut elsewhere),
                home = due(way_back) => elsewhere = self.towards(home),
                (there, dialled) = elsewhere.dialled() => {
                    elsewhere = Elsewhere::default();
                    if let Some(to) = self.arrive(&there, dialled) {
                        return Ok(Next::Moved { from: connection, to });
                    }
                }
                () = connection.closed() => return Err(WatchError::Closed),
                _ = tidy.tick() => self.roster.tidy(self.clock.now()),
            }
            if stream.greeted {
                self.speak(&mut stream).await?;
            }
        }
    }

    /// What is held and can be built on.
    fn resumable(&self) -> Option<Arc<View>> {
        let held = self.view.borrow().clone();
        held.filter(|view| view.has_addresses() && !self.afresh)
    }

    async fn open(&self, connection: &Connection) -> Result<Stream, WatchError> {
        let (outbound, messages) = mpsc::channel(OUTBOUND);
        let held = self.resumable();
        let resume = held.as_ref().map(|view| view.revision());
        let attendance = self.roster.attendance();
        let services = attendance.subscriptions();
        let said = Said::hello(services.clone(), held.is_some());
        let now_ms = self.clock.now().unix_timestamp_nanos() / 1_000_000;
        let hello = wire::Hello {
            version: Some(PROTOCOL),
            resume: resume.map(wire_revision),
            product: concat!("countersign-agent/", env!("CARGO_PKG_VERSION")).to_owned(),
            engine_version: attendance.engine_version(policy::ENGINE_VERSION),
            agent_time_unix_ms: i64::try_from(now_ms).unwrap_or(i64::MAX),
            held: held.as_ref().map(|view| view.held()).unwrap_or_default(),
            subscriptions: Some(wire::Subscriptions { services }),
        };
        send(&outbound, agent_message::Message::Hello(hello)).await?;
        let mut client =
            ConfigurationWatchClient::with_origin(connection.channel.clone(), origin());
        let opening = client.watch(ReceiverStream::new(messages));
        let opened = timeout(OPEN_WITHIN, opening).await;
        let inbound = opened
            .map_err(|_| WatchError::Timeout)?
            .map_err(WatchError::Refused)?;
        Ok(Stream {
            inbound: inbound.into_inner(),
            outbound,
            greeted: false,
            said,
        })
    }

    async fn take(
        &mut self,
        stream: &mut Stream,
        message: wire::CaMessage,
    ) -> Result<(), WatchError> {
        match message.message {
            Some(ca_message::Message::Greeting(greeting)) => {
                self.greeted(stream, &greeting)?;
                let (key, update) = (&greeting.recovery_key, &greeting.bundle_update);
                self.recovery.told(key, update, self.clock.now()).await;
                Ok(())
            }
            _ if !stream.greeted => Err(WatchError::NotGreeted),
            Some(ca_message::Message::Snapshot(snapshot)) => {
                let held = self.view.borrow().clone();
                let held = held.filter(|_| !std::mem::take(&mut self.afresh));
                let view = View::from_snapshot(&self.trust_domain, snapshot, held.as_deref())?;
                self.publish(view).await;
                Ok(())
            }
            Some(ca_message::Message::Delta(delta)) => {
                let view = self.held_view()?.with_delta(&self.trust_domain, delta)?;
                self.publish(view).await;
                Ok(())
            }
            Some(ca_message::Message::Endpoints(endpoints)) => {
                let view = self.held_view()?.with_endpoints(endpoints);
                self.publish(view).await;
                Ok(())
            }
            Some(ca_message::Message::Announced(announced)) => {
                self.roster.published(Publication::UpTo(announced.sequence));
                Ok(())
            }
            Some(ca_message::Message::RevocationLists(lists)) => {
                let view = self.held_view()?.with_revocation_lists(lists);
                self.publish(view).await;
                Ok(())
            }
            // A newer CA's message; nothing it holds may be guessed at.
            None => Ok(()),
        }
    }

    fn greeted(
        &mut self,
        stream: &mut Stream,
        greeting: &wire::Greeting,
    ) -> Result<(), WatchError> {
        let theirs = greeting.version.unwrap_or_default();
        if !PROTOCOL.interoperates_with(theirs) {
            return Err(WatchError::Version {
                theirs_major: theirs.major,
                theirs_minor: theirs.minor,
            });
        }
        stream.greeted = true;
        stream.said.greeted_by(theirs);
        self.roster.published(if theirs.confirms_announcements() {
            Publication::UpTo(0)
        } else {
            Publication::Untold
        });
        note_clock(&self.contact, greeting.ca_time_unix_ms, self.clock.now());
        let announced: Vec<CaAddress> = greeting
            .replicas
            .iter()
            .filter_map(|address| address.parse().ok())
            .collect();
        self.addresses.replace(&announced);
        Ok(())
    }

    /// Proxies first, for the sake of time-to-enforce; the acknowledgement waits for the disk.
    async fn publish(&self, view: View) {
        let revision = view.revision();
        tracing::debug!(%revision, "configuration received");
        let view = Arc::new(view);
        self.view.send_replace(Some(Arc::clone(&view)));
        if self.persist(&view).await {
            self.contact
                .send_modify(|contact| contact.cached = Some(revision));
        }
    }

    async fn persist(&self, view: &View) -> bool {
        let wanted = self.roster.attendance().wanted().clone();
        let stored = StoredConfiguration {
            snapshot: Some(view.to_snapshot()),
            revocation_lists: Some(view.revocation_lists().as_ref().clone()),
            replicas: self.addresses.iter().map(ToString::to_string).collect(),
            subscriptions: wanted
                .into_iter()
                .map(|(service, last)| (service, last.unix_timestamp()))
                .collect(),
        };
        match self.cache.store(stored).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(
                    error = %runtime::exit::one_line(&error),
                    "configuration not cached, so it is not acknowledged"
                );
                false
            }
        }
    }

    async fn speak(&self, stream: &mut Stream) -> Result<(), WatchError> {
        let attendance = self.roster.attendance();
        let cached = self.contact.borrow().cached;
        let cached = cached.filter(|_| self.uses_bundle(&attendance));
        let acknowledged = cached.and_then(|held| attendance.acknowledged(held));
        let subscribed = stream.said.subscriptions(&attendance);
        let view = self.view.borrow().clone();
        if let (Some(_), Some(view)) = (&subscribed, view) {
            self.persist(&view).await;
        }
        let messages = subscribed
            .into_iter()
            .chain(stream.said.proxies(&attendance))
            .chain(stream.said.announcements(&attendance))
            .chain(stream.said.reports(&attendance))
            .chain(stream.said.sightings(&attendance))
            .chain(stream.said.acknowledgement(acknowledged));
        for message in messages.collect::<Vec<_>>() {
            send(&stream.outbound, message).await?;
        }
        Ok(())
    }

    /// Whether the bundle of what the agent holds is on disk, was sent to who uses it here, and
    /// nothing is presented any more that leads to a root about to be removed.
    fn uses_bundle(&self, attendance: &Attendance) -> bool {
        let offered = self.view.borrow().as_ref().map(|it| it.bundle().sequence);
        let Some(offered) = offered else {
            return false;
        };
        let holdings = self.holdings.borrow().clone();
        let held = holdings.bundle.as_deref().map_or(0, |it| it.sequence);
        let cached = self.contact.borrow().cached_bundle.unwrap_or(0);
        let now = self.clock.now();
        if held < offered
            || cached < offered
            || !self.deliveries.have(offered, Instant::now())
            || !holdings.tainted(&self.trust_domain, now).is_empty()
        {
            return false;
        }
        let replaces = holdings.replaces_tainted();
        let view = self.view.borrow().clone();
        attendance.follows(offered, |workload| {
            let entry = view
                .as_ref()
                .filter(|_| replaces)?
                .assignment_of(workload)?;
            let held = holdings.workload(&entry.spiffe_id, now)?;
            Some(held.svid.svid().serial().to_string())
        })
    }

    fn held_view(&self) -> Result<Arc<View>, ViewError> {
        self.view.borrow().clone().ok_or(ViewError::NoSnapshotYet)
    }

    fn own_serial(&self) -> Option<SerialNumber> {
        let holdings = self.holdings.borrow();
        holdings
            .own
            .as_deref()
            .map(|held| held.svid.svid().serial())
    }
}

async fn send(
    outbound: &mpsc::Sender<wire::AgentMessage>,
    message: agent_message::Message,
) -> Result<(), WatchError> {
    let message = wire::AgentMessage {
        message: Some(message),
    };
    outbound.send(message).await.map_err(|_| WatchError::Closed)
}
