//! The CA as a process of its own, and an operator who configures it over REST.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, ensure};
use cli::admin::{AdminFile, Client};
use identity::JoinToken;
use mesh_tests::processes::{Process, free_address};
use mesh_tests::waiting::eventually;
use runtime::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const TRUST_DOMAIN: &str = "mesh.bench";

#[derive(Debug)]
pub struct Operator {
    pub ca: Process,
    pub agents: SocketAddr,
    admin: Client,
    directory: TempDir,
}

impl Operator {
    /// `sections` is appended to the CA's configuration.
    pub async fn start(sections: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let agents = free_address();
        let config = configuration(directory.path(), agents, sections);
        let ca = Process::start("countersign-ca", directory.path(), "ca", &config);
        let credential = directory.path().join("admin.toml");
        let clock = Clock::system();
        let admin = eventually("the CA writes the admin's credential", || async {
            let file = AdminFile::load(&credential, clock.now()).ok()?;
            Some(Client::new(file, clock.clone()))
        })
        .await;
        eventually("the CA answers", || async {
            admin.get("/v1/about").await.ok()
        })
        .await;
        Ok(Self {
            ca,
            agents,
            admin,
            directory,
        })
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn admin(&self) -> &Client {
        &self.admin
    }

    /// A workload of this uid.
    pub async fn register(&self, namespace: &str, name: &str) -> Result<()> {
        let workload = json!({
            "apiVersion": "countersign.dev/v1",
            "kind": "Workload",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"selectors": {"unix": {"uid": nix::unistd::getuid().as_raw()}}},
        });
        self.apply(vec![workload]).await.map(drop)
    }

    /// The revision.
    pub async fn apply(&self, objects: Vec<Value>) -> Result<String> {
        let changeset = json!({"reason": "bench", "apply": objects});
        let answer = self.admin.post("/v1/changesets", &changeset).await?;
        Ok(answer["revision"].as_str().unwrap_or_default().to_owned())
    }

    pub async fn join_token(&self, agent: &str, workloads: &[&str]) -> Result<JoinToken> {
        let request = json!({"agent": agent, "workloads": workloads});
        let answer = self.admin.post("/v1/join-tokens", &request).await?;
        Ok(answer["tokens"][0]["token"]
            .as_str()
            .unwrap_or_default()
            .parse()?)
    }

    pub async fn stop(self) -> Result<()> {
        let ended = self.ca.terminate().await;
        ensure!(ended.success(), "the CA ended with {ended}");
        Ok(())
    }
}

fn configuration(directory: &Path, agents: SocketAddr, sections: &str) -> String {
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

{sections}"#
    )
}
