//! The CA as a process of its own, and an operator who configures it over REST.

mod line;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cli::admin::{AdminFile, Client};
use identity::JoinToken;
use mesh_tests::processes::{Process, free_address};
use mesh_tests::waiting::eventually;
use postgres_cluster::Database;
use runtime::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) use line::Line;

pub(crate) const TRUST_DOMAIN: &str = "mesh.bench";

const AGENT_REQUESTS: &str = "countersign_ca_agent_requests_total";
const WATCH_MESSAGE: &str = "\"watch-message\"";

#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) ca: Process,
    admin: Client,
    metrics: SocketAddr,
    config: String,
    directory: TempDir,
}

/// What agents have asked of the CA so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AgentRequests {
    pub(crate) calls: f64,
    /// On watch streams that were already open.
    pub(crate) messages: f64,
}

impl Operator {
    /// On SQLite; `sections` is appended to the CA's configuration.
    pub(crate) async fn start(sections: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let store = format!("sqlite = \"{}/data/ca.sqlite\"", directory.path().display());
        Self::start_in(directory, &store, sections).await
    }

    /// The same on PostgreSQL.
    pub(crate) async fn start_on(database: &Database, sections: &str) -> Result<Self> {
        let Database {
            socket,
            port,
            name,
            user,
        } = database;
        let socket = socket.display();
        let store = format!(
            "postgres = {{ host = \"{socket}\", port = {port}, database = \"{name}\", user = \"{user}\" }}"
        );
        Self::start_in(tempfile::tempdir()?, &store, sections).await
    }

    async fn start_in(directory: TempDir, store: &str, sections: &str) -> Result<Self> {
        let (agents, metrics) = (free_address(), free_address());
        let config = configuration(directory.path(), agents, metrics, &[store, sections]);
        let ca = Process::start("countersign-ca", directory.path(), "ca", &config);
        let credential = directory.path().join("admin.toml");
        let clock = Clock::system();
        let admin = eventually("the CA writes the admin's credential", || async {
            let file = AdminFile::load(&credential, clock.now()).ok()?;
            Some(Client::new(file, clock.clone()))
        })
        .await;
        answering(&admin).await;
        Ok(Self {
            ca,
            admin,
            metrics,
            config,
            directory,
        })
    }

    /// kill -9
    pub(crate) async fn crash(&mut self) {
        self.ca.kill_now().await;
    }

    /// On what it left; without waiting for an answer.
    pub(crate) fn start_again(&mut self) {
        self.ca = Process::start("countersign-ca", self.directory.path(), "ca", &self.config);
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn admin(&self) -> &Client {
        &self.admin
    }

    /// A workload of this uid.
    pub(crate) async fn register(&self, namespace: &str, name: &str) -> Result<()> {
        let workload = json!({
            "apiVersion": "countersign.dev/v1",
            "kind": "Workload",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"selectors": {"unix": {"uid": nix::unistd::getuid().as_raw()}}},
        });
        self.apply(vec![workload]).await.map(drop)
    }

    /// The revision.
    pub(crate) async fn apply(&self, objects: Vec<Value>) -> Result<String> {
        let changeset = json!({"reason": "bench", "apply": objects});
        let answer = self.admin.post("/v1/changesets", &changeset).await?;
        Ok(answer["revision"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) async fn join_token(&self, agent: &str, workloads: &[&str]) -> Result<JoinToken> {
        let request = json!({"agent": agent, "workloads": workloads});
        let answer = self.admin.post("/v1/join-tokens", &request).await?;
        Ok(answer["tokens"][0]["token"]
            .as_str()
            .unwrap_or_default()
            .parse()?)
    }

    /// `<agent>-1` and so on.
    pub(crate) async fn join_tokens(&self, agent: &str, count: usize) -> Result<Vec<JoinToken>> {
        let request = json!({"agent": agent, "count": count, "ttl": "1h"});
        let answer = self.admin.post("/v1/join-tokens", &request).await?;
        let tokens = answer["tokens"].as_array().context("tokens")?.iter();
        let tokens = tokens.map(|made| made["token"].as_str().unwrap_or_default().parse());
        Ok(tokens.collect::<Result<_, _>>()?)
    }

    /// From the CA's metrics, which count no PINGs.
    pub(crate) async fn agent_requests(&self) -> Result<AgentRequests> {
        let mut stream = TcpStream::connect(self.metrics).await?;
        let request = b"GET /metrics HTTP/1.1\r\nhost: ca\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let mut requests = AgentRequests {
            calls: 0.0,
            messages: 0.0,
        };
        for line in text.lines().filter(|line| line.starts_with(AGENT_REQUESTS)) {
            let count = line.rsplit(' ').next().context("a metric has a value")?;
            let count: f64 = count.parse()?;
            match line.contains(WATCH_MESSAGE) {
                true => requests.messages += count,
                false => requests.calls += count,
            }
        }
        ensure!(
            requests.calls > 0.0,
            "the CA's metrics have no {AGENT_REQUESTS}: {text}"
        );
        Ok(requests)
    }

    /// Until it serves again.
    pub(crate) async fn answers(&self) {
        answering(&self.admin).await;
    }

    pub(crate) async fn line(&self) -> Result<Line> {
        Line::open(&self.directory.path().join("admin.toml")).await
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        self.end().await
    }

    /// In order; what it stored stays.
    pub(crate) async fn end(&mut self) -> Result<()> {
        let ended = self.ca.terminate_now().await;
        ensure!(ended.success(), "the CA ended with {ended}");
        Ok(())
    }
}

async fn answering(admin: &Client) {
    eventually("the CA answers", || async {
        admin.get("/v1/about").await.ok()
    })
    .await;
}

fn configuration(
    directory: &Path,
    agents: SocketAddr,
    metrics: SocketAddr,
    [store, sections]: &[&str; 2],
) -> String {
    let directory = directory.display();
    let web = free_address();
    format!(
        r#"trust_domain = "{TRUST_DOMAIN}"

[store]
{store}

[keys]
kek_file = "{directory}/keys/kek"

[listen]
web = "{web}"
agents = "{agents}"
metrics = "{metrics}"

[admin]
credential_file = "{directory}/admin.toml"

[log]
level = "warn"

{sections}"#
    )
}
