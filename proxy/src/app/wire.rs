//! The parts, made and started in order.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use mtls::{Credentials, Publisher};
use nix::unistd::geteuid;
use prometheus_client::registry::Registry;
use runtime::{Clock, Shutdown, Supervisor};
use tokio::sync::watch;
use tokio::time::Instant;

use super::control::Control;
use super::entrance::Entrance;
use super::housekeeping::Housekeeping;
use super::level_feed::LevelFeed;
use super::listen::Listening;
use super::{FeedSource, StartError};
use crate::balance::Zone;
use crate::config::{AccessLogFormat, Config, Limits};
use crate::discovery::{Discovery, Driver, Resolvers};
use crate::dns::{self, DnsSockets};
use crate::external::trust::Trust;
use crate::feed::announcements::{Announcements, Place};
use crate::feed::assembly::Assembly;
use crate::feed::client::{Feed, Freshness};
use crate::feed::connect::Connector;
use crate::guard::caller::CallerGuard;
use crate::guard::sources::Sources;
use crate::live::Live;
use crate::sightings::Sightings;
use crate::sockets::Sockets;
use crate::state::MeshState;
use crate::status::StatusBoard;
use crate::takeover::HandedOver;
use crate::telemetry::{Journal, write_access_log};
use crate::traffic::shared::Shared;
use crate::transport::fronts::{Followed, Fronts};
use crate::transport::listeners::Listeners;
use crate::transport::routing::Wants;
use crate::worker::{Open, Seed, Workers};

/// What is shared between the tasks.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) announcements: Announcements,
    pub(super) board: StatusBoard,
    pub(super) journal: Journal,
    config: Config,
    limits: Arc<Limits>,
    discovery: Discovery,
    shared: Shared,
    clock: Clock,
    registry: Registry,
    publisher: Publisher,
    credentials: Credentials,
    states: watch::Sender<Arc<MeshState>>,
    live: Live,
    wants: Wants,
    followed: Followed,
    freshness: Freshness,
    sightings: Sightings,
    shutdown: Shutdown,
    pub(super) handed_over: HandedOver,
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
            discovery: Discovery::new(),
            shared: Shared::new(Instant::now()),
            registry,
            publisher,
            credentials,
            states,
            live: Live::new(config.proxy.workers.get()),
            wants: Wants::new(),
            followed: Followed::new(),
            freshness: Freshness::new(),
            sightings: Sightings::default(),
            shutdown,
            handed_over: HandedOver::default(),
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
    ) -> Result<Workers, StartError> {
        let seeds = self.seeds(&listening.sockets)?;
        let (workers, threads) = Workers::start(seeds).map_err(StartError::Worker)?;
        let listeners = Listeners::reserve(
            workers.clone(),
            self.shutdown.clone(),
            self.announcements.clone(),
            &self.config.mesh,
            listening.sockets.clone(),
        )?;
        let entrance = Entrance::new(listening.sockets.clone(), self.shutdown.clone());
        self.spawn_dns(
            supervisor,
            &entrance,
            &workers,
            std::mem::take(&mut listening.dns),
        )?;
        open(&workers, &mut listening).map_err(StartError::Worker)?;
        supervisor.spawn("mesh listeners", listeners.run(self.states.subscribe()));
        let fronts = self.fronts(&workers, &listening.sockets);
        supervisor.spawn("gateway listeners", fronts.run(self.states.subscribe()));
        let last = workers.clone();
        control.spawn(
            listening.control,
            std::mem::take(&mut self.registry),
            &entrance,
            supervisor,
            async move { last.ended().await },
        )?;
        for thread in threads {
            supervisor.spawn("worker", thread.join());
        }
        self.spawn_readers(supervisor, &workers)?;
        supervisor.spawn("housekeeping", self.housekeeping(workers.clone()).run());
        supervisor.spawn("feed", self.feed(feed, workers.clone()).run());
        Ok(workers)
    }

    fn feed(self, source: FeedSource, workers: Workers) -> Feed {
        Feed {
            connector: Connector::new(source),
            workload: self.config.workload.clone(),
            place: self.place(),
            assembly: Assembly::new(self.config.workload),
            publisher: self.publisher,
            credentials: self.credentials,
            states: self.states,
            live: self.live,
            wants: self.wants,
            announcements: self.announcements,
            followed: self.followed,
            board: self.board,
            freshness: self.freshness,
            sightings: self.sightings,
            clock: self.clock,
            workers,
            shutdown: self.shutdown,
        }
    }

    fn fronts(&self, workers: &Workers, sockets: &Sockets) -> Fronts {
        Fronts::new(
            workers.clone(),
            self.shutdown.clone(),
            sockets.clone(),
            self.board.clone(),
            self.followed.clone(),
            self.config.gateway.clone(),
            self.clock.clone(),
        )
    }

    fn place(&self) -> Place {
        let mesh = &self.config.mesh;
        let bound = || mesh.address.to_string();
        Place {
            address: mesh.advertise.clone().unwrap_or_else(bound),
            zone: self.zone(),
        }
    }

    fn zone(&self) -> Option<Zone> {
        self.config.mesh.zone.as_deref().map(Zone::from)
    }

    fn seeds(&self, sockets: &Sockets) -> Result<Vec<Seed>, StartError> {
        let allowed = self.config.allowed_uids();
        let allowed = allowed.unwrap_or_else(|| BTreeSet::from([geteuid().as_raw()]));
        let most = self.limits.connections_per_source;
        // Apart: callers outside take no places of the mesh's.
        let (sources, outsiders) = (Sources::new(most), Sources::new(most));
        let zone = self.zone();
        let external = &self.config.external;
        let trust = Trust::new(external.roots.as_deref(), self.clock.clone());
        let outside: Arc<[_]> = external.allow.clone().into();
        (0..self.config.proxy.workers.get())
            .map(|worker| {
                let guard = CallerGuard::new(allowed.clone());
                Ok(Seed {
                    states: self.states.subscribe(),
                    wants: self.wants.clone(),
                    live: self.live.shard(worker),
                    credentials: self.credentials.clone(),
                    journal: self.journal.shard(),
                    guard: guard.map_err(StartError::CallerGuard)?,
                    sockets: sockets.clone(),
                    limits: Arc::clone(&self.limits),
                    clock: self.clock.clone(),
                    shutdown: self.shutdown.clone(),
                    handed_over: self.handed_over.clone(),
                    shared: self.shared.clone(),
                    zone: zone.clone(),
                    discovery: self.discovery.clone(),
                    sources: sources.clone(),
                    outsiders: outsiders.clone(),
                    sightings: self.sightings.clone(),
                    number: worker,
                    trust: trust.clone(),
                    allowed: Arc::clone(&outside),
                })
            })
            .collect()
    }

    /// Programs may look names up for as long as their calls go on.
    fn spawn_dns(
        &self,
        supervisor: &mut Supervisor,
        entrance: &Entrance,
        workers: &Workers,
        sockets: Vec<DnsSockets>,
    ) -> Result<(), StartError> {
        let wait = self.limits.want.duration();
        let names = dns::Names::new(self.states.subscribe(), self.wants.clone(), wait);
        let own: Vec<_> = sockets.iter().filter_map(|it| it.address().ok()).collect();
        let config = self.config.dns.clone().unwrap_or_default();
        let server = dns::Server::new(names, dns::Forwarder::new(&config.forward, &own)?);
        let finished = workers.clone();
        let driver = Driver::new(
            self.discovery.clone(),
            Resolvers::new(config.servers.clone(), own),
            config.bounds(),
        );
        let followed = driver.run(async move { finished.ended().await });
        supervisor.spawn("discovery", followed);
        for sockets in sockets {
            let workers = workers.clone();
            let stop = async move { workers.ended().await };
            let served = server.clone().run(sockets, stop);
            supervisor.spawn("dns", entrance.clone().then(served));
        }
        Ok(())
    }

    fn housekeeping(&self, workers: Workers) -> Housekeeping {
        Housekeeping {
            states: self.states.subscribe(),
            live: self.live.clone(),
            credentials: self.credentials.clone(),
            freshness: self.freshness.clone(),
            board: self.board.clone(),
            journal: self.journal.clone(),
            limits: Arc::clone(&self.limits),
            clock: self.clock.clone(),
            workers,
            inbound: self.config.transparent.inbound_port(),
            levels: LevelFeed::new(self.journal.clone(), self.shared.clone()),
        }
    }

    /// What reads the journal: the trace exporter and the access log.
    fn spawn_readers(
        &self,
        supervisor: &mut Supervisor,
        workers: &Workers,
    ) -> Result<(), StartError> {
        let finished = || {
            let workers = workers.clone();
            async move { workers.ended().await }
        };
        if let Some(exporter) = self.journal.exporter(&self.config, self.clock.clone())? {
            supervisor.spawn("trace export", exporter.run(finished()));
        }
        let format = self.config.access_log.format;
        if format == AccessLogFormat::Off {
            return Ok(());
        }
        let records = self.journal.subscribe();
        let output = tokio::io::stdout();
        let journal = self.journal.clone();
        let written = write_access_log(journal, records, format, output, finished());
        supervisor.spawn("access log", written);
        Ok(())
    }
}

/// The ways in that do not depend on what the agent says.
fn open(workers: &Workers, listening: &mut Listening) -> io::Result<()> {
    workers.distribute(std::mem::take(&mut listening.outbound), Open::Outbound);
    for listeners in std::mem::take(&mut listening.redirected_out) {
        workers.distribute(listeners, Open::RedirectedOut);
    }
    for listeners in std::mem::take(&mut listening.redirected_in) {
        workers.distribute(listeners, Open::RedirectedIn);
    }
    if let Some(listener) = listening.outbound_unix.take() {
        workers.share(&listener)?;
    }
    for (name, listeners) in std::mem::take(&mut listening.reach) {
        workers.distribute(listeners, |listener| Open::Reach {
            listener,
            name: name.clone(),
        });
    }
    Ok(())
}
