//! Agents that show a token of an issuer, as pods of Kubernetes and jobs of CI systems do.

use std::path::Path;
use std::time::Duration;

use ca_server::config::JwtIssuerConfig;
use crypto::signing::SigningKey;
use data_encoding::BASE64URL_NOPAD;
use mesh_tests::mesh::Mesh;
use mesh_tests::waiting::eventually;
use serde_json::{Value, json};
use workload_agent::Agent;
use workload_agent::config::{Config, IssuersToken, RootDigest};

const ISSUER: &str = "https://kubernetes.default.svc";

/// A cluster that projects tokens into files.
pub(super) struct Cluster {
    key: SigningKey,
    directory: tempfile::TempDir,
}

impl Cluster {
    pub(super) fn new() -> Self {
        let key = SigningKey::generate();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let spki = key.public_key().spki();
        let (x, y) = spki[spki.len() - 64..].split_at(32);
        let coordinate = |bytes| BASE64URL_NOPAD.encode(bytes);
        let keys = json!({ "keys": [
            {"kty": "EC", "crv": "P-256", "x": coordinate(x), "y": coordinate(y)},
        ]});
        let file = directory.path().join("keys.json");
        std::fs::write(file, keys.to_string()).expect("writable");
        Self { key, directory }
    }

    /// What a CA is told of it.
    pub(super) fn issuer(&self) -> String {
        let keys_file = self.directory.path().join("keys.json");
        format!(
            "attestor = 'k8s'\nissuer = '{ISSUER}'\naudience = 'countersign'\n\
             keys_file = '{}'\nagent_name = '{{/node}}'\nrequire = {{ '/sub' = 'agent' }}\n",
            keys_file.display()
        )
    }

    async fn mesh(&self) -> Mesh {
        let issuer: JwtIssuerConfig = toml::from_str(&self.issuer()).expect("an issuer");
        Mesh::configured(|config| config.attest.jwt = vec![issuer]).await
    }

    fn project(&self, mesh: &Mesh) {
        let file = self.directory.path().join("token");
        self.project_into(&file, mesh.time().now().unix_timestamp(), "web-7", "mesh");
    }

    /// As kubelet does it, before the token before ends.
    pub(super) fn project_into(&self, file: &Path, now: i64, node: &str, namespace: &str) {
        let claims = json!({
            "iss": ISSUER, "aud": "countersign", "sub": "agent", "node": node,
            "namespace": namespace, "iat": now, "exp": now + 3600,
        });
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&json!({"alg": "ES256"})), part(&claims));
        let signature = side_by_side(&self.key.sign(signed.as_bytes()));
        let token = format!("{signed}.{}\n", BASE64URL_NOPAD.encode(&signature));
        std::fs::write(file, token).expect("writable");
    }

    async fn agent(&self, mesh: &Mesh) -> Agent {
        let mut config = Config::for_directory(&self.directory.path().join("agent"));
        config.join.token_file = None;
        config.join.jwt = Some(IssuersToken {
            token_file: self.directory.path().join("token"),
        });
        let address = mesh.ca.agents_address().to_string();
        config.ca.addresses = vec![address.parse().expect("an address")];
        config.ca.trust_domain = Some(mesh.config().trust_domain.clone());
        let bundle = mesh.ca.bundle();
        let roots = bundle.authorities().iter();
        config.ca.root_sha256 = roots.map(|root| RootDigest(root.digest())).collect();
        std::fs::create_dir(self.directory.path().join("agent")).expect("writable");
        Agent::start(config, mesh.time()).await.expect("it starts")
    }
}

/// `r` and `s` as JWS wants them, from DER.
fn side_by_side(der: &[u8]) -> Vec<u8> {
    let (r, rest) = der[4..].split_at(usize::from(der[3]));
    let padded = |integer: &[u8]| {
        let digits = integer.iter().copied().skip_while(|byte| *byte == 0);
        let digits: Vec<u8> = digits.collect();
        [vec![0; 32 - digits.len()], digits].concat()
    };
    [padded(r), padded(&rest[2..])].concat()
}

/// The serial of the agent's row, once it is connected and has another one than `before`.
async fn connected(mesh: &Mesh, before: Option<&str>) -> String {
    eventually("the agent is connected", || async {
        let agent = mesh.admin().get("/v1/agents/k8s/web-7").await.ok()?;
        let serial = agent["serial"].as_str()?.to_owned();
        (agent["connected"] == true && before != Some(&serial)).then_some(serial)
    })
    .await
}

#[tokio::test]
async fn an_agent_joins_with_a_projected_token_and_again_with_its_successor() {
    let cluster = Cluster::new();
    let mesh = cluster.mesh().await;
    cluster.project(&mesh);
    let agent = cluster.agent(&mesh).await;
    let first = connected(&mesh, None).await;
    mesh.clock.advance(Duration::from_secs(48 * 60 * 60));
    cluster.project(&mesh);
    connected(&mesh, Some(&first)).await;
    agent.kill().await;
}

#[tokio::test]
async fn an_agent_that_was_evicted_shows_the_same_token_with_the_same_key() {
    let cluster = Cluster::new();
    let mesh = cluster.mesh().await;
    cluster.project(&mesh);
    let agent = cluster.agent(&mesh).await;
    let first = connected(&mesh, None).await;
    let evicted = mesh.admin().delete("/v1/agents/k8s/web-7").await;
    evicted.expect("it is known");
    connected(&mesh, Some(&first)).await;
    agent.kill().await;
}
