//! Wires the parts of an agent together, and is the only place that sees all of them.

mod restored;
mod wiring;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use identity::{QualifiedName, SpiffeId, TrustDomain, TrustDomainError};
use runtime::admin::AdminError;
use runtime::files::private_directory;
use runtime::metrics::MetricsError;
use runtime::{
    Clock, FileError, LockError, LockFile, LogLevelHandle, Shutdown, Supervisor, TaskFailed,
};
use tokio::net::UnixStream;
use tokio::sync::watch;

use crate::cache::{Cache, CacheError};
use crate::caller::Spawned;
use crate::config::{Config, ConfigRefused};
use crate::feed::InProcess;
use crate::holdings::Holdings;
use crate::socket::SocketError;
use crate::status::AgentStatus;

use restored::Restored;
use wiring::Wiring;

/// A running agent. Dropping it ends it at once; `drain` ends it in order.
#[derive(Debug)]
pub struct Agent {
    workload_api: PathBuf,
    feed: Option<PathBuf>,
    status: watch::Receiver<AgentStatus>,
    holdings: watch::Receiver<Arc<Holdings>>,
    spawned: Spawned,
    in_process: InProcess,
    supervisor: Supervisor,
    _lock: LockFile,
}

/// Why an agent cannot start. Nothing of the CA's is among it: that is waited for.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration is refused")]
    Config(#[from] ConfigRefused),
    #[error("the state directory cannot be used")]
    StateDirectory(#[source] FileError),
    #[error("the state directory is in use")]
    Locked(#[from] LockError),
    #[error("the sealed cache cannot be used")]
    Cache(#[from] CacheError),
    #[error("the cache's trust domain is malformed")]
    CachedTrustDomain(#[source] TrustDomainError),
    #[error("the cache is of trust domain {cached}, and ca.trust_domain says {configured}")]
    OtherTrustDomain {
        cached: TrustDomain,
        configured: TrustDomain,
    },
    #[error(
        "this agent has neither an identity in its cache nor a usable join token; make one with \
         `countersign join-token create` and name its file in [join] token_file, or set [join.x509pop] or [join.jwt]"
    )]
    NoWayToJoin(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    #[error("a socket cannot be had")]
    Socket(#[from] SocketError),
    #[error("the administration socket cannot be had")]
    Admin(#[from] AdminError),
    #[error("metrics cannot be served")]
    Metrics(#[from] MetricsError),
}

impl Agent {
    /// Opens the sealed cache, binds the sockets and serves what the cache holds; the CA is
    /// contacted afterwards, for as long as it takes.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        Self::start_with_log(config, clock, None).await
    }

    /// The same, for a process whose log level the administration socket may change.
    pub async fn start_with_log(
        config: Config,
        clock: Clock,
        log_level: Option<LogLevelHandle>,
    ) -> Result<Self, StartError> {
        config.validate()?;
        private_directory(&config.state_dir).map_err(StartError::StateDirectory)?;
        let lock = LockFile::acquire(config.state_dir.join("lock"))?;
        let cache = Cache::open(&config.state_dir, &config.cache_key_file())?;
        let restored = Restored::read(&config, &cache, clock.now())?;
        let workload_api = config.workload_api.socket.clone();
        let feed = config.feed.as_ref().map(|feed| feed.socket.clone());
        let wiring = Wiring::new(config, clock, cache, restored);
        let spawned = wiring.spawned.clone();
        let running = wiring.start(log_level).await?;
        Ok(Self {
            workload_api,
            feed,
            status: running.status,
            holdings: running.holdings,
            spawned,
            in_process: running.in_process,
            supervisor: running.supervisor,
            _lock: lock,
        })
    }

    /// Where workloads call.
    pub fn workload_api_socket(&self) -> &Path {
        &self.workload_api
    }

    /// Where proxies of other processes call.
    pub fn feed_socket(&self) -> Option<&Path> {
        self.feed.as_deref()
    }

    /// Absent until the agent has joined.
    pub fn agent_id(&self) -> Option<SpiffeId> {
        self.holdings.borrow().own_id().cloned()
    }

    pub fn status(&self) -> watch::Receiver<AgentStatus> {
        self.status.clone()
    }

    /// Connects the proxy of `workload` that runs in this process to the mesh feed, as often as it
    /// is called: each time with the client's half of a new socket pair. It fails when the agent
    /// is stopping, or no descriptor is left.
    pub fn feed_connector(
        &self,
        workload: &QualifiedName,
    ) -> impl Fn() -> io::Result<UnixStream> + Send + Sync + 'static + use<> {
        let (feed, workload) = (self.in_process.clone(), workload.clone());
        move || feed.connect(&workload)
    }

    /// From now on the process `pid` and its descendants, and no others, may be `workload`, where
    /// the registry's selectors fit too.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn spawned(&self, workload: &QualifiedName, pid: u32) -> io::Result<()> {
        let pid = i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.spawned.register(workload, pid)
    }

    /// Begins when the administration socket has asked for the end.
    pub fn shutdown(&self) -> Shutdown {
        self.supervisor.shutdown()
    }

    /// Resolves when a task of this agent has died.
    pub async fn failed(&mut self) -> TaskFailed {
        self.supervisor.failed().await
    }

    /// Ends open streams, then everything else.
    pub async fn drain(self, deadline: Duration) -> Result<(), TaskFailed> {
        self.supervisor.drain(deadline).await
    }

    /// Ends at once, as a crash would.
    pub async fn kill(self) {
        self.supervisor.kill().await;
    }
}
