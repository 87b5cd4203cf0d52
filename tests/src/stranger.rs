//! An agent taken apart: every step of joining and issuance on its own, with whatever key, token
//! or request a test (or an attacker) wants to try.

use std::net::SocketAddr;
use std::time::Duration;

use crypto::digest::Sha256;
use crypto::signing::{SigningKey, create_csr};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use identity::JoinToken;
use identity::x509::{Bundle, BundleSet, UnverifiedChain, X509Svid};
use mtls::pinned::PinnedRoots;
use mtls::{ClientTls, ClientTlsConfig, Expected};
use proto::agent::v1::attest_request::Evidence;
use proto::agent::v1::attestation_client::AttestationClient;
use proto::agent::v1::configuration_watch_client::ConfigurationWatchClient;
use proto::agent::v1::issuance_client::IssuanceClient;
use proto::agent::v1::{
    AgentMessage, AttestRequest, AttestResponse, CaMessage, CertificateRequest, IssueRequest,
    IssueResult, JoinTokenEvidence, Possession, ReattestRequest, Svid, issue_result,
};
use proto::mesh::v1::PROTOCOL;
use runtime::Clock;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::{Code, Status, Streaming};
use tower::service_fn;

use crate::waiting::eventually;

/// As agents do.
const PING_EVERY: Duration = Duration::from_secs(30);
const EXPORTER: &str = "EXPORTER-countersign-attest";
const PROOF: &[u8] = b"countersign-attest-v1\0";
const RETURN_PROOF: &[u8] = b"countersign-reattest-v1\0";

/// A gRPC connection to the CA's agent listener, and what is known of its TLS session.
#[derive(Debug)]
pub struct Line {
    sender: http2::SendRequest<Body>,
    exporter: [u8; 32],
    authority: String,
    _connection: JoinSet<()>,
}

/// What an agent has once it has joined.
#[derive(Debug, Clone)]
pub struct Joined {
    pub svid: X509Svid,
    pub bundles: BundleSet,
}

impl Line {
    /// As one who has only the token's digests.
    pub async fn pinned(token: &JoinToken, clock: &Clock) -> Self {
        Self::pinned_at(address(token), token, clock).await
    }

    /// To another replica than the token's first.
    pub async fn pinned_at(agents: SocketAddr, token: &JoinToken, clock: &Clock) -> Self {
        let pins = PinnedRoots::new(token.trust_domain().clone(), token.roots().to_vec());
        let clock = clock.clone();
        let config = pins.client_config(&[b"h2"], move || clock.now());
        Self::open(agents, config).await
    }

    /// With the SVID of an agent, or of anybody.
    pub async fn mutual(agents: SocketAddr, joined: &Joined, clock: &Clock) -> Self {
        let clock = clock.clone();
        let (publisher, credentials) = mtls::channel(move || clock.now());
        let published = publisher.publish(joined.svid.clone(), joined.bundles.clone());
        published.expect("a valid SVID");
        let config = credentials.client_config(Expected::CaReplica, &[b"h2"]);
        Self::open(agents, config.expect("published")).await
    }

    /// One attempt, for a CA that may not be there.
    ///
    /// # Errors
    /// Where it fails.
    pub async fn try_open(agents: SocketAddr, config: &ClientTlsConfig) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(agents).await?;
        socket.set_nodelay(true)?;
        let tls = mtls::connect(socket, config.clone()).await?;
        Self::over(agents, tls).await
    }

    async fn open(agents: SocketAddr, config: ClientTlsConfig) -> Self {
        // Just after a leap in time the CA has its own certificate still to renew.
        let tls = eventually("the CA proves itself", || async {
            let socket = TcpStream::connect(agents).await.expect("the CA listens");
            socket.set_nodelay(true).expect("a TCP option");
            mtls::connect(socket, config.clone()).await.ok()
        });
        Self::over(agents, tls.await).await.expect("HTTP/2")
    }

    async fn over(agents: SocketAddr, tls: ClientTls<TcpStream>) -> anyhow::Result<Self> {
        let exporter = tls.export_keying_material(EXPORTER);
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY);
        let (sender, connection) = http.handshake(TokioIo::new(tls)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // What a broken connection means is seen by the call that it breaks.
            let _ended = connection.await;
        });
        Ok(Self {
            sender,
            exporter,
            authority: agents.to_string(),
            _connection: tasks,
        })
    }

    /// Opens the stream on which an agent is told what concerns it.
    ///
    /// # Errors
    /// When the CA refuses it.
    pub async fn watch(
        &self,
        said: mpsc::Receiver<AgentMessage>,
    ) -> Result<Streaming<CaMessage>, Status> {
        let mut client = ConfigurationWatchClient::with_origin(self.service(), self.origin());
        let answer = client.watch(ReceiverStream::new(said)).await?;
        Ok(answer.into_inner())
    }

    /// A proof for this connection that `key` is ours.
    pub fn possession(&self, key: &SigningKey) -> Possession {
        Possession {
            public_key: key.public_key().spki().to_vec(),
            signature: key.sign(&self.statement(PROOF, key)),
        }
    }

    fn statement(&self, prefix: &[u8], new_key: &SigningKey) -> Vec<u8> {
        let digest = Sha256::of(new_key.public_key().spki());
        [prefix, &self.exporter, digest.as_bytes()].concat()
    }

    /// Comes back with an SVID that has expired, for one of `key`.
    pub async fn reattest(
        &self,
        expired: &X509Svid,
        key: &SigningKey,
    ) -> Result<AttestResponse, Code> {
        let chain = expired.svid().chain().iter();
        let request = ReattestRequest {
            version: Some(PROTOCOL),
            possession: Some(self.possession(key)),
            expired_chain: chain.map(|certificate| certificate.to_vec()).collect(),
            expired_signature: expired.key().sign(&self.statement(RETURN_PROOF, key)),
        };
        let mut client = AttestationClient::with_origin(self.service(), self.origin());
        let answer = client.reattest(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| status.code())
    }

    pub async fn attest(
        &self,
        token: &JoinToken,
        possession: Possession,
    ) -> Result<AttestResponse, Code> {
        let evidence = JoinTokenEvidence {
            token_id: token.id().to_string(),
            secret: token.secret().to_vec(),
        };
        let request = AttestRequest {
            version: Some(PROTOCOL),
            possession: Some(possession),
            evidence: Some(Evidence::JoinToken(evidence)),
        };
        let mut client = AttestationClient::with_origin(self.service(), self.origin());
        let answer = client.attest(request).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| status.code())
    }

    /// Asks for one identity with the CSR as it is.
    pub async fn issue(&self, spiffe_id: &str, csr: Vec<u8>) -> Result<IssueResult, Code> {
        let request = CertificateRequest {
            spiffe_id: spiffe_id.to_owned(),
            csr,
        };
        let answer = self
            .send(vec![request])
            .await
            .map_err(|status| status.code());
        Ok(answer?.pop().expect("one result for one request"))
    }

    /// One call for all of them.
    ///
    /// # Errors
    /// When one of them is not issued.
    pub async fn issue_all(&self, requests: Vec<CertificateRequest>) -> anyhow::Result<()> {
        for result in self.send(requests).await? {
            let issued = matches!(result.result, Some(issue_result::Result::Svid(_)));
            anyhow::ensure!(issued, "refused: {result:?}");
        }
        Ok(())
    }

    async fn send(&self, requests: Vec<CertificateRequest>) -> Result<Vec<IssueResult>, Status> {
        let mut client = IssuanceClient::with_origin(self.service(), self.origin());
        let answer = client.issue(IssueRequest { requests }).await?;
        Ok(answer.into_inner().results)
    }

    fn service(
        &self,
    ) -> impl tower::Service<
        Request<Body>,
        Response = Response<hyper::body::Incoming>,
        Error = Status,
        Future: Send,
    > + Clone
    + use<> {
        let sender = self.sender.clone();
        service_fn(move |request: Request<Body>| {
            let mut sender = sender.clone();
            async move {
                let answer = sender.send_request(request).await;
                answer.map_err(|error| Status::unavailable(error.to_string()))
            }
        })
    }

    fn origin(&self) -> Uri {
        let builder = Uri::builder()
            .scheme("https")
            .authority(self.authority.as_str());
        builder
            .path_and_query(PathAndQuery::from_static("/"))
            .build()
            .expect("a valid URI")
    }
}

/// The first address that a token names.
pub fn address(token: &JoinToken) -> SocketAddr {
    token.addresses()[0]
        .to_string()
        .parse()
        .expect("a loopback address")
}

/// Joins with a token and a new key.
pub async fn join(token: &JoinToken, clock: &Clock) -> Joined {
    let key = SigningKey::generate();
    let line = Line::pinned(token, clock).await;
    let answer = line
        .attest(token, line.possession(&key))
        .await
        .expect("the token is good");
    joined(answer, key, clock)
}

/// What an answer to `Attest` is worth with the key that asked.
pub fn joined(answer: AttestResponse, key: SigningKey, clock: &Clock) -> Joined {
    let bundle = answer.bundle.expect("an answer has a bundle");
    let domain = bundle.trust_domain.parse().expect("a trust domain");
    let bundle = Bundle::new(domain, bundle.sequence, bundle.x509_authorities);
    let bundles = BundleSet::from(bundle.expect("a valid bundle"));
    let svid = answer.svid.expect("an answer has an SVID");
    Joined {
        svid: verified(svid, key, &bundles, clock),
        bundles,
    }
}

/// An SVID as the CA sent it, verified.
pub fn verified(svid: Svid, key: SigningKey, bundles: &BundleSet, clock: &Clock) -> X509Svid {
    let chain = svid.chain.into_iter().map(CertificateDer::from).collect();
    let chain = UnverifiedChain::from_der(chain).expect("a chain");
    let verified = chain.verify(bundles, clock.now()).expect("it verifies");
    X509Svid::try_new(verified, key).expect("the key fits")
}

/// A new key and a CSR for it.
pub fn key_and_csr() -> (SigningKey, Vec<u8>) {
    let key = SigningKey::generate();
    let csr = create_csr(&key);
    (key, csr)
}
