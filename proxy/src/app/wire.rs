//! The parts, made and started in order.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use mtls::{Credentials, Publisher};
use nix::unistd::geteuid;
use prometheus_client::registry::Registry;
use runtime::{Clock, Shutdown, Supervisor};
use tokio::sync::watch;

use super::control::Control;
use super::entrance::{self, Entrance};
use super::housekeeping::Housekeeping;
use super::listen::Listening;
use super::{FeedSource, StartError};
use crate::admit::Gate;
use crate::config::{AccessLogFormat, Config, Limits};
use crate::dns::{self, DnsSockets};
use crate::feed::announcements::Announcements;
use crate::feed::assembly::Assembly;
use crate::feed::client::{Feed, Freshness};
use crate::feed::connect::Connector;
use crate::guard::caller::CallerGuard;
use crate::live::Live;
use crate::state::MeshState;
use crate::status::StatusBoard;
use crate::telemetry::{Journal, write_access_log};
use crate::transport::application::Applications;
use crate::transport::listeners::Listeners;
use crate::transport::mesh::Inbound;
use crate::transport::outbound::Outbound;
use crate::transport::peers::Peers;
use crate::transport::routing::{Router, Wants};
use crate::transport::tasks::Tasks;

/// What is shared between the tasks.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) announcements: Announcements,
    pub(super) board: StatusBoard,
    pub(super) journal: Journal,
    config: Config,
    limits: Arc<Limits>,
    clock: Clock,
    registry: Registry,
    publisher: Publisher,
    credentials: Credentials,
    states: watch::Sender<Arc<MeshState>>,
    live: Live,
    wants: Wants,
    freshness: Freshness,
    tasks: Tasks,
}

impl Parts {
    pub(super) fn new(
        config: Config,
        clock: Clock,
        shutdown: Shutdown,
    ) -> Result<Self, StartError> {
        let wall = clock.clone();
        let (publisher, credentials) = mtls::channel(move || wall.now());
        let mut registry = Registry::default();
        let (states, _) = watch::channel(Arc::new(MeshState::empty()));
        Ok(Self {
            announcements: Announcements::new(),
            board: StatusBoard::new(config.workload.clone()),
            journal: Journal::register(&mut registry, &config.metrics, config.tracing.as_ref()),
            limits: Arc::new(config.limits.clone()),
            registry,
            publisher,
            credentials,
            states,
            live: Live::default(),
            wants: Wants::new(),
            freshness: Freshness::new(),
            tasks: Tasks::new(shutdown),
            config,
            clock,
        })
    }

    /// Starts everything. What can fail does so before the first task runs.
    pub(super) fn spawn(
        mut self,
        supervisor: &mut Supervisor,
        mut listening: Listening,
        feed: FeedSource,
        control: Control,
    ) -> Result<(), StartError> {
        let applications = Applications::new(self.tasks.clone(), self.limits.connect.duration());
        let inbound = self.inbound(&applications);
        let listeners = Listeners::reserve(
            inbound,
            self.announcements.clone(),
            &self.config.mesh,
            listening.sockets.clone(),
        )?;
        let outbound = self.outbound()?;
        let peers = outbound.peers.clone();
        supervisor.spawn("mesh listeners", listeners.run(self.states.subscribe()));
        let entrance = Entrance::new(listening.sockets.clone(), self.tasks.shutdown().clone());
        spawn_outbound(supervisor, &outbound, &entrance, &mut listening)?;
        self.spawn_dns(supervisor, &entrance, listening.dns)?;
        control.spawn(
            listening.control,
            std::mem::take(&mut self.registry),
            &entrance,
            supervisor,
            finished(&self.tasks),
        )?;
        self.spawn_readers(supervisor)?;
        let ended = finished(&self.tasks);
        supervisor.spawn("connections", async move {
            ended.await;
            Ok::<(), Infallible>(())
        });
        let housekeeping = self.housekeeping(applications, peers);
        supervisor.spawn("housekeeping", housekeeping.run());
        let feed_task = self.feed(feed);
        supervisor.spawn("feed", feed_task.run());
        Ok(())
    }

    fn feed(self, source: FeedSource) -> Feed {
        Feed {
            connector: Connector::new(source),
            workload: self.config.workload.clone(),
            advertise: self.advertise(),
            assembly: Assembly::new(self.config.workload),
            publisher: self.publisher,
            credentials: self.credentials,
            states: self.states,
            live: self.live,
            wants: self.wants,
            announcements: self.announcements,
            board: self.board,
            freshness: self.freshness,
            clock: self.clock,
            tasks: self.tasks,
        }
    }

    fn advertise(&self) -> String {
        let mesh = &self.config.mesh;
        mesh.advertise
            .clone()
            .unwrap_or_else(|| mesh.address.to_string())
    }

    fn inbound(&self, applications: &Applications) -> Inbound {
        Inbound {
            gate: Gate::new(
                self.states.subscribe(),
                self.live.clone(),
                self.clock.clone(),
            ),
            credentials: self.credentials.clone(),
            applications: applications.clone(),
            journal: self.journal.clone(),
            tasks: self.tasks.clone(),
            limits: Arc::clone(&self.limits),
            clock: self.clock.clone(),
        }
    }

    fn outbound(&self) -> Result<Outbound, StartError> {
        let configured = self.config.outbound.as_ref();
        let allowed = configured.and_then(|it| it.allowed_uids.clone());
        let own = || BTreeSet::from([geteuid().as_raw()]);
        let guard = CallerGuard::new(allowed.unwrap_or_else(own));
        let peers = Peers::new(
            self.credentials.clone(),
            self.clock.clone(),
            self.journal.clone(),
            Arc::clone(&self.limits),
            self.tasks.clone(),
        );
        let router = Router::new(
            self.states.subscribe(),
            self.wants.clone(),
            self.limits.want.duration(),
        );
        Ok(Outbound {
            router,
            peers,
            live: self.live.clone(),
            credentials: self.credentials.clone(),
            journal: self.journal.clone(),
            guard: guard.map_err(StartError::CallerGuard)?,
            tasks: self.tasks.clone(),
            limits: Arc::clone(&self.limits),
            clock: self.clock.clone(),
        })
    }

    /// Programs may look names up for as long as their calls go on.
    fn spawn_dns(
        &self,
        supervisor: &mut Supervisor,
        entrance: &Entrance,
        sockets: Vec<DnsSockets>,
    ) -> Result<(), StartError> {
        let wait = self.limits.want.duration();
        let names = dns::Names::new(self.states.subscribe(), self.wants.clone(), wait);
        let own: Vec<_> = sockets.iter().filter_map(|it| it.address().ok()).collect();
        let configured = self.config.dns.iter().flat_map(|it| &it.forward);
        let configured: Vec<_> = configured.copied().collect();
        let server = dns::Server::new(names, dns::Forwarder::new(&configured, &own)?);
        for sockets in sockets {
            let tasks = self.tasks.clone();
            let stop = async move {
                tasks.shutdown().draining().await;
                tasks.finished().await;
            };
            let served = server.clone().run(sockets, stop);
            supervisor.spawn("dns", entrance.clone().then(served));
        }
        Ok(())
    }

    fn housekeeping(&self, applications: Applications, peers: Peers) -> Housekeeping {
        Housekeeping {
            states: self.states.subscribe(),
            live: self.live.clone(),
            credentials: self.credentials.clone(),
            freshness: self.freshness.clone(),
            board: self.board.clone(),
            journal: self.journal.clone(),
            limits: Arc::clone(&self.limits),
            clock: self.clock.clone(),
            applications,
            peers,
            tasks: self.tasks.clone(),
        }
    }

    /// What reads the journal: the trace exporter and the access log.
    fn spawn_readers(&self, supervisor: &mut Supervisor) -> Result<(), StartError> {
        if let Some(exporter) = self.journal.exporter(&self.config)? {
            let stop = finished(&self.tasks);
            supervisor.spawn("trace export", exporter.run(stop));
        }
        let format = self.config.access_log.format;
        if format == AccessLogFormat::Off {
            return Ok(());
        }
        let records = self.journal.subscribe();
        let output = tokio::io::stdout();
        let journal = self.journal.clone();
        let written = write_access_log(journal, records, format, output, finished(&self.tasks));
        supervisor.spawn("access log", written);
        Ok(())
    }
}

/// Resolves when no more calls will be told.
fn finished(tasks: &Tasks) -> impl Future<Output = ()> + use<> {
    let tasks = tasks.clone();
    async move {
        tasks.shutdown().draining().await;
        tasks.finished().await;
    }
}

fn spawn_outbound(
    supervisor: &mut Supervisor,
    outbound: &Outbound,
    entrance: &Entrance,
    listening: &mut Listening,
) -> Result<(), StartError> {
    for listener in listening.outbound.drain(..) {
        let listener = entrance::tcp(listener)?;
        let accept = outbound.clone().accept_tcp(listener);
        supervisor.spawn("outbound", entrance.clone().then(accept));
    }
    if let Some(listener) = listening.outbound_unix.take() {
        let listener = entrance::unix(listener)?;
        let accept = outbound.clone().accept_unix(listener);
        supervisor.spawn("outbound socket", entrance.clone().then(accept));
    }
    for (name, listeners) in std::mem::take(&mut listening.reach) {
        for listener in listeners {
            let listener = entrance::tcp(listener)?;
            let accept = outbound.clone().accept_reach(listener, name.clone());
            supervisor.spawn("reach", entrance.clone().then(accept));
        }
    }
    Ok(())
}
