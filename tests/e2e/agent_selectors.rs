//! Real agents that hold what their issuer's tokens say entitles them to, through two real replicas.

use std::path::Path;

use crypto::digest::Sha256;
use mesh_tests::operator::{CaProcess, TRUST_DOMAIN};
use mesh_tests::replicas::Replicas;
use mesh_tests::waiting::eventually;
use runtime::Clock;
use serde_json::Value;
use tempfile::TempDir;
use workload_agent::Agent;
use workload_agent::config::{Config, IssuersToken, RootDigest};

use crate::issuers::Cluster;

const ENTRY: &str = "\
apiVersion: countersign.dev/v1
kind: Workload
metadata: {namespace: shop, name: orders}
spec:
  agents: [{attestor: k8s, cluster: prod, namespace: shop}]
  selectors: {unix: {uid: 1001}}
";

/// A node of the cluster with an agent, whose state and token lie in a directory.
struct Node {
    name: &'static str,
    agent: Agent,
    directory: TempDir,
}

impl Node {
    /// Its agent speaks to this replica.
    async fn start(
        cluster: &Cluster,
        (name, namespace): (&'static str, &str),
        replica: &CaProcess,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        project(cluster, directory.path(), (name, namespace));
        let mut config = Config::for_directory(&directory.path().join("agent"));
        config.join.token_file = None;
        config.join.jwt = Some(IssuersToken {
            token_file: directory.path().join("token"),
        });
        let address = replica.agents_address().to_string();
        config.ca.addresses = vec![address.parse().expect("an address")];
        config.ca.trust_domain = Some(TRUST_DOMAIN.parse().expect("a trust domain"));
        config.ca.root_sha256 = roots(replica);
        std::fs::create_dir(directory.path().join("agent")).expect("writable");
        let agent = Agent::start(config, Clock::system()).await;
        Self {
            name,
            agent: agent.expect("it starts"),
            directory,
        }
    }

    /// By its next attestation it is a node of this namespace; that is now.
    async fn move_to(&self, cluster: &Cluster, namespace: &str, replica: &CaProcess) {
        project(cluster, self.directory.path(), (self.name, namespace));
        let path = format!("/v1/agents/k8s/{}", self.name);
        replica.admin().delete(&path).await.expect("it is known");
    }

    /// Waits until each replica shows it, connected, with this namespace and these workloads.
    async fn shown(&self, replicas: &[CaProcess], namespace: &str, workloads: &[&str]) {
        for replica in replicas {
            let path = format!("/v1/agents/k8s/{}", self.name);
            eventually("what is said of an agent is known", || async {
                let agent = replica.admin().get(&path).await.ok()?;
                let said = agent["connected"] == true
                    && agent["selectors"]["cluster"] == "prod"
                    && agent["selectors"]["namespace"] == namespace
                    && agent["workloads"] == workloads.iter().copied().collect::<Value>();
                said.then_some(())
            })
            .await;
        }
    }

    /// What an operator is told who asks why it does not hold the workload.
    async fn explained(&self, replica: &CaProcess) -> String {
        let agent = format!("k8s/{}", self.name);
        let told = replica.countersign(&["agent", "explain", &agent, "shop/orders"]);
        let told = told.await;
        assert!(told.status.success(), "{told:?}");
        String::from_utf8(told.stdout).expect("it is text")
    }
}

fn project(cluster: &Cluster, directory: &Path, (node, namespace): (&str, &str)) {
    let now = Clock::system().now().unix_timestamp();
    cluster.project_into(&directory.join("token"), now, node, namespace);
}

/// As an operator reads them from the credential.
fn roots(replica: &CaProcess) -> Vec<RootDigest> {
    let text = std::fs::read_to_string(replica.directory().join("admin.toml"));
    let credential: toml::Table = text.expect("it has one").parse().expect("it is TOML");
    let roots = credential["root_sha256"].as_array().expect("a list");
    let digests = roots.iter().map(|root| root.as_str().expect("text"));
    digests
        .map(|digest| RootDigest(digest.parse::<Sha256>().expect("a digest")))
        .collect()
}

#[tokio::test]
async fn an_agent_holds_what_its_token_says_and_no_longer_than_it_says_so() {
    let Some(server) = postgres_cluster::shared() else {
        return;
    };
    let cluster = Cluster::new();
    let issuer = format!(
        "\n[[attest.jwt]]\n{}\n[attest.jwt.selectors]\ncluster = 'prod'\nnamespace = '{{/namespace}}'\n",
        cluster.issuer()
    );
    let (_mesh, replicas) = Replicas::start_on(server.database(), 2, &issuer).await;
    replicas[0].try_apply(ENTRY).await.expect("it is taken");
    let shop = Node::start(&cluster, ("web-7", "shop"), &replicas[0]).await;
    let bank = Node::start(&cluster, ("web-8", "bank"), &replicas[1]).await;
    shop.shown(&replicas, "shop", &["shop/orders"]).await;
    bank.shown(&replicas, "bank", &[]).await;
    let why = bank.explained(&replicas[0]).await;
    assert!(
        why.contains("with cluster=prod, namespace=shop; this agent has namespace=bank"),
        "{why}"
    );
    shop.move_to(&cluster, "bank", &replicas[1]).await;
    bank.move_to(&cluster, "shop", &replicas[0]).await;
    shop.shown(&replicas, "bank", &[]).await;
    bank.shown(&replicas, "shop", &["shop/orders"]).await;
    let may = bank.explained(&replicas[1]).await;
    assert!(may.ends_with(": may hold it\n"), "{may}");
    shop.agent.kill().await;
    bank.agent.kill().await;
}
