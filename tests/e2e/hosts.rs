//! Agents that prove the certificate of their host, and need no token.

use std::path::Path;
use std::time::Duration;

use ca_server::config::{HostNaming, X509PopConfig};
use identity::SpiffeId;
use mesh_tests::mesh::Mesh;
use mesh_tests::waiting::eventually;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use runtime::files::write_private;
use workload_agent::Agent;
use workload_agent::config::{Config, HostCertificate, RootDigest};

const HOST: &str = "web-7.hosts.example";

/// A PKI of hosts, with the files of one of them.
struct HostPki {
    directory: tempfile::TempDir,
}

impl HostPki {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("a root");
        let issuer = Issuer::new(params, key);
        let host_key = KeyPair::generate().expect("a key");
        let host = CertificateParams::new(vec![HOST.to_owned()]).expect("a name");
        let host = host.signed_by(&host_key, &issuer).expect("a certificate");
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("roots.pem"), root.pem()).expect("writable");
        std::fs::write(at("host.pem"), host.pem()).expect("writable");
        write_private(at("host.key"), host_key.serialize_pem().as_bytes()).expect("writable");
        Self { directory }
    }

    async fn mesh(&self) -> Mesh {
        let roots_file = self.directory.path().join("roots.pem");
        Mesh::configured(|config| {
            config.attest.x509pop = Some(X509PopConfig {
                roots_file,
                agent_name: HostNaming::DnsName,
                allowed_names: vec!["*.hosts.example".parse().expect("a pattern")],
                extended_key_usage: None,
                selectors: Default::default(),
            });
        })
        .await
    }

    async fn agent(&self, mesh: &Mesh, directory: &Path) -> Agent {
        self.agent_that_believes(mesh, mesh, directory).await
    }

    /// Speaks to `mesh`, and pins the roots of `believed`.
    async fn agent_that_believes(&self, believed: &Mesh, mesh: &Mesh, directory: &Path) -> Agent {
        let mut config = Config::for_directory(directory);
        config.join.token_file = None;
        config.join.x509pop = Some(HostCertificate {
            certificate_file: self.directory.path().join("host.pem"),
            key_file: self.directory.path().join("host.key"),
        });
        let address = mesh.ca.agents_address().to_string();
        config.ca.addresses = vec![address.parse().expect("an address")];
        config.ca.trust_domain = Some(mesh.config().trust_domain.clone());
        let bundle = believed.ca.bundle();
        let roots = bundle.authorities().iter();
        config.ca.root_sha256 = roots.map(|root| RootDigest(root.digest())).collect();
        Agent::start(config, mesh.time()).await.expect("it starts")
    }
}

fn expected() -> SpiffeId {
    let id = format!("spiffe://mesh.test/countersign/agent/x509pop/{HOST}");
    id.parse().expect("an agent's ID")
}

/// The serial of the agent's row, once it is connected and has another one than `before`.
async fn connected(mesh: &Mesh, before: Option<&str>) -> String {
    eventually("the agent is connected", || async {
        let agents = mesh.admin().get("/v1/agents").await.ok()?;
        let agent = agents["items"].as_array()?.first()?.clone();
        let serial = agent["serial"].as_str()?.to_owned();
        (agent["connected"] == true && before != Some(&serial)).then_some(serial)
    })
    .await
}

#[tokio::test]
async fn a_host_joins_without_a_token_and_proves_itself_again_after_expiry() {
    let (pki, directory) = (HostPki::new(), tempfile::tempdir().expect("a directory"));
    let mesh = pki.mesh().await;
    let agent = pki.agent(&mesh, directory.path()).await;
    let first = connected(&mesh, None).await;
    assert_eq!(agent.agent_id(), Some(expected()));
    mesh.clock.advance(Duration::from_secs(48 * 60 * 60));
    connected(&mesh, Some(&first)).await;
    agent.kill().await;
}

#[tokio::test]
async fn a_host_that_was_evicted_proves_itself_again() {
    let (pki, directory) = (HostPki::new(), tempfile::tempdir().expect("a directory"));
    let mesh = pki.mesh().await;
    let agent = pki.agent(&mesh, directory.path()).await;
    let first = connected(&mesh, None).await;
    let path = format!("/v1/agents/x509pop/{HOST}");
    mesh.admin().delete(&path).await.expect("it is known");
    connected(&mesh, Some(&first)).await;
    agent.kill().await;
}

#[tokio::test]
async fn a_ca_whose_root_is_not_pinned_is_not_asked() {
    let (pki, directory) = (HostPki::new(), tempfile::tempdir().expect("a directory"));
    let (mesh, other) = (pki.mesh().await, pki.mesh().await);
    let agent = pki
        .agent_that_believes(&other, &mesh, directory.path())
        .await;
    let status = agent.status();
    let code = eventually("the agent says what is wrong", || async {
        let problem = status.borrow().problem.clone();
        problem.map(|problem| problem.code)
    })
    .await;
    assert_eq!(code, "ca-unreachable");
    agent.kill().await;
}
