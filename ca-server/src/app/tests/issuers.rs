//! Claims of `Attest` with tokens of issuers.

use std::path::Path;

use crypto::signing::SigningKey;
use data_encoding::BASE64URL_NOPAD;
use identity::AgentId;
use proto::agent::v1::{self as wire, attest_request::Evidence};
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::agent::{TestAgent, possession, refused};
use super::harness::{TestCa, trust_domain};
use crate::config::JwtIssuerConfig;

const ISSUER: &str = "https://kubernetes.default.svc";

/// A cluster that signs tokens of its service accounts.
pub(super) struct Cluster {
    key: SigningKey,
    keys_file: tempfile::NamedTempFile,
}

impl Cluster {
    pub(super) fn new() -> Self {
        let cluster = Self {
            key: SigningKey::generate(),
            keys_file: tempfile::NamedTempFile::new().unwrap(),
        };
        cluster.publish("k1");
        cluster
    }

    /// Writes its key under this id.
    fn publish(&self, kid: &str) {
        std::fs::write(&self.keys_file, self.keys_as(kid)).unwrap();
    }

    pub(super) fn keys(&self) -> String {
        self.keys_as("k1")
    }

    fn keys_as(&self, kid: &str) -> String {
        let spki = self.key.public_key().spki();
        let (x, y) = spki[spki.len() - 64..].split_at(32);
        let coordinate = |bytes| BASE64URL_NOPAD.encode(bytes);
        let key = json!({
            "kty": "EC", "crv": "P-256", "kid": kid, "x": coordinate(x), "y": coordinate(y),
        });
        json!({ "keys": [key] }).to_string()
    }

    pub(super) fn config(&self) -> JwtIssuerConfig {
        config(self.keys_file.path())
    }

    async fn ca(&self) -> TestCa {
        let config = self.config();
        TestCa::start_with(|ca| ca.attest.jwt = vec![config]).await
    }

    /// A projected token of the agent's pod on `web-7`, with `changes`.
    pub(super) fn token(&self, ca: &TestCa, changes: &Value) -> String {
        self.token_of("k1", ca, changes)
    }

    fn token_of(&self, kid: &str, ca: &TestCa, changes: &Value) -> String {
        let now = ca.clock.now().unix_timestamp();
        let mut claims = json!({
            "iss": ISSUER, "aud": ["countersign"], "exp": now + 600, "iat": now, "nbf": now,
            "sub": "system:serviceaccount:mesh:agent", "jti": "7",
            "kubernetes.io": {"namespace": "mesh", "node": {"name": "web-7", "uid": "1"}},
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let header = json!({"alg": "ES256", "kid": kid});
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = raw(&self.key.sign(signed.as_bytes()));
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
    }
}

pub(super) fn config(keys_file: &Path) -> JwtIssuerConfig {
    let text = format!(
        "attestor = 'k8s'\nissuer = '{ISSUER}'\naudience = 'countersign'\nkeys_file = '{}'\n\
         agent_name = '{{/kubernetes.io/node/name}}'\n\
         require = {{ '/sub' = 'system:serviceaccount:mesh:agent' }}\n",
        keys_file.display()
    );
    toml::from_str(&text).unwrap()
}

/// JWS wants `r` and `s` side by side, not as DER.
fn raw(der: &[u8]) -> Vec<u8> {
    let (r, rest) = der[4..].split_at(usize::from(der[3]));
    let padded = |integer: &[u8]| {
        let digits = integer.iter().copied().skip_while(|byte| *byte == 0);
        let digits: Vec<u8> = digits.collect();
        [vec![0; 32 - digits.len()], digits].concat()
    };
    [padded(r), padded(&rest[2..])].concat()
}

pub(super) async fn attest(
    ca: &TestCa,
    token: &str,
    key: &SigningKey,
) -> Result<wire::AttestResponse, Status> {
    let connection = ca.anonymous().await;
    let token = token.to_owned();
    let possession = possession(key, &connection.exporter);
    let evidence = Evidence::Jwt(wire::JwtEvidence { token });
    connection.attest_by(evidence, possession).await
}

/// What the CA says to a token with these changes.
async fn refusal(changes: Value, reason: &str) {
    let cluster = Cluster::new();
    let ca = cluster.ca().await;
    let token = cluster.token(&ca, &changes);
    let answer = attest(&ca, &token, &SigningKey::generate()).await;
    refused(answer, Code::PermissionDenied, reason);
}

#[tokio::test]
async fn a_token_is_refused_where_no_issuer_is_configured() {
    let ca = TestCa::start().await;
    let token = Cluster::new().token(&ca, &json!({}));
    let answer = attest(&ca, &token, &SigningKey::generate()).await;
    refused(answer, Code::PermissionDenied, "attestor-not-configured");
}

#[tokio::test]
async fn a_token_of_an_unknown_issuer_is_refused() {
    refusal(
        json!({"iss": "https://elsewhere.example"}),
        "unknown-issuer",
    )
    .await;
}

#[tokio::test]
async fn a_token_for_another_audience_is_refused() {
    refusal(json!({"aud": "vault"}), "token-refused").await;
}

#[tokio::test]
async fn a_token_of_another_account_is_refused() {
    refusal(
        json!({"sub": "system:serviceaccount:shop:web"}),
        "claims-refused",
    )
    .await;
}

#[tokio::test]
async fn a_claim_that_cannot_stand_in_a_name_is_refused() {
    for name in [json!("../web"), json!("a/b"), json!(""), json!({})] {
        let node = json!({"node": {"name": name}});
        refusal(json!({"kubernetes.io": node}), "claims-refused").await;
    }
}

#[tokio::test]
async fn a_token_of_another_cluster_of_the_same_name_is_refused() {
    let cluster = Cluster::new();
    let ca = cluster.ca().await;
    let token = Cluster::new().token(&ca, &json!({}));
    let answer = attest(&ca, &token, &SigningKey::generate()).await;
    refused(answer, Code::PermissionDenied, "token-refused");
}

#[tokio::test]
async fn a_token_that_another_key_showed_is_refused_to_every_other() {
    let cluster = Cluster::new();
    let ca = cluster.ca().await;
    let (token, key) = (cluster.token(&ca, &json!({})), SigningKey::generate());
    attest(&ca, &token, &key).await.unwrap();
    let stolen = attest(&ca, &token, &SigningKey::generate()).await;
    refused(stolen, Code::PermissionDenied, "already-used");
    attest(&ca, &token, &key).await.unwrap();
}

#[tokio::test]
async fn an_expired_svid_does_not_bring_an_introduced_agent_back() {
    let cluster = Cluster::new();
    let ca = cluster.ca().await;
    let (token, key) = (cluster.token(&ca, &json!({})), SigningKey::generate());
    let joined = attest(&ca, &token, &key).await.unwrap();
    let agent = TestAgent {
        chain: joined.svid.unwrap().chain,
        key,
    };
    let line = ca.anonymous().await;
    let answer = line.reattest(&agent, &SigningKey::generate()).await;
    refused(answer, Code::PermissionDenied, "fresh-proof-needed");
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_trouble_that_passes() {
    let cluster = Cluster::new();
    let ca = cluster.ca().await;
    std::fs::write(&cluster.keys_file, "{}").unwrap();
    let token = cluster.token(&ca, &json!({}));
    let answer = attest(&ca, &token, &SigningKey::generate()).await;
    refused(answer, Code::Unavailable, "issuer-keys-unavailable");
}

#[tokio::test]
async fn unknown_keys_are_not_asked_for_at_every_token() {
    let cluster = Cluster::new();
    let ca = cluster.ca().await;
    let token = cluster.token(&ca, &json!({}));
    attest(&ca, &token, &SigningKey::generate()).await.unwrap();
    cluster.publish("k2");
    // The keys were fetched a moment ago.
    let token = cluster.token_of("k2", &ca, &json!({}));
    let answer = attest(&ca, &token, &SigningKey::generate()).await;
    refused(answer, Code::PermissionDenied, "token-refused");
}

#[tokio::test]
async fn the_agent_is_named_by_the_claims() {
    let cluster = Cluster::new();
    let ca = cluster.ca().await;
    let token = cluster.token(&ca, &json!({}));
    let answer = attest(&ca, &token, &SigningKey::generate()).await.unwrap();
    let expected = AgentId::new(&trust_domain(), "k8s", "web-7").unwrap();
    assert_eq!(answer.svid.unwrap().spiffe_id, expected.to_string());
}
