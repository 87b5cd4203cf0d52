//! An agent and a proxy beside one program, in this process.
//!
//! Invariant: the proxy gets its feed over a socket pair and the agent serves only the processes
//! that were registered with it; no path in the file system lends the identity to other programs.
//! The proxy's administration socket answers this user alone.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use identity::QualifiedName;
use proxy::config::{AccessLogFormat, Outbound, Reach};
use proxy::{CallRecord, FeedSource, Proxy, ProxyStatus};
use runtime::{Clock, Span, TaskFailed};
use rustix::process::geteuid;
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;
use workload_agent::config::Application;
use workload_agent::status::Problem;
use workload_agent::{Agent, AgentStatus};
use zeroize::Zeroizing;

use crate::port_spec::{PortSpec, ReachSpec};
use crate::proxies;

const DRAIN: Duration = Duration::from_secs(10);

/// What a sidecar needs to know.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) workload: QualifiedName,
    /// Exists, and is private.
    pub(crate) directory: PathBuf,
    /// Absent where the agent has joined before.
    pub(crate) token: Option<Zeroizing<String>>,
    pub(crate) ports: Vec<PortSpec>,
    pub(crate) reach: Vec<ReachSpec>,
}

/// A running agent and proxy.
#[derive(Debug)]
pub(crate) struct Sidecar {
    workload: QualifiedName,
    agent: Agent,
    proxy: Proxy,
}

impl Sidecar {
    /// Starts both; credentials may still be on their way.
    pub(crate) async fn start(plan: &Plan, clock: &Clock) -> anyhow::Result<Self> {
        if let Some(token) = &plan.token {
            runtime::files::write_private(plan.directory.join("join-token"), token.as_bytes())?;
        }
        let agent = Agent::start(plan.agent(), clock.clone())
            .await
            .with_context(|| format!("cannot start the agent of {}", plan.workload))?;
        let feed = FeedSource::in_process(agent.feed_connector(&plan.workload));
        let proxy = Proxy::start(plan.proxy(), feed, clock.clone())
            .await
            .with_context(|| format!("cannot start the proxy of {}", plan.workload))?;
        Ok(Self {
            workload: plan.workload.clone(),
            agent,
            proxy,
        })
    }

    /// Waits until credentials and policy are live and other proxies can be told where this one is;
    /// not longer than until the agent knows of a problem that only a person can solve.
    pub(crate) async fn ready(&mut self, limit: Duration) -> anyhow::Result<()> {
        let mut status = self.agent.status();
        let live = tokio::select! {
            live = timeout(limit, self.proxy.ready()) => live.is_ok(),
            failed = self.agent.failed() => return Err(failed.into()),
            Ok(_) = status.wait_for(needs_a_person) => false,
        };
        if live {
            return Ok(());
        }
        let problem = status.borrow().problem.clone();
        Err(anyhow::anyhow!(no_credentials(
            &self.workload,
            limit,
            problem
        )))
    }

    /// What the program's environment needs in order to use the mesh.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let local = "localhost,127.0.0.1,::1".to_owned();
        let mut environment = vec![
            (
                "SPIFFE_ENDPOINT_SOCKET",
                format!("unix://{}", self.agent.workload_api_socket().display()),
            ),
            ("no_proxy", local.clone()),
            ("NO_PROXY", local),
        ];
        if let Some(outbound) = self.proxy.outbound_address() {
            environment.push(("http_proxy", format!("http://{outbound}")));
            environment.push(("HTTP_PROXY", format!("http://{outbound}")));
        }
        environment
    }

    /// Tells the agent that this process, and its descendants, are the workload.
    pub(crate) fn spawned(&self, pid: u32) -> io::Result<()> {
        self.agent.spawned(&self.workload, pid)
    }

    pub(crate) fn agent_status(&self) -> watch::Receiver<AgentStatus> {
        self.agent.status()
    }

    pub(crate) fn proxy_status(&self) -> watch::Receiver<ProxyStatus> {
        self.proxy.status()
    }

    pub(crate) fn calls(&self) -> broadcast::Receiver<Arc<CallRecord>> {
        self.proxy.calls()
    }

    /// Resolves when a part of it has died.
    pub(crate) async fn failed(&mut self) -> TaskFailed {
        tokio::select! {
            failed = self.agent.failed() => failed,
            failed = self.proxy.failed() => failed,
        }
    }

    /// Ends in order: first the proxy, which still needs the agent, then the agent.
    pub(crate) async fn drain(self) -> Result<(), TaskFailed> {
        let proxy = self.proxy.drain(DRAIN).await;
        let agent = self.agent.drain(DRAIN).await;
        proxy.and(agent)
    }
}

fn needs_a_person(status: &AgentStatus) -> bool {
    let problem = status.problem.as_ref();
    problem.is_some_and(|problem| problem.next_step.is_some())
}

fn no_credentials(workload: &QualifiedName, limit: Duration, problem: Option<Problem>) -> String {
    match problem {
        Some(problem) => {
            let next = problem.next_step.map(|step| format!("; {step}"));
            let next = next.unwrap_or_default();
            format!("{workload} has no credentials: {}{next}", problem.message)
        }
        None => format!(
            "{workload} has no credentials after {}; look at the Workload with `countersign get workload {workload}`",
            Span::new(limit)
        ),
    }
}

impl Plan {
    fn agent(&self) -> workload_agent::Config {
        let mut config = workload_agent::Config::for_directory(&self.directory);
        config.applications = self
            .ports
            .iter()
            .map(|port| self.application(port))
            .collect();
        config
    }

    fn application(&self, port: &PortSpec) -> Application {
        Application {
            service: self.workload.clone(),
            port: port.name.to_string(),
            address: local(port.app).to_string(),
        }
    }

    fn proxy(&self) -> proxy::Config {
        let mut config = proxy::Config::for_workload(self.workload.clone());
        config.outbound = Some(Outbound {
            listen: local(0),
            allowed_uids: Some(BTreeSet::from([geteuid().as_raw()])),
            unix_socket: None,
        });
        config.reach = self.reach.iter().map(reach).collect();
        config.listen.admin_socket = Some(self.directory.join(proxies::SOCKET));
        config.access_log.format = AccessLogFormat::Off;
        config
    }
}

fn reach(spec: &ReachSpec) -> Reach {
    Reach {
        service: spec.service.clone(),
        port: spec.port.clone(),
        listen: local(spec.local),
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
