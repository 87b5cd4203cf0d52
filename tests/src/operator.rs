//! The CA as a process of its own, that can be killed as the kernel would, and its operator.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use cli::admin::{AdminFile, Client};
use identity::JoinToken;
use nix::unistd::getuid;
use runtime::Clock;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::processes::{Process, binary_path, free_address};
use crate::waiting::eventually;
use crate::workload::{Home, WorkloadBuilder};

pub const TRUST_DOMAIN: &str = "mesh.test";

/// A running `countersign-ca`.
#[derive(Debug)]
pub struct CaProcess {
    process: Process,
    admin: Client,
    agents: SocketAddr,
    config: String,
    directory: TempDir,
}

impl CaProcess {
    pub async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let agents = free_address();
        let config = configuration(directory.path(), agents);
        Self::launch(directory, agents, config).await
    }

    /// With these `[lifetimes]`.
    pub async fn start_with(lifetimes: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let agents = free_address();
        let config = configuration(directory.path(), agents);
        let config = format!("{config}\n[lifetimes]\n{lifetimes}");
        Self::launch(directory, agents, config).await
    }

    /// By a program that ends as the CA: made by `program` of the directory and the binary.
    pub async fn start_through(program: impl FnOnce(&Path, &Path) -> PathBuf) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let agents = free_address();
        let config = configuration(directory.path(), agents);
        let program = program(directory.path(), &binary_path("countersign-ca"));
        let program = program
            .to_str()
            .expect("a temporary directory's name is text");
        let process = Process::start(program, directory.path(), "ca", &config);
        Self::answering(process, directory, agents, config).await
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it logged so far.
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// Writes the objects of a YAML text as one revision.
    pub async fn try_apply(&self, yaml: &str) -> Option<String> {
        let objects = policy::parse_documents(yaml).expect("valid objects");
        let objects: Vec<_> = objects.iter().map(policy::Resource::to_json).collect();
        let changeset = json!({"reason": "test", "apply": objects});
        let answer = self.admin.post("/v1/changesets", &changeset).await.ok()?;
        Some(answer["revision"].as_str()?.to_owned())
    }

    /// kill -9, and the same program on the same store and ports.
    pub async fn crash_and_restart(self) -> Self {
        let Self {
            process,
            agents,
            config,
            directory,
            ..
        } = self;
        process.kill().await;
        Self::launch(directory, agents, config).await
    }

    /// The program on what another one left.
    pub async fn restart_in(directory: TempDir, config: &str) -> Self {
        Self::launch(directory, agents_of(config), config.to_owned()).await
    }

    /// The same, with these variables in its environment.
    pub async fn restart_among(
        directory: TempDir,
        config: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let agents = agents_of(config);
        let place = directory.path();
        let process = Process::start_among("countersign-ca", place, "ca", config, &[], environment);
        Self::answering(process, directory, agents, config.to_owned()).await
    }

    /// kill -9. The directory stays.
    pub async fn crash(self) -> TempDir {
        self.process.kill().await;
        self.directory
    }

    async fn launch(directory: TempDir, agents: SocketAddr, config: String) -> Self {
        let process = Process::start("countersign-ca", directory.path(), "ca", &config);
        Self::answering(process, directory, agents, config).await
    }

    /// A process that was just started, once it answers who has `admin.toml`.
    pub(crate) async fn answering(
        process: Process,
        directory: TempDir,
        agents: SocketAddr,
        config: String,
    ) -> Self {
        let clock = Clock::system();
        let credential = directory.path().join("admin.toml");
        let admin = eventually("the CA answers", || async {
            let said = process.said();
            assert!(!said.contains("error: "), "the CA did not start: {said}");
            let file = AdminFile::load(&credential, clock.now()).ok()?;
            let admin = Client::new(file, clock.clone());
            admin.get("/v1/about").await.ok().map(|_| admin)
        });
        Self {
            admin: admin.await,
            process,
            agents,
            config,
            directory,
        }
    }

    /// A workload in the making, whose agent joins here.
    pub fn workload(&self, name: &str) -> WorkloadBuilder<'_> {
        let home = Home {
            admin: &self.admin,
            time: Clock::system(),
            directory: self.directory(),
            replica: Some(self.agents),
        };
        WorkloadBuilder::new(home, name)
    }

    /// A workload of this uid.
    pub async fn register(&self, namespace: &str, name: &str) {
        let workload = json!({
            "apiVersion": "countersign.dev/v1",
            "kind": "Workload",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"selectors": {"unix": {"uid": getuid().as_raw()}}},
        });
        let changeset = json!({"reason": "test", "apply": [workload]});
        let applied = self.admin.post("/v1/changesets", &changeset).await;
        applied.expect("the workload is valid");
    }

    pub async fn join_token(&self, agent: &str, workloads: &[&str]) -> JoinToken {
        let request = json!({"agent": agent, "workloads": workloads});
        let answer = self.admin.post("/v1/join-tokens", &request).await;
        let answer = answer.expect("a token");
        let token = answer["tokens"][0]["token"].as_str().expect("text");
        token.parse().expect("the CA's tokens parse")
    }

    /// The operator's program, told to do this here; it begins when it is first awaited.
    pub fn countersign(&self, arguments: &[&str]) -> impl Future<Output = Output> + use<> {
        let admin = self.directory().join("admin.toml");
        let admin = admin.to_str().expect("a plain path");
        countersign(&[arguments, &["--admin", admin]].concat())
    }

    /// It does nothing until it is resumed.
    pub fn suspend(&self) {
        self.process.suspend();
    }

    pub fn resume(&self) {
        self.process.resume();
    }

    pub fn admin(&self) -> &Client {
        &self.admin
    }

    /// Its TOML file.
    pub fn config(&self) -> &str {
        &self.config
    }

    pub fn agents_address(&self) -> SocketAddr {
        self.agents
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// The operator's program, without a credential; it begins when it is first awaited.
pub fn countersign(arguments: &[&str]) -> impl Future<Output = Output> + use<> {
    let mut program = Command::new(binary_path("countersign"));
    let ended = program.args(arguments).kill_on_drop(true).output();
    async { ended.await.expect("it was built") }
}

fn agents_of(config: &str) -> SocketAddr {
    let agents = config
        .lines()
        .find_map(|line| line.strip_prefix("agents = "));
    let agents = agents.and_then(|text| text.trim_matches('"').parse().ok());
    agents.expect("our own configuration")
}

/// The TOML file of a CA below `directory`.
pub fn configuration(directory: &Path, agents: SocketAddr) -> String {
    let directory = directory.display();
    let web = free_address();
    format!(
        r#"trust_domain = "{TRUST_DOMAIN}"

[store]
sqlite = "{directory}/data/ca.sqlite"

[keys]
kek_file = "{directory}/keys/kek"

[listen]
web = "{web}"
agents = "{agents}"

[admin]
credential_file = "{directory}/admin.toml"

[log]
level = "warn"
"#
    )
}
