//! What a worker's thread does: it makes its parts, opens what it is told to, looks at the clock,
//! and drains.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mtls::Credentials;
use runtime::{Clock, Shutdown};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Open;
use super::leaving::Connections;
use super::tasks::Tasks;
use crate::admit::Gate;
use crate::balance::Zone;
use crate::config::{Limits, Network};
use crate::discovery::Discovery;
use crate::external::trust::Trust;
use crate::guard::caller::CallerGuard;
use crate::guard::sources::Sources;
use crate::live::Shard;
use crate::sightings::Sightings;
use crate::sockets::Sockets;
use crate::state::{MeshState, States};
use crate::takeover::HandedOver;
use crate::telemetry::Journal;
use crate::traffic::shared::Shared;
use crate::transport::application::Applications;
use crate::transport::external::Externals;
use crate::transport::mesh::Inbound;
use crate::transport::mesh_http::Checkups;
use crate::transport::outbound::Outbound;
use crate::transport::peers::Peers;
use crate::transport::routing::{Router, Wants};
use crate::transport::steering::Steering;

const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// What a worker is made from.
#[derive(Debug)]
pub(crate) struct Seed {
    pub(crate) states: watch::Receiver<Arc<MeshState>>,
    pub(crate) wants: Wants,
    pub(crate) live: Shard,
    pub(crate) credentials: Credentials,
    pub(crate) journal: Journal,
    pub(crate) guard: CallerGuard,
    pub(crate) sockets: Sockets,
    pub(crate) limits: Arc<Limits>,
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
    pub(crate) handed_over: HandedOver,
    pub(crate) shared: Shared,
    pub(crate) discovery: Discovery,
    pub(crate) sources: Sources,
    pub(crate) outsiders: Sources,
    pub(crate) sightings: Sightings,
    /// Who may vouch for hosts outside, and where these may be.
    pub(crate) trust: Trust,
    pub(crate) allowed: Arc<[Network]>,
    /// Where the proxy runs.
    pub(crate) zone: Option<Zone>,
    /// The first asks endpoints how they are, for all.
    pub(crate) number: usize,
}

struct Worker {
    inbound: Rc<Inbound>,
    outbound: Rc<Outbound>,
    connections: Connections,
    sockets: Sockets,
    tasks: Tasks,
    handed_over: HandedOver,
    clock: Clock,
    probes: bool,
}

/// Runs until the worker has drained, is forced to end, or is killed.
pub(super) fn run(
    runtime: &Runtime,
    seed: Seed,
    commands: mpsc::UnboundedReceiver<Open>,
    killed: CancellationToken,
) {
    let shutdown = seed.shutdown.clone();
    let tasks = LocalSet::new();
    let worker = tasks.run_until(async move {
        let worker = Worker::new(seed);
        tokio::select! {
            biased;
            () = killed.cancelled() => {}
            () = shutdown.forced() => {}
            () = worker.run(commands) => {}
        }
    });
    runtime.block_on(worker);
    // Whatever is left ends here, while its runtime is still there.
    let _entered = runtime.enter();
    drop(tasks);
}

impl Worker {
    fn new(seed: Seed) -> Self {
        let tasks = Tasks::new(seed.shutdown);
        let connections = Connections::default();
        let states = States::new(seed.states);
        let inbound = Inbound {
            gate: Gate::new(states.clone(), seed.live.clone(), seed.clock.clone()),
            credentials: seed.credentials.clone(),
            applications: Applications::new(tasks.clone(), Arc::clone(&seed.limits)),
            journal: seed.journal.clone(),
            tasks: tasks.clone(),
            connections: connections.clone(),
            limits: Arc::clone(&seed.limits),
            clock: seed.clock.clone(),
            shared: seed.shared.clone(),
            checkups: Checkups::default(),
            sources: seed.sources,
            sightings: seed.sightings.clone(),
        };
        let peers = Peers::new(
            seed.credentials.clone(),
            seed.live.clone(),
            seed.clock.clone(),
            seed.journal.clone(),
            seed.sightings,
            Arc::clone(&seed.limits),
            tasks.clone(),
        );
        let externals = Externals::new(
            seed.trust,
            seed.discovery.clone(),
            seed.allowed,
            seed.journal.clone(),
            Arc::clone(&seed.limits),
            tasks.clone(),
        );
        let outbound = Outbound {
            externals,
            router: Router::new(states.clone(), seed.wants, seed.limits.want.duration()),
            peers,
            steering: Steering::new(seed.shared, states, seed.discovery, seed.zone, seed.number),
            copies: Rc::default(),
            live: seed.live,
            credentials: seed.credentials,
            journal: seed.journal,
            guard: seed.guard,
            outsiders: seed.outsiders,
            tasks: tasks.clone(),
            connections: connections.clone(),
            limits: seed.limits,
            clock: seed.clock.clone(),
        };
        Self {
            inbound: Rc::new(inbound),
            outbound: Rc::new(outbound),
            sockets: seed.sockets,
            connections,
            tasks,
            handed_over: seed.handed_over,
            clock: seed.clock,
            probes: seed.number == 0,
        }
    }

    async fn run(self, mut commands: mpsc::UnboundedReceiver<Open>) {
        let mut ticks = interval(SWEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        if self.probes {
            self.tasks.spawn(Rc::clone(&self.outbound).probe());
        }
        let mut published = self.inbound.credentials.clone();
        loop {
            tokio::select! {
                () = self.tasks.shutdown().draining() => break,
                Some(open) = commands.recv() => self.open(open),
                _ = ticks.tick() => self.sweep(),
                // Before anybody is told that it was: a root may be removed then.
                Ok(_) = published.changed() => self.sweep(),
            }
        }
        drop(commands);
        self.connections.drain(self.handed_over.is_set());
        self.sweep();
        loop {
            tokio::select! {
                () = self.tasks.finished() => return,
                _ = ticks.tick() => self.sweep(),
            }
        }
    }

    fn open(&self, open: Open) {
        if let Err(error) = self.accept(open) {
            tracing::error!(%error, "a worker cannot accept at its listener");
        }
    }

    fn accept(&self, open: Open) -> std::io::Result<()> {
        match open {
            Open::Mesh {
                listener,
                target,
                closed,
            } => {
                let listener = TcpListener::from_std(listener)?;
                let accept = Rc::clone(&self.inbound).accept(listener, target, closed);
                self.admitted(accept);
            }
            Open::Gateway {
                listener,
                front,
                closed,
            } => {
                let listener = TcpListener::from_std(listener)?;
                let accept = Rc::clone(&self.outbound).accept_gateway(listener, front, closed);
                self.admitted(accept);
            }
            Open::Outbound(listener) => {
                let listener = TcpListener::from_std(listener)?;
                let accept = Rc::clone(&self.outbound).accept_tcp(listener);
                self.admitted(accept);
            }
            Open::OutboundUnix(listener) => {
                let listener = UnixListener::from_std(listener)?;
                let accept = Rc::clone(&self.outbound).accept_unix(listener);
                self.admitted(accept);
            }
            Open::RedirectedOut(listener) => {
                let listener = TcpListener::from_std(listener)?;
                let accept = Rc::clone(&self.outbound).accept_redirected(listener);
                self.admitted(accept);
            }
            Open::RedirectedIn(listener) => {
                let listener = TcpListener::from_std(listener)?;
                let accept = Rc::clone(&self.inbound).accept_redirected(listener);
                self.admitted(accept);
            }
            Open::Reach { listener, name } => {
                let listener = TcpListener::from_std(listener)?;
                let accept = Rc::clone(&self.outbound).accept_reach(listener, name);
                self.admitted(accept);
            }
        }
        Ok(())
    }

    /// Runs what accepts once that may begin, unless the proxy drains before.
    fn admitted(&self, accept: impl Future<Output = ()> + 'static) {
        let (sockets, draining) = (self.sockets.clone(), self.tasks.shutdown().clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = sockets.admitted() => accept.await,
                () = draining.draining() => {}
            }
        });
    }

    fn sweep(&self) {
        let current = self.inbound.credentials.current();
        let root = current.and_then(|current| current.root());
        self.connections.sweep(self.clock.now(), root);
        self.inbound.applications.sweep();
        self.outbound.peers.sweep();
        self.outbound.externals.sweep();
        self.outbound.steering.sweep();
    }
}
