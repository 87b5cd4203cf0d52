//! Wires the parts together: what is bound, what runs, how it ends.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use runtime::{
    AdminSource, Clock, LogLevelHandle, Shutdown, ShutdownTrigger, Supervisor, TaskFailed, admin,
    metrics,
};
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use crate::config::{Config, InvalidConfig};
use crate::dns::NoResolvers;
use crate::feed::announcements::Announcements;
use crate::record::CallRecord;
use crate::service_port::ServicePort;
use crate::status::{ProxyStatus, StatusBoard};
use crate::telemetry::Journal;

mod housekeeping;
mod listen;
mod wire;

pub use crate::feed::connect::FeedSource;
use listen::Listening;
use wire::Parts;

/// How long a drain waits for the agent to take the endpoint away, and then for callers to
/// notice, before nothing is accepted any more.
const WITHDRAW: Duration = Duration::from_millis(500);
const NOTICE: Duration = Duration::from_millis(300);

/// A running proxy. Dropping it ends it without a drain.
#[derive(Debug)]
pub struct Proxy {
    supervisor: Supervisor,
    asked: ShutdownTrigger,
    announcements: Announcements,
    board: StatusBoard,
    journal: Journal,
    outbound: Option<SocketAddr>,
    reach: BTreeMap<ServicePort, SocketAddr>,
    dns: Vec<SocketAddr>,
    metrics: Option<SocketAddr>,
}

/// Why the proxy did not start. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration is invalid")]
    Config(#[from] InvalidConfig),
    #[error("cannot listen on {address} ({what})")]
    Bind {
        what: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot listen on {} (outbound.unix_socket)", path.display())]
    BindUnix { path: PathBuf, source: io::Error },
    #[error("cannot serve metrics")]
    Metrics(#[from] metrics::MetricsError),
    #[error("cannot serve administration")]
    Admin(#[from] admin::AdminError),
    #[error("dns.forward")]
    NoResolvers(#[from] NoResolvers),
    #[error("the kernel does not tell who calls (sock_diag), so no local port can be guarded")]
    CallerGuard(#[source] io::Error),
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
        let listening = Listening::bind(&config).await?;
        let supervisor = Supervisor::new();
        let parts = Parts::new(config, clock, supervisor.shutdown())?;
        let proxy = Self {
            announcements: parts.announcements.clone(),
            board: parts.board.clone(),
            journal: parts.journal.clone(),
            outbound: listening.outbound_address(),
            reach: listening.reach_addresses(),
            dns: listening.dns_addresses(),
            metrics: listening.metrics_address(),
            asked: Shutdown::pair().0,
            supervisor,
        };
        proxy.run(parts, listening, feed, log_level).await
    }

    async fn run(
        mut self,
        parts: Parts,
        listening: Listening,
        feed: FeedSource,
        log_level: Option<LogLevelHandle>,
    ) -> Result<Self, StartError> {
        let source = self.admin_source(log_level);
        parts
            .spawn(&mut self.supervisor, listening, feed, source)
            .await?;
        Ok(self)
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
        self.outbound
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
        self.metrics
    }

    pub fn status(&self) -> watch::Receiver<ProxyStatus> {
        self.board.subscribe()
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
    /// what is left.
    ///
    /// # Errors
    /// If a part of the proxy failed on the way.
    pub async fn drain(self, deadline: Duration) -> Result<(), TaskFailed> {
        self.board.update(|status| {
            status.draining = true;
            status.ready = false;
        });
        self.announcements.publish(BTreeMap::new());
        let connected = self.board.current().feed_connected;
        if connected
            && timeout(WITHDRAW, self.announcements.withdrawn())
                .await
                .is_ok()
        {
            tokio::time::sleep(NOTICE.min(deadline)).await;
        }
        self.supervisor.drain(deadline).await
    }

    /// Ends at once, as a crash would.
    pub async fn kill(self) {
        self.supervisor.kill().await;
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
