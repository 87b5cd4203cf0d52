//! The channels between the parts, and the tasks that run them.

use std::sync::Arc;

use mtls::{Credentials, Publisher, channel};
use runtime::metrics::bind_metrics;
use runtime::{AdminSocket, AdminSource, Clock, LogLevelHandle, Supervisor, serve_metrics};
use tokio::sync::{mpsc, watch};

use super::StartError;
use super::restored::Restored;
use crate::attestor::Attestor;
use crate::ca::{Addresses, Heard};
use crate::cache::Cache;
use crate::caller::Spawned;
use crate::config::Config;
use crate::contact::Contact;
use crate::deliveries::Deliveries;
use crate::feed::{FeedDesk, FeedListener, FeedParts, InProcess, ProxyMap, Roster};
use crate::holdings::Holdings;
use crate::keeper::{Admitted, Keeper, Recovered, adopted_event};
use crate::metrics;
use crate::recovery::Recovery;
use crate::renewal::Renewal;
use crate::session::{Detour, Session, UPDATE_FILE, Verdict};
use crate::socket::Socket;
use crate::status::{AgentStatus, StatusSource};
use crate::view::View;
use crate::workload_api::{self, CallerLimits, WorkloadDesk};

/// Everything in this process may connect; who gets what is decided for each caller.
const WORKLOAD_SOCKET_MODE: u32 = 0o777;
const FEED_SOCKET_MODE: u32 = 0o660;
/// Of batches that are answered at once.
const VERDICTS: usize = 16;

/// What the parts share.
pub(super) struct Wiring {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) cache: Cache,
    pub(super) supervisor: Supervisor,
    pub(super) spawned: Spawned,
    identity: identity::TrustDomain,
    addresses: Addresses,
    holdings: watch::Sender<Arc<Holdings>>,
    view: watch::Sender<Option<Arc<View>>>,
    contact: watch::Sender<Contact>,
    heard: Heard,
    roster: Roster,
    deliveries: Deliveries,
}

/// What is left to hold once everything runs.
pub(super) struct Running {
    pub(super) status: watch::Receiver<AgentStatus>,
    pub(super) holdings: watch::Receiver<Arc<Holdings>>,
    pub(super) in_process: InProcess,
    pub(super) supervisor: Supervisor,
}

impl Wiring {
    pub(super) fn new(config: Config, clock: Clock, cache: Cache, restored: Restored) -> Self {
        let contact = Contact {
            cached: restored.view.as_ref().map(View::revision),
            cached_bundle: restored.holdings.bundle.as_ref().map(|it| it.sequence),
            ..Contact::default()
        };
        let mut supervisor = Supervisor::new();
        let (clock, steps) = clock.watched();
        supervisor.spawn("clock", steps.run(supervisor.shutdown()));
        Self {
            spawned: Spawned::new(config.workload_api.spawned_only),
            supervisor,
            identity: restored.trust_domain,
            addresses: restored.addresses,
            holdings: watch::Sender::new(Arc::new(restored.holdings)),
            view: watch::Sender::new(restored.view.map(Arc::new)),
            contact: watch::Sender::new(contact),
            heard: Heard::default(),
            roster: Roster::new(restored.wanted),
            deliveries: Deliveries::new(),
            config,
            clock,
            cache,
        }
    }

    /// Binds everything before anything runs, and serves before the CA is contacted.
    pub(super) async fn start(
        mut self,
        log_level: Option<LogLevelHandle>,
    ) -> Result<Running, StartError> {
        let workload_socket =
            Socket::bind(&self.config.workload_api.socket, WORKLOAD_SOCKET_MODE, None)?;
        let feed_socket = self.config.feed.as_ref();
        let feed_socket = feed_socket
            .map(|feed| Socket::bind(&feed.socket, FEED_SOCKET_MODE, feed.group.as_deref()))
            .transpose()?;
        let admin_socket = AdminSocket::bind(self.config.admin_socket())?;
        let metrics_listener = match self.config.listen.metrics {
            Some(address) => Some(bind_metrics(address).await?),
            None => None,
        };
        let status = self.spawn_status(admin_socket, log_level);
        if let Some(listener) = metrics_listener {
            let registry = Arc::new(metrics::registry(self.status_source(), self.clock.clone()));
            let serving = serve_metrics(listener, registry, self.supervisor.shutdown());
            self.supervisor.spawn("metrics", serving);
        }
        self.spawn_workload_api(workload_socket);
        let in_process = self.spawn_feed(feed_socket);
        self.spawn_ca_side();
        Ok(Running {
            status,
            holdings: self.holdings.subscribe(),
            in_process,
            supervisor: self.supervisor,
        })
    }

    fn status_source(&self) -> StatusSource {
        StatusSource {
            holdings: self.holdings.subscribe(),
            view: self.view.subscribe(),
            contact: self.contact.subscribe(),
            roster: self.roster.clone(),
        }
    }

    fn spawn_status(
        &mut self,
        admin_socket: AdminSocket,
        log_level: Option<LogLevelHandle>,
    ) -> watch::Receiver<AgentStatus> {
        let shutdown = self.supervisor.shutdown();
        let (source, clock) = (self.status_source(), self.clock.clone());
        let (published, status) = watch::channel(source.now(clock.now()));
        let publishing = source
            .clone()
            .publish(clock.clone(), published, shutdown.clone());
        self.supervisor.spawn("status", publishing);
        let shown = move || serde_json::to_value(source.now(clock.now())).unwrap_or_default();
        let source = AdminSource {
            status: Arc::new(shown),
            log_level,
            trigger: self.supervisor.trigger(),
        };
        self.supervisor
            .spawn("admin", admin_socket.serve(source, shutdown));
        status
    }

    fn spawn_workload_api(&mut self, socket: Socket) {
        let shutdown = self.supervisor.shutdown();
        let desk = WorkloadDesk {
            clock: self.clock.clone(),
            attestor: Attestor::new(self.spawned.clone()),
            limits: CallerLimits::new(),
            view: self.view.subscribe(),
            holdings: self.holdings.subscribe(),
            deliveries: self.deliveries.clone(),
            shutdown: shutdown.clone(),
        };
        self.supervisor
            .spawn("workload-api", workload_api::serve(desk, socket, shutdown));
    }

    fn spawn_feed(&mut self, socket: Option<Socket>) -> InProcess {
        let (listener, in_process) = FeedListener::new(socket);
        let parts = FeedParts {
            clock: self.clock.clone(),
            view: self.view.subscribe(),
            holdings: self.holdings.subscribe(),
            heard: self.heard.clone(),
            roster: self.roster.clone(),
            applications: Arc::new(self.config.applications.clone()),
            shutdown: self.supervisor.shutdown(),
        };
        let desk = FeedDesk::new(parts, ProxyMap::new(self.config.proxies.clone()));
        self.supervisor.spawn("mesh-feed", desk.serve(listener));
        in_process
    }

    fn spawn_ca_side(&mut self) {
        let clock = self.clock.clone();
        let (publisher, credentials) = channel(move || clock.now());
        let (admitted, admissions) = mpsc::channel(1);
        let (judging, verdicts) = mpsc::channel(VERDICTS);
        let (recovered, recoveries) = mpsc::channel(1);
        let recovery = Recovery::restored(self.identity.clone(), self.cache.clone());
        let shutdown = self.supervisor.shutdown();
        let keeper = self.keeper(publisher, (admissions, recoveries), &recovery, judging);
        self.supervisor
            .spawn("keeper", keeper.run(shutdown.clone()));
        let session = self.session(credentials, (admitted, recovered), recovery, verdicts);
        self.supervisor.spawn("session", session.run(shutdown));
    }

    fn keeper(
        &self,
        publisher: Publisher,
        (admitted, recovered): (mpsc::Receiver<Admitted>, mpsc::Receiver<Recovered>),
        recovery: &Recovery,
        verdicts: mpsc::Sender<Verdict>,
    ) -> Keeper {
        Keeper {
            trust_domain: self.identity.clone(),
            clock: self.clock.clone(),
            cache: self.cache.clone(),
            publisher,
            holdings: self.holdings.clone(),
            contact: self.contact.clone(),
            view: self.view.subscribe(),
            admitted,
            recovered,
            removed: recovery.removed(),
            renewal: restored_renewal(&self.holdings.borrow(), &self.clock),
            verdicts,
        }
    }

    fn session(
        &self,
        credentials: Credentials,
        (admitted, recovered): (mpsc::Sender<Admitted>, mpsc::Sender<Recovered>),
        recovery: Recovery,
        verdicts: mpsc::Receiver<Verdict>,
    ) -> Session {
        Session {
            trust_domain: self.identity.clone(),
            clock: self.clock.clone(),
            cache: self.cache.clone(),
            join: self.config.join.clone(),
            roots: self.config.ca.pinned(),
            addresses: self.addresses.clone(),
            credentials,
            holdings: self.holdings.subscribe(),
            admitted,
            view: self.view.clone(),
            contact: self.contact.clone(),
            heard: self.heard.clone(),
            roster: self.roster.clone(),
            deliveries: self.deliveries.clone(),
            forgotten: false,
            verdicts,
            detour: Detour::default(),
            recovery,
            recovered,
            update_file: self.config.state_dir.join(UPDATE_FILE),
            afresh: false,
        }
    }
}

/// A machine that knows what the cache gave back: nothing of it is asked for before it is due.
fn restored_renewal(holdings: &Holdings, clock: &Clock) -> Renewal {
    let now = clock.now();
    let adopt = |machine: Renewal, held| machine.step(adopted_event(held), now).0;
    holdings.all().fold(Renewal::default(), adopt)
}
