//! A whole mesh in this process: the CA, and the means to give it configuration and workloads.

use std::path::Path;
use std::time::Duration;

use ca_server::config::Lifetimes;
use ca_server::{Ca, Config};
use cli::admin::{AdminFile, Client};
use identity::TrustDomain;
use runtime::{Clock, ClockControl};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::workload::{Home, WorkloadBuilder};

/// How long a test waits for an orderly end.
pub const DRAIN: Duration = Duration::from_secs(10);

/// A CA in a directory of its own, which ends with the handle.
#[derive(Debug)]
pub struct Mesh {
    pub ca: Ca,
    /// Moves the wall clock of the CA and of every workload.
    pub clock: ClockControl,
    time: Clock,
    admin: Client,
    config: Config,
    directory: TempDir,
}

impl Mesh {
    /// With the product's default lifetimes.
    pub async fn start() -> Self {
        Self::with_lifetimes(Lifetimes::default()).await
    }

    /// With agent and workload certificates that live `life`, so that they are renewed while a
    /// test looks on.
    pub async fn with_leaves_of(life: Duration) -> Self {
        Self::with_lifetimes(Lifetimes {
            agent: life,
            workload: life,
            ..Lifetimes::default()
        })
        .await
    }

    /// For claims about more than one mesh.
    pub async fn start_as(trust_domain: &str) -> Self {
        let trust_domain = trust_domain.parse().expect("a literal trust domain");
        Self::start_with(trust_domain, |_| {}).await
    }

    /// With what `change` does to the CA's configuration.
    pub async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_with(trust_domain(), change).await
    }

    async fn with_lifetimes(lifetimes: Lifetimes) -> Self {
        Self::configured(|config| config.lifetimes = lifetimes).await
    }

    async fn start_with(trust_domain: TrustDomain, change: impl FnOnce(&mut Config)) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::for_directory(trust_domain, directory.path());
        change(&mut config);
        let (time, clock) = Clock::adjustable();
        let ca = Ca::start(config.clone(), time.clone())
            .await
            .expect("the CA starts");
        let credential = AdminFile::load(ca.admin_file(), time.now()).expect("readable");
        let admin = Client::new(credential, time.clone());
        // A restarted CA is found where it was.
        config.listen.web = ca.web_address();
        config.listen.agents = ca.agents_address();
        Self {
            ca,
            clock,
            time,
            admin,
            config,
            directory,
        }
    }

    /// A workload in the making; its agent and proxy start with
    /// [`start`](WorkloadBuilder::start).
    pub fn workload(&self, name: &str) -> WorkloadBuilder<'_> {
        let home = Home {
            admin: &self.admin,
            time: self.time(),
            directory: self.directory(),
            replica: None,
        };
        WorkloadBuilder::new(home, name)
    }

    /// Writes the objects of a YAML text as one revision and waits until every connected agent
    /// has acknowledged it.
    pub async fn apply(&self, yaml: &str) -> String {
        let revision = self
            .try_apply(yaml)
            .await
            .expect("the CA accepts the objects");
        self.enforced(&revision).await;
        revision
    }

    /// The revision, or the refusal's stable code.
    pub async fn try_apply(&self, yaml: &str) -> Result<String, String> {
        let objects = policy::parse_documents(yaml).expect("valid objects");
        let objects: Vec<Value> = objects.iter().map(policy::Resource::to_json).collect();
        let changeset = json!({"reason": "test", "apply": objects});
        let answer = self.admin.post("/v1/changesets", &changeset).await;
        match answer {
            Ok(answer) => Ok(text(&answer, "revision")),
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    pub async fn enforced(&self, revision: &str) {
        let path = format!("/v1/revisions/{revision}?wait=enforced&timeoutMs=10000");
        let answer = self.admin.get(&path).await.expect("the revision is known");
        let enforced = &answer["enforcement"]["enforcedAt"];
        assert!(
            !enforced.is_null(),
            "revision {revision} is not enforced: {answer}"
        );
    }

    /// A token that lets one agent join and hold the workloads.
    pub async fn join_token(&self, agent: &str, workloads: &[&str]) -> String {
        let request = json!({"agent": agent, "workloads": workloads});
        self.join_tokens(&request).await.remove(0)
    }

    /// What `POST /v1/join-tokens` makes of the request.
    pub async fn join_tokens(&self, request: &Value) -> Vec<String> {
        let answer = self.admin.post("/v1/join-tokens", request).await;
        let answer = answer.expect("tokens");
        let tokens = answer["tokens"].as_array().expect("a list");
        tokens.iter().map(|token| text(token, "token")).collect()
    }

    pub async fn delete(&self, path: &str) {
        self.admin.delete(path).await.expect("deleted");
        let revision = self
            .admin
            .get("/v1/revisions?limit=1")
            .await
            .expect("revisions");
        self.enforced(&text(&revision["items"][0], "revision"))
            .await;
    }

    pub fn admin(&self) -> &Client {
        &self.admin
    }

    /// What the CA was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The clock that CA, agents and proxies share.
    pub fn time(&self) -> Clock {
        self.time.clone()
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends the CA as a crash would. What is left can [`restart`](CrashedMesh::restart) it.
    pub fn crash_ca(self) -> CrashedMesh {
        let Self {
            ca,
            clock,
            time,
            admin,
            config,
            directory,
        } = self;
        ca.kill();
        CrashedMesh {
            clock,
            time,
            admin,
            config,
            directory,
        }
    }
}

/// A mesh without its CA.
#[derive(Debug)]
pub struct CrashedMesh {
    pub clock: ClockControl,
    time: Clock,
    admin: Client,
    config: Config,
    directory: TempDir,
}

impl CrashedMesh {
    /// The same store on the same ports.
    pub async fn restart(self) -> Mesh {
        let Self {
            clock,
            time,
            admin,
            config,
            directory,
        } = self;
        let start = || async {
            // The kernel may need a moment to give the ports back.
            Ca::start(config.clone(), time.clone()).await.ok()
        };
        let ca = crate::waiting::eventually("the CA starts again", start).await;
        Mesh {
            ca,
            clock,
            time,
            admin,
            config,
            directory,
        }
    }

    pub fn time(&self) -> Clock {
        self.time.clone()
    }
}

pub fn trust_domain() -> TrustDomain {
    "mesh.test".parse().expect("a literal trust domain")
}

fn text(value: &Value, key: &str) -> String {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no `{key}` in {value}"))
        .to_owned()
}
