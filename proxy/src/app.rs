//! Wires the parts together: what is bound, what runs, how it ends.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use runtime::{
    AdminSource, Clock, LogLevelHandle, Shutdown, ShutdownTrigger, Supervisor, TaskFailed,
};
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use crate::config::{Config, InvalidConfig, Takeover};
use crate::dns::NoResolvers;
use crate::feed::announcements::Announcements;
use crate::record::CallRecord;
use crate::sandbox::SandboxStatus;
use crate::service_port::ServicePort;
use crate::sockets::{BindError, SocketName, Sockets};
use crate::status::{ProxyStatus, StatusBoard};
use crate::takeover::{Desk, HandedOver, Predecessor, TakeoverError, relieve};
use crate::telemetry::Journal;
use crate::worker::Workers;

mod control;
mod entrance;
mod housekeeping;
mod level_feed;
mod listen;
mod wire;

pub use crate::feed::connect::FeedSource;
use control::Control;
use listen::Listening;
use wire::Parts;

/// How long a drain waits until callers are told that the endpoint is gone (a CA that cannot tell
/// all of them says so after 5 s), and then for them to notice, before nothing is accepted any more.
const WITHDRAW: Duration = Duration::from_secs(6);
const NOTICE: Duration = Duration::from_millis(300);

/// A running proxy. Dropping it ends it without a drain.
#[derive(Debug)]
pub struct Proxy {
    supervisor: Supervisor,
    asked: ShutdownTrigger,
    announcements: Announcements,
    board: StatusBoard,
    journal: Journal,
    sockets: Sockets,
    handed_over: HandedOver,
    reach: BTreeMap<ServicePort, SocketAddr>,
    dns: Vec<SocketAddr>,
    workers: Option<Workers>,
}

/// Why the proxy did not start. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration is invalid")]
    Config(#[from] InvalidConfig),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("a bound socket cannot be served")]
    Serve(#[source] io::Error),
    #[error("cannot take over from the running proxy")]
    Takeover(#[from] TakeoverError),
    #[error("dns.forward")]
    NoResolvers(#[from] NoResolvers),
    #[error("the kernel does not tell who calls (sock_diag), so no local port can be guarded")]
    CallerGuard(#[source] io::Error),
    #[error("cannot start a worker")]
    Worker(#[source] io::Error),
}

impl Proxy {
    /// Binds every configured port, and starts. Mesh listeners follow when the configuration
    /// has arrived; [`Proxy::ready`] waits for them.
    ///
    /// # Errors
    /// If the configuration is invalid, or a port or socket cannot be had.
    pub async fn start(config: Config, feed: FeedSource, clock: Clock) -> Result<Self, StartError> {
        Self::start_with(config, feed, clock, None).await
    }

    /// As [`Proxy::start`], for a process whose log level can be changed on the admin socket.
    ///
    /// # Errors
    /// As [`Proxy::start`].
    pub async fn start_with(
        config: Config,
        feed: FeedSource,
        clock: Clock,
        log_level: Option<LogLevelHandle>,
    ) -> Result<Self, StartError> {
        config.check()?;
        let sockets = Sockets::new(config.proxy.workers);
        Self::start_on(config, feed, clock, log_level, sockets, None)
    }

    /// As [`Proxy::start_with`], in the place of the proxy that runs with this configuration, if
    /// one does: it has the same sockets, accepts when it is [ready](Proxy::ready), and then the
    /// other drains.
    ///
    /// # Errors
    /// As [`Proxy::start`], and if the running proxy cannot be relieved; it goes on then.
    pub async fn take_over(
        config: Config,
        feed: FeedSource,
        clock: Clock,
        log_level: Option<LogLevelHandle>,
    ) -> Result<Self, StartError> {
        config.check()?;
        let Some(path) = config.takeover_socket() else {
            return Err(InvalidConfig::NoTakeoverSocket.into());
        };
        let workers = config.proxy.workers;
        let (sockets, predecessor) = match Predecessor::ask(&path, &config.workload).await? {
            Some((predecessor, inherited)) => {
                (Sockets::inherit(workers, inherited), Some(predecessor))
            }
            None => (Sockets::new(workers), None),
        };
        Self::start_on(config, feed, clock, log_level, sockets, predecessor)
    }

    fn start_on(
        config: Config,
        feed: FeedSource,
        clock: Clock,
        log_level: Option<LogLevelHandle>,
        sockets: Sockets,
        predecessor: Option<Predecessor>,
    ) -> Result<Self, StartError> {
        let listening = Listening::bind(&config, sockets.clone())?;
        let supervisor = Supervisor::new();
        let succession = config.takeover.clone();
        let workload = config.workload.clone();
        let parts = Parts::new(config, clock, supervisor.shutdown())?;
        let mut proxy = Self {
            announcements: parts.announcements.clone(),
            board: parts.board.clone(),
            journal: parts.journal.clone(),
            handed_over: parts.handed_over.clone(),
            reach: listening.reach_addresses(),
            dns: listening.dns_addresses(),
            asked: Shutdown::pair().0,
            workers: None,
            sockets,
            supervisor,
        };
        let desk = Desk {
            workload,
            sockets: proxy.sockets.clone(),
            trigger: proxy.trigger(),
            handed_over: proxy.handed_over.clone(),
        };
        let control = Control {
            admin: proxy.admin_source(log_level),
            journal: proxy.journal.clone(),
            desk,
            board: proxy.board.clone(),
            shutdown: proxy.supervisor.shutdown(),
        };
        let workers = parts.spawn(&mut proxy.supervisor, listening, feed, control)?;
        proxy.workers = Some(workers);
        if let Some(predecessor) = predecessor {
            proxy.relieve(predecessor, succession);
        }
        Ok(proxy)
    }

    fn relieve(&mut self, predecessor: Predecessor, config: Takeover) {
        let (sockets, shutdown) = (self.sockets.clone(), self.supervisor.shutdown());
        let mut status = self.board.subscribe();
        self.supervisor.spawn("takeover", async move {
            let ready = async move {
                drop(status.wait_for(|status| status.ready).await);
            };
            relieve(predecessor, &config, &sockets, ready).await?;
            shutdown.draining().await;
            Ok::<(), TakeoverError>(())
        });
    }

    /// Returns once credentials and policy are live, and every mesh listener is bound, announced,
    /// and known to whoever calls it next.
    pub async fn ready(&self) {
        let mut status = self.board.subscribe();
        // The board lives in `self`, so waiting cannot fail.
        drop(status.wait_for(|status| status.ready).await);
    }

    /// Where the mesh listeners are.
    pub fn mesh_addresses(&self) -> BTreeMap<ServicePort, SocketAddr> {
        (*self.announcements.bound()).clone()
    }

    /// Where the workload calls the mesh, if anywhere.
    pub fn outbound_address(&self) -> Option<SocketAddr> {
        self.sockets.address(&SocketName::Outbound)
    }

    /// Local ports in front of TCP services.
    pub fn reach_addresses(&self) -> BTreeMap<ServicePort, SocketAddr> {
        self.reach.clone()
    }

    /// Where names of the mesh are answered, over UDP and TCP.
    pub fn dns_addresses(&self) -> &[SocketAddr] {
        &self.dns
    }

    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.sockets.address(&SocketName::Metrics)
    }

    pub fn health_address(&self) -> Option<SocketAddr> {
        self.sockets.address(&SocketName::Health)
    }

    pub fn status(&self) -> watch::Receiver<ProxyStatus> {
        self.board.subscribe()
    }

    /// For the status of a process that [`crate::sandbox::apply`] restricted.
    pub fn note_sandbox(&self, sandbox: SandboxStatus) {
        self.board.update(|status| status.sandbox = Some(sandbox));
    }

    /// Every call, when it has ended. A reader that is too slow loses the oldest.
    pub fn calls(&self) -> broadcast::Receiver<Arc<CallRecord>> {
        self.journal.subscribe()
    }

    /// Moved by `POST /drain` on the admin socket, and by whoever handles signals. It asks only:
    /// the owner of the proxy answers with [`Proxy::drain`].
    pub fn trigger(&self) -> ShutdownTrigger {
        self.asked.clone()
    }

    /// Resolves if a part of the proxy died.
    pub async fn failed(&mut self) -> TaskFailed {
        self.supervisor.failed().await
    }

    /// Takes the endpoints away, stops accepting, lets calls finish until `deadline`, and ends
    /// what is left. A proxy that was relieved stops accepting at once: its endpoints are its
    /// successor's.
    ///
    /// # Errors
    /// If a part of the proxy failed on the way.
    pub async fn drain(self, deadline: Duration) -> Result<(), TaskFailed> {
        self.board.update(|status| {
            status.draining = true;
            status.ready = false;
        });
        self.announcements.publish(BTreeMap::new());
        let connected = self.board.current().feed_connected && !self.handed_over.is_set();
        if connected {
            let told = timeout(WITHDRAW.min(deadline), self.announcements.withdrawn()).await;
            if told.is_err() {
                tracing::warn!("whether all callers know that this proxy leaves is not known");
            }
            tokio::time::sleep(NOTICE.min(deadline)).await;
        }
        self.sockets.close_all();
        let drained = self.supervisor.drain(deadline).await;
        ended(self.workers).await;
        drained
    }

    /// Ends at once, as a crash would.
    pub async fn kill(self) {
        self.supervisor.kill().await;
        ended(self.workers).await;
    }

    fn admin_source(&self, log_level: Option<LogLevelHandle>) -> AdminSource {
        let board = self.board.clone();
        AdminSource {
            status: Arc::new(move || serde_json::to_value(board.current()).unwrap_or_default()),
            log_level,
            trigger: self.asked.clone(),
        }
    }
}

/// Their threads have been told; what they held is free once they have ended.
async fn ended(workers: Option<Workers>) {
    if let Some(workers) = workers {
        workers.ended().await;
    }
}
