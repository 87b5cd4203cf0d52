//! One subscription: messages in, and out what changed here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use identity::QualifiedName;
use proto::mesh::v1::feed_message::Message as Heard;
use proto::mesh::v1::proxy_message::Message as Said;
use proto::mesh::v1::{self, ProxyMessage};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;

use super::announcements::{self, Bound};
use super::client::Feed;
use super::credentials;
use crate::admit::still_permits;
use crate::status::ProxyStatus;

const STATUS_EVERY: Duration = Duration::from_secs(5);
const QUEUE: usize = 16;

/// What a CA takes of a proxy's problems.
const MOST_PROBLEMS: usize = 32;
const LONGEST_PROBLEM: usize = 512;

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("connect to the agent")]
    Connect(#[from] tonic::transport::Error),
    #[error("the agent refused or broke off")]
    Refused(#[from] Box<tonic::Status>),
    #[error("the agent ended the subscription")]
    Ended,
    #[error("the agent speaks protocol {0}, which this proxy does not")]
    Version(String),
    #[error("the agent's first message was no welcome")]
    NoWelcome,
    #[error("the agent feeds {0}, not our workload")]
    OtherWorkload(String),
    #[error("the agent's message")]
    Message(#[from] super::assembly::AssemblyError),
}

/// A subscription that was welcomed.
pub(super) struct Session<'a> {
    feed: &'a mut Feed,
    said: mpsc::Sender<ProxyMessage>,
    heard: tonic::Streaming<v1::FeedMessage>,
    wanted: BTreeSet<QualifiedName>,
    announced: Option<Bound>,
    announcements: u64,
    /// Whether the agent says when callers were told.
    confirms: bool,
    reported: Option<v1::ProxyStatus>,
}

impl<'a> Session<'a> {
    pub(super) async fn open(feed: &'a mut Feed) -> Result<Self, SessionError> {
        let mut client = feed.connector.client().await?;
        let (said, queue) = mpsc::channel(QUEUE);
        let subscribe = Said::Subscribe(v1::Subscribe {
            version: Some(v1::PROTOCOL),
            workload: feed.workload.to_string(),
            product: concat!("countersign-proxy/", env!("CARGO_PKG_VERSION")).to_owned(),
            engine_version: policy::ENGINE_VERSION,
        });
        send(&said, subscribe).await?;
        let heard = client
            .subscribe(ReceiverStream::new(queue))
            .await
            .map_err(Box::new)?
            .into_inner();
        let mut session = Self {
            feed,
            said,
            heard,
            wanted: BTreeSet::new(),
            announced: None,
            announcements: 0,
            confirms: false,
            reported: None,
        };
        session.welcome().await?;
        Ok(session)
    }

    /// Runs until the agent ends it, or something that it says is not understood.
    pub(super) async fn run(mut self) -> SessionError {
        self.feed
            .board
            .update(|status| status.feed_connected = true);
        let ended = self.messages().await;
        self.feed
            .board
            .update(|status| status.feed_connected = false);
        self.feed.announcements.note_told(None);
        ended.err().unwrap_or(SessionError::Ended)
    }

    async fn messages(&mut self) -> Result<(), SessionError> {
        let mut wants = self.feed.wants.subscribe();
        let mut bound = self.feed.announcements.changes();
        let mut followed = self.feed.followed.changes();
        let mut status = interval(STATUS_EVERY);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        wants.mark_changed();
        loop {
            tokio::select! {
                message = self.heard.message() => {
                    let message = message.map_err(Box::new)?;
                    self.take(message.ok_or(SessionError::Ended)?).await?;
                }
                Ok(()) = wants.changed() => {
                    let names = Arc::clone(&wants.borrow_and_update());
                    self.want(&names).await?;
                }
                Ok(()) = bound.changed() => self.announce().await?,
                Ok(()) = followed.changed() => self.feed.refresh_readiness(),
                _ = status.tick() => self.report().await?,
            }
        }
    }

    async fn welcome(&mut self) -> Result<(), SessionError> {
        let first = self.heard.message().await.map_err(Box::new)?;
        let Some(Heard::Welcome(welcome)) = first.and_then(|it| it.message) else {
            return Err(SessionError::NoWelcome);
        };
        let version = welcome.version.unwrap_or_default();
        if !v1::PROTOCOL.interoperates_with(version) {
            let text = format!("{}.{}", version.major, version.minor);
            return Err(SessionError::Version(text));
        }
        self.confirms = version.confirms_announcements();
        if welcome.workload != self.feed.workload.to_string() {
            return Err(SessionError::OtherWorkload(welcome.workload));
        }
        Ok(self.feed.assembly.welcome(&welcome)?)
    }

    async fn take(&mut self, message: v1::FeedMessage) -> Result<(), SessionError> {
        match message.message {
            Some(Heard::Credentials(message)) => {
                self.credentials(message);
                self.applied().await?;
                self.announce().await
            }
            Some(Heard::Configuration(message)) => {
                if let Some(error) = self.feed.assembly.configuration(&message) {
                    let error = runtime::exit::one_line(&error);
                    tracing::error!(
                        error,
                        "the configuration cannot be read: everything is denied"
                    );
                }
                // First for handshakes: whoever gets through one before is judged again.
                self.feed
                    .publisher
                    .deny(self.feed.assembly.denied().clone());
                self.swap();
                self.applied().await?;
                self.announce().await
            }
            Some(Heard::Endpoints(message)) => {
                if self.feed.assembly.endpoints(message)? {
                    self.swap();
                }
                Ok(())
            }
            Some(Heard::Heard(message)) => {
                let ago = Duration::from_millis(message.milliseconds_ago);
                self.feed.freshness.heard(Instant::now(), ago);
                Ok(())
            }
            Some(Heard::Announced(message)) => {
                if message.sequence == self.announcements {
                    self.told();
                }
                Ok(())
            }
            Some(Heard::Welcome(message)) => Ok(self.feed.assembly.welcome(&message)?),
            // A newer agent may say more; what matters to decisions has an engine version.
            None => Ok(()),
        }
    }

    fn credentials(&mut self, message: v1::Credentials) {
        let verified = credentials::verify(message, self.feed.clock.now());
        let (svid, bundles) = match verified {
            Ok(verified) => verified,
            Err(error) => {
                let error = runtime::exit::one_line(&error);
                tracing::error!(error, "credentials refused; the ones before stay");
                return;
            }
        };
        let (id, serial) = (
            svid.spiffe_id().to_string(),
            svid.svid().serial().to_string(),
        );
        let not_after = svid.svid().validity().not_after();
        match self.feed.publisher.publish(svid, bundles.clone()) {
            Ok(_) => {
                self.feed.board.update(|status| {
                    status.spiffe_id = Some(id);
                    status.serial = Some(serial);
                    status.not_after = Some(not_after);
                });
                // After the publication: a handshake from now on is judged without the root.
                if self.feed.assembly.bundles(bundles) {
                    self.swap();
                }
            }
            Err(error) => {
                let error = runtime::exit::one_line(&error);
                tracing::error!(error, "credentials refused; the ones before stay");
            }
        }
    }

    /// Puts a new state in force: for new calls first, then for what is going on.
    fn swap(&mut self) {
        let state = Arc::new(self.feed.assembly.state());
        self.feed.states.send_replace(Arc::clone(&state));
        let now = self.feed.clock.now();
        let ended = self.feed.live.judge_again(
            state.version,
            |inputs| still_permits(&state, inputs, now),
            |peer| peer.holds(&state.trust, now).map_err(|lost| lost.reason()),
        );
        let closed = self.feed.live.close_ways_out(|way| way.is_open(&state));
        let revision = state.revision.map(|it| it.to_string());
        tracing::debug!(?revision, ended, closed, "configuration in force");
        self.feed.board.update(|status| status.revision = revision);
    }

    /// Nothing is applied before the first configuration, be it that credentials came first.
    async fn applied(&mut self) -> Result<(), SessionError> {
        let Some(revision) = self.feed.states.borrow().revision else {
            return Ok(());
        };
        let applied = v1::Applied {
            revision: Some(v1::Revision {
                epoch: revision.epoch,
                number: revision.number,
            }),
            leaf_serial: self.feed.board.current().serial.unwrap_or_default(),
            bundle_sequence: self.feed.assembly.bundle_sequence(),
        };
        send(&self.said, Said::Applied(applied)).await
    }

    async fn want(&mut self, names: &BTreeSet<QualifiedName>) -> Result<(), SessionError> {
        let new: Vec<QualifiedName> = names.difference(&self.wanted).cloned().collect();
        for name in new {
            let want = v1::Want {
                namespace: name.namespace.to_string(),
                service: name.name.to_string(),
            };
            send(&self.said, Said::Want(want)).await?;
            self.wanted.insert(name);
        }
        Ok(())
    }

    /// Says which listeners are bound, once there are credentials to serve them with.
    async fn announce(&mut self) -> Result<(), SessionError> {
        let bound = self.feed.announcements.bound();
        let has_credentials = self.feed.credentials.current().is_some();
        if has_credentials && self.announced.as_ref() != Some(&bound) {
            self.announcements += 1;
            let message = announcements::message(&bound, &self.feed.place, self.announcements);
            send(&self.said, Said::Announce(message)).await?;
            self.announced = Some(bound);
            if !self.confirms {
                self.told();
            }
        }
        self.feed.refresh_readiness();
        Ok(())
    }

    /// Callers know what was announced last.
    fn told(&self) {
        self.feed.announcements.note_told(self.announced.clone());
        self.feed.refresh_readiness();
    }

    async fn report(&mut self) -> Result<(), SessionError> {
        let status = status_message(&self.feed.board.current());
        if self.reported.as_ref() != Some(&status) {
            send(&self.said, Said::Status(status.clone())).await?;
            self.reported = Some(status);
        }
        let leaves = self.feed.sightings.take();
        if !leaves.is_empty() {
            send(&self.said, Said::Seen(v1::SeenLeaves { leaves })).await?;
        }
        Ok(())
    }
}

fn status_message(status: &ProxyStatus) -> v1::ProxyStatus {
    let bypassable = status.bypassable.iter().map(|port| v1::Bypassable {
        service: port.target.service.to_string(),
        port: port.target.port.to_string(),
        application_port: u32::from(port.application_port),
        reach: port.reach.as_str().to_owned(),
    });
    v1::ProxyStatus {
        bypassable: bypassable.collect(),
        calls_allowed: status.calls_allowed,
        calls_denied: status.calls_denied,
        calls_failed: status.calls_failed,
        draining: status.draining,
        problems: problems(status),
    }
}

/// As many, and of each as much, as a CA takes.
fn problems(status: &ProxyStatus) -> Vec<String> {
    let ports = status.gateways.iter();
    let problems = ports.flat_map(|port| &port.problems).take(MOST_PROBLEMS);
    let bounded = problems.map(|problem| {
        let end = problem.floor_char_boundary(LONGEST_PROBLEM);
        problem[..end].to_owned()
    });
    bounded.collect()
}

async fn send(said: &mpsc::Sender<ProxyMessage>, message: Said) -> Result<(), SessionError> {
    let message = ProxyMessage {
        message: Some(message),
    };
    said.send(message).await.map_err(|_| SessionError::Ended)
}
