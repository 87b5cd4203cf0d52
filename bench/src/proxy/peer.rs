//! Other people's proxies as a pair: started one by one, so that each side's check of the other's
//! identity can be tried before anything is measured.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use mesh_tests::processes::free_address;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Duration, Instant, sleep};

use super::identities::{Files, Identities};
use super::identity_check;
use super::pair::{Door, Doors, Pair};
use crate::load::backend::Backend;

pub(crate) mod envoy;
pub(crate) mod haproxy;
pub(crate) mod nginx;
mod pem_pattern;

const PATIENCE: Duration = Duration::from_secs(20);

/// A pair, alive as long as this is.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) pair: Pair,
    pub(crate) version: String,
    _processes: [Child; 2],
}

/// How the two are started.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) outbound: Vec<String>,
    pub(crate) inbound: Vec<String>,
    pub(crate) speaks_h2: bool,
    pub(crate) version: String,
}

/// What every peer's configuration is made from.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    pub(crate) files: &'a Files,
    pub(crate) identities: &'a Identities,
    pub(crate) backend: &'a Backend,
    pub(crate) ports: Ports,
}

/// Listeners of the outbound proxy, then of the inbound one.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) mesh_http1: SocketAddr,
    pub(crate) mesh_http2: SocketAddr,
    pub(crate) mesh_tcp: SocketAddr,
}

impl Ports {
    pub(crate) fn free() -> Self {
        Self {
            http1: free_address(),
            http2: free_address(),
            tcp: free_address(),
            mesh_http1: free_address(),
            mesh_http2: free_address(),
            mesh_tcp: free_address(),
        }
    }

    fn doors(&self, speaks_h2: bool) -> Doors {
        let door = |address| Door {
            address,
            authority: Site::AUTHORITY.to_owned(),
        };
        Doors {
            http1: door(self.http1),
            http2: speaks_h2.then(|| door(self.http2)),
            tcp: self.tcp,
            mesh: self.mesh_http1,
        }
    }
}

impl Site<'_> {
    /// The name that callers use and the server's certificate holds as a DNS name.
    pub(crate) const AUTHORITY: &'static str = "orders.mesh.bench";

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.files.directory.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

impl Peer {
    /// # Errors
    /// When it does not start, or one of its sides lets a wrong identity pass.
    pub(crate) async fn start(plan: Plan, site: &Site<'_>) -> Result<Self> {
        let directory = &site.files.directory;
        let logs = ["out", "in"].map(|side| directory.join(format!("{}-{side}.log", plan.name)));
        Self::start_checked(plan, site, &logs)
            .await
            .with_context(|| {
                let said = logs.map(|log| fs::read_to_string(log).unwrap_or_default());
                format!("it said: {}", said.join("; then: "))
            })
    }

    async fn start_checked(plan: Plan, site: &Site<'_>, logs: &[PathBuf; 2]) -> Result<Self> {
        let (name, ports) = (plan.name, &site.ports);
        let outbound = spawn(&plan.outbound, &logs[0])?;
        listening(name, ports.http1).await?;
        identity_check::of_server(name, ports, site.identities).await?;
        let inbound = spawn(&plan.inbound, &logs[1])?;
        listening(name, ports.mesh_http1).await?;
        let pair = Pair {
            name,
            doors: ports.doors(plan.speaks_h2),
            outbound: outbound.id().with_context(|| format!("{name} ended"))?,
            inbound: inbound.id().with_context(|| format!("{name} ended"))?,
        };
        identity_check::of_client(&pair, site.identities).await?;
        Ok(Self {
            pair,
            version: plan.version,
            _processes: [outbound, inbound],
        })
    }
}

fn spawn(command: &[String], log: &Path) -> Result<Child> {
    let output = File::create(log)?;
    let (program, arguments) = command.split_first().context("a plan has a program")?;
    Command::new(program)
        .args(arguments)
        .current_dir(log.parent().context("a log lies in a directory")?)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {program}"))
}

async fn listening(name: &str, address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_err() {
        ensure!(
            Instant::now() < deadline,
            "{name} does not listen on {address}"
        );
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The first line that a program says about itself; none where there is no such program.
pub(crate) async fn version(program: &str, argument: &str) -> Option<String> {
    let said = Command::new(program).arg(argument).output().await.ok()?;
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    // Some begin with the path of the program.
    let line = line.trim().trim_start_matches(program).trim();
    let file = Path::new(program).file_name()?.to_string_lossy();
    Some(format!("{file}: {line}"))
}
