//! Wires the parts of a replica together, and is the only place that sees all of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use identity::TrustDomain;
use runtime::{Clock, Supervisor, TaskFailed};

use crate::config::Config;

/// A running replica. Dropping it ends it at once; `drain` ends it in order.
#[derive(Debug)]
pub struct Ca {
    web: SocketAddr,
    agents: SocketAddr,
    metrics: Option<SocketAddr>,
    admin_file: PathBuf,
    trust_domain: TrustDomain,
    supervisor: Supervisor,
}

impl Ca {
    /// Opens the store, opens or makes the root, signs this replica's intermediate, binds the ports
    /// and serves. When it returns, agents can attest.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError>;
    /// Where REST is served.
    pub fn web_address(&self) -> SocketAddr;
    /// Where agents are served.
    pub fn agents_address(&self) -> SocketAddr;
    pub fn metrics_address(&self) -> Option<SocketAddr>;
    /// The first administrator's credential.
    pub fn admin_file(&self) -> &Path;
    pub fn trust_domain(&self) -> &TrustDomain;
    /// Resolves when a task of this replica has died.
    pub async fn failed(&mut self) -> TaskFailed;
    /// Stops accepting, lets calls end until the deadline, then ends them.
    pub async fn drain(self, deadline: Duration) -> Result<(), TaskFailed>;
    /// Ends at once, as a crash would.
    pub fn kill(self);
}
