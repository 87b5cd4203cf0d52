//! Wires the parts of an agent together, and is the only place that sees all of them.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use identity::{QualifiedName, SpiffeId};
use runtime::{Clock, Supervisor, TaskFailed};
use tokio::sync::watch;

use crate::config::Config;
use crate::status::AgentStatus;

/// A running agent. Dropping it ends it at once; `drain` ends it in order.
#[derive(Debug)]
pub struct Agent {
    workload_api: PathBuf,
    feed: Option<PathBuf>,
    status: watch::Receiver<AgentStatus>,
    supervisor: Supervisor,
}

impl Agent {
    /// Opens the sealed cache, binds the sockets and serves what the cache holds, then contacts the CA.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError>;
    pub fn workload_api_socket(&self) -> &Path;
    pub fn feed_socket(&self) -> Option<&Path>;
    /// Absent until the agent has joined.
    pub fn agent_id(&self) -> Option<SpiffeId>;
    pub fn status(&self) -> watch::Receiver<AgentStatus>;
    /// A mesh feed for the proxy of `workload` that runs in this process (the client's half of a socket pair).
    pub fn feed_connection(&self, workload: &QualifiedName) -> io::Result<UnixStream>;
    /// The process `pid` (and its descendants) may be `workload`, where the entry's uid fits too.
    pub fn spawned(&self, workload: &QualifiedName, pid: u32) -> io::Result<()>;
    /// Resolves when a task of this agent has died.
    pub async fn failed(&mut self) -> TaskFailed;
    pub async fn drain(self, deadline: Duration) -> Result<(), TaskFailed>;
    pub async fn kill(self);
}
