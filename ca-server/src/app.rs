//! Wires the parts of a replica together, and is the only place that sees all of them.

mod credential;
mod following;
mod foundation;
mod jobs;
mod roots;
mod seal;
mod sockets;
mod start;
mod upstream;
mod web;
mod without_store;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use identity::TrustDomain;
use identity::x509::Bundle;
use runtime::{Clock, LogLevelHandle, Shutdown, ShutdownTrigger, Supervisor, TaskFailed};

use crate::config::Config;
use crate::registry::Registry;
use crate::store::Store;
use crate::watch::Presence;
pub use credential::reset_admin;
pub use seal::rotate_seal;
pub use sockets::BindError;
pub use start::StartError;
pub use upstream::{install_upstream, request_upstream};
pub use web::WebFileError;

/// A running replica. Dropping it ends it at once; [`drain`](Self::drain) ends it in order.
#[derive(Debug)]
pub struct Ca {
    web: SocketAddr,
    agents: SocketAddr,
    metrics: Option<SocketAddr>,
    admin_file: PathBuf,
    trust_domain: TrustDomain,
    presence: Presence,
    store: Store,
    registry: Registry,
    #[cfg(test)]
    rotation: crate::rotation::Rotation,
    #[cfg(test)]
    nesting: Option<crate::nesting::NestingStanding>,
    supervisor: Supervisor,
}

impl Ca {
    /// Opens the store, opens or makes the root, signs this replica's intermediate, binds the ports
    /// and serves. When it returns, agents can attest.
    pub async fn start(config: Config, clock: Clock) -> Result<Self, StartError> {
        start::start(config, clock, None).await
    }

    /// The same, in a process whose log level the administration socket may change.
    pub async fn start_with_log(
        config: Config,
        clock: Clock,
        log_level: LogLevelHandle,
    ) -> Result<Self, StartError> {
        start::start(config, clock, Some(log_level)).await
    }

    /// Where REST is served.
    pub fn web_address(&self) -> SocketAddr {
        self.web
    }

    /// Where agents are served.
    pub fn agents_address(&self) -> SocketAddr {
        self.agents
    }

    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The first administrator's credential.
    pub fn admin_file(&self) -> &Path {
        &self.admin_file
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The roots of the trust domain, as they are published.
    pub fn bundle(&self) -> Bundle {
        self.registry.snapshot().roots().bundle().clone()
    }

    /// The objects in force, and the road by which they change, for the process that the replica
    /// lives in.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Which agents are connected, and what they have acknowledged.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// What begins this replica's shutdown.
    pub fn trigger(&self) -> ShutdownTrigger {
        self.supervisor.trigger()
    }

    /// What this replica's tasks watch to know when to stop.
    pub fn shutdown(&self) -> Shutdown {
        self.supervisor.shutdown()
    }

    /// Resolves when a task of this replica has died.
    pub async fn failed(&mut self) -> TaskFailed {
        self.supervisor.failed().await
    }

    /// Stops accepting, lets calls end until the deadline, then ends them.
    pub async fn drain(self, deadline: Duration) -> Result<(), TaskFailed> {
        let outcome = self.supervisor.drain(deadline).await;
        self.store.close().await;
        outcome
    }

    /// Serves until the shutdown is asked for or a task dies, then drains.
    pub async fn run(self, deadline: Duration) -> Result<(), TaskFailed> {
        let outcome = self.supervisor.run(deadline).await;
        self.store.close().await;
        outcome
    }

    /// Ends at once, as a crash would.
    pub fn kill(self) {
        drop(self);
    }
}

#[cfg(test)]
mod tests;
