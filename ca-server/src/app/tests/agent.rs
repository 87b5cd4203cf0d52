//! The agent's side of the protocol.

use std::sync::Mutex;
use std::time::Duration;

use crypto::digest::Sha256;
use crypto::signing::{SigningKey, create_csr};
use hyper_util::rt::TokioIo;
use identity::x509::{BundleSet, UnverifiedChain, X509Svid};
use mtls::{ClientTls, ClientTlsConfig, Expected, PinnedRoots};
use proto::agent::v1::attestation_client::AttestationClient;
use proto::agent::v1::configuration_watch_client::ConfigurationWatchClient;
use proto::agent::v1::issuance_client::IssuanceClient;
use proto::agent::v1::{self as wire, attest_request::Evidence};
use proto::mesh::v1::PROTOCOL;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::service_fn;

use super::harness::{TestCa, Token, agent_id};
use crate::status::REASON;

/// One connection to the CA.
pub(super) struct Connection {
    pub(super) channel: Channel,
    pub(super) exporter: [u8; 32],
}

/// An agent that has attested.
pub(super) struct TestAgent {
    pub(super) key: SigningKey,
    pub(super) chain: Vec<Vec<u8>>,
}

impl TestCa {
    /// A connection without client certificate.
    pub(super) async fn anonymous(&self) -> Connection {
        let clock = self.clock.clone();
        let pins = PinnedRoots::of_bundle(&self.ca.bundle());
        self.connect(pins.client_config(&[b"h2"], move || clock.now()))
            .await
    }

    pub(super) async fn connect(&self, config: ClientTlsConfig) -> Connection {
        let tls = self.handshake(config).await;
        let exporter = tls.export_keying_material("EXPORTER-countersign-attest");
        let tls = Mutex::new(Some(TokioIo::new(tls)));
        let connector = service_fn(move |_| {
            let tls = tls.lock().unwrap().take();
            async move { tls.ok_or_else(|| std::io::Error::other("one connection only")) }
        });
        let endpoint = Endpoint::from_static("http://ca.invalid");
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        Connection { channel, exporter }
    }

    /// After the clock was moved, the CA may answer with an expired certificate for a moment.
    async fn handshake(&self, config: ClientTlsConfig) -> ClientTls<TcpStream> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let tcp = TcpStream::connect(self.ca.agents_address()).await.unwrap();
            match mtls::connect(tcp, config.clone()).await {
                Ok(tls) => return tls,
                Err(error) if Instant::now() > deadline => panic!("{error}"),
                // Each handshake is a question of its own: nothing is gained by a pause.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    /// A connection that shows this SVID.
    pub(super) async fn with_svid(&self, svid: X509Svid) -> Connection {
        let bundles = BundleSet::from(self.ca.bundle());
        let clock = self.clock.clone();
        let (publisher, credentials) = mtls::channel(move || clock.now());
        publisher.publish(svid, bundles).unwrap();
        let config = credentials.client_config(Expected::CaReplica, &[b"h2"]);
        self.connect(config.unwrap()).await
    }

    pub(super) async fn agent(&self, name: &str) -> TestAgent {
        let token = self.token(name).await;
        let key = SigningKey::generate();
        let response = self.anonymous().await.attest(&token, &key).await.unwrap();
        TestAgent {
            key,
            chain: response.svid.unwrap().chain,
        }
    }

    pub(super) fn svid(&self, chain: &[Vec<u8>], key: &SigningKey) -> X509Svid {
        let chain = chain.iter().cloned().map(CertificateDer::from).collect();
        let verified = UnverifiedChain::from_der(chain)
            .unwrap()
            .verify(&self.ca.bundle().into(), self.clock.now())
            .unwrap();
        X509Svid::try_new(verified, key.clone()).unwrap()
    }

    /// The agent's next SVID, with a new key.
    pub(super) async fn renew(&self, agent: &TestAgent, name: &str) -> TestAgent {
        let key = SigningKey::generate();
        let result = self.of(agent).await.issue_one(&agent_id(name), &key).await;
        TestAgent {
            chain: chain_of(result.unwrap()),
            key,
        }
    }

    /// An agent whose chain does not lead over the intermediate `before`.
    pub(super) async fn agent_with_new_intermediate(&self, name: &str, before: &[u8]) -> TestAgent {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let agent = self.agent(name).await;
            if agent.chain[1] != before {
                return agent;
            }
            assert!(
                Instant::now() < deadline,
                "the intermediate was not renewed"
            );
        }
    }

    /// Waits until the store knows that this SVID was shown.
    pub(super) async fn seen(&self, agent: &TestAgent) {
        let connection = self.of(agent).await;
        // Served after what the handshake showed was noted.
        connection.issue(Vec::new()).await.unwrap();
    }

    /// A connection of this agent.
    pub(super) async fn of(&self, agent: &TestAgent) -> Connection {
        self.with_svid(self.svid(&agent.chain, &agent.key)).await
    }
}

impl Connection {
    pub(super) async fn attest(
        &self,
        token: &Token,
        key: &SigningKey,
    ) -> Result<wire::AttestResponse, Status> {
        let possession = possession(key, &self.exporter);
        self.attest_with(token, possession).await
    }

    pub(super) async fn attest_with(
        &self,
        token: &Token,
        possession: wire::Possession,
    ) -> Result<wire::AttestResponse, Status> {
        let token = wire::JoinTokenEvidence {
            token_id: token.id.clone(),
            secret: token.secret.to_vec(),
        };
        self.attest_by(Evidence::JoinToken(token), possession).await
    }

    pub(super) async fn attest_by(
        &self,
        evidence: Evidence,
        possession: wire::Possession,
    ) -> Result<wire::AttestResponse, Status> {
        let request = wire::AttestRequest {
            version: Some(PROTOCOL),
            possession: Some(possession),
            evidence: Some(evidence),
        };
        let mut client = AttestationClient::new(self.channel.clone());
        client
            .attest(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// The expired agent comes back for an SVID of `key`.
    pub(super) async fn reattest(
        &self,
        agent: &TestAgent,
        key: &SigningKey,
    ) -> Result<wire::AttestResponse, Status> {
        let statement = statement(b"countersign-reattest-v1\0", &self.exporter, key);
        let request = wire::ReattestRequest {
            version: Some(PROTOCOL),
            possession: Some(possession(key, &self.exporter)),
            expired_chain: agent.chain.clone(),
            expired_signature: agent.key.sign(&statement),
        };
        let mut client = AttestationClient::new(self.channel.clone());
        client
            .reattest(request)
            .await
            .map(tonic::Response::into_inner)
    }

    pub(super) async fn issue(
        &self,
        requests: Vec<wire::CertificateRequest>,
    ) -> Result<Vec<wire::issue_result::Result>, Status> {
        let mut client = IssuanceClient::new(self.channel.clone());
        let response = client.issue(wire::IssueRequest { requests }).await?;
        let results = response.into_inner().results;
        Ok(results.into_iter().map(|one| one.result.unwrap()).collect())
    }

    /// One SVID for `id`.
    pub(super) async fn issue_one(
        &self,
        id: &identity::SpiffeId,
        key: &SigningKey,
    ) -> Result<wire::issue_result::Result, Status> {
        let request = wire::CertificateRequest {
            spiffe_id: id.to_string(),
            csr: create_csr(key),
        };
        Ok(self.issue(vec![request]).await?.remove(0))
    }

    pub(super) fn watch(&self) -> ConfigurationWatchClient<Channel> {
        ConfigurationWatchClient::new(self.channel.clone())
    }
}

pub(super) fn possession(key: &SigningKey, exporter: &[u8; 32]) -> wire::Possession {
    wire::Possession {
        public_key: key.public_key().spki().to_vec(),
        signature: key.sign(&statement(b"countersign-attest-v1\0", exporter, key)),
    }
}

pub(super) fn statement(prefix: &[u8], exporter: &[u8; 32], new_key: &SigningKey) -> Vec<u8> {
    let digest = Sha256::of(new_key.public_key().spki());
    [prefix, exporter, digest.as_bytes()].concat()
}

/// Asserts a refusal's status and stable code.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, reason: &str) {
    let status = result.unwrap_err();
    let found = status
        .metadata()
        .get(REASON)
        .map(|value| value.to_str().unwrap());
    assert_eq!((status.code(), found), (code, Some(reason)), "{status}");
}

/// The chain of an SVID that was issued.
#[track_caller]
pub(super) fn chain_of(result: wire::issue_result::Result) -> Vec<Vec<u8>> {
    match result {
        wire::issue_result::Result::Svid(svid) => svid.chain,
        wire::issue_result::Result::Refusal(refusal) => panic!("refused: {refusal:?}"),
    }
}

/// The code with which one request of a batch was refused.
#[track_caller]
pub(super) fn code_of(result: wire::issue_result::Result) -> String {
    match result {
        wire::issue_result::Result::Refusal(refusal) => refusal.code,
        wire::issue_result::Result::Svid(svid) => panic!("issued: {}", svid.spiffe_id),
    }
}
