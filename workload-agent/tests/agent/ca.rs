//! The CA's side of the agent protocol, as small as it can be with real certificates and real TLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crypto::digest::Sha256;
use crypto::random::SystemRandom;
use crypto::signing::{PublicKey, SigningKey, verify_csr};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use identity::x509::{Authority, Bundle, BundleSet, LeafSpec, UnverifiedChain, X509Svid};
use identity::{JoinToken, SerialNumber, SpiffeId, TrustDomain, Validity};
use mtls::{Credentials, Publisher};
use proto::agent::v1::attestation_server::{Attestation, AttestationServer};
use proto::agent::v1::configuration_watch_server::{ConfigurationWatch, ConfigurationWatchServer};
use proto::agent::v1::issuance_server::{Issuance, IssuanceServer};
use proto::agent::v1::{self as wire, agent_message, ca_message, issue_result};
use proto::mesh::v1 as mesh;
use runtime::Clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::WatchStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::tls_stream::{Peer, TlsStream};

pub(crate) const AGENT: &str = "spiffe://mesh.example/countersign/agent/token/web-7";

/// What tests look at and change.
#[derive(Clone)]
pub(crate) struct Ca {
    shared: Arc<Shared>,
    /// As a replica whose clock is off does not.
    signs: bool,
}

struct Shared {
    clock: Clock,
    root: Authority,
    leaf_life: Mutex<Duration>,
    token: Mutex<Option<JoinToken>>,
    redeemed_by: Mutex<Option<Sha256>>,
    /// Served on every stream, whole, when it changes.
    snapshot: watch::Sender<wire::Snapshot>,
    heard: watch::Sender<Heard>,
    credentials: Credentials,
    _publisher: Publisher,
}

/// What the agent has said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) acknowledged: Option<u64>,
    pub(crate) subscriptions: Vec<String>,
    /// Those of the last `Hello`.
    pub(crate) first_subscriptions: Vec<String>,
    pub(crate) announced_for: Vec<String>,
    /// Workload and engine of each proxy.
    pub(crate) proxies: Vec<(String, u32)>,
    pub(crate) reattested: u32,
}

/// A CA that serves; dropping it closes every connection.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

fn trust_domain() -> TrustDomain {
    "mesh.example".parse().unwrap()
}

impl Ca {
    pub(crate) fn new(clock: Clock) -> Self {
        let now = clock.now();
        let validity = Validity::try_new(now - HOUR, now + HOUR * 1000).unwrap();
        let serial = SerialNumber::random(&mut SystemRandom);
        let key = SigningKey::generate();
        let root = Authority::new_root(&trust_domain(), &key, validity, serial).unwrap();
        let wall = clock.clone();
        let (publisher, credentials) = mtls::channel(move || wall.now());
        let shared = Shared {
            clock,
            leaf_life: Mutex::new(HOUR),
            token: Mutex::new(None),
            redeemed_by: Mutex::new(None),
            snapshot: watch::Sender::new(snapshot(1, &root)),
            heard: watch::Sender::default(),
            credentials,
            _publisher: publisher,
            root,
        };
        let ca = Self {
            shared: Arc::new(shared),
            signs: true,
        };
        ca.publish_serving_leaf(now);
        ca
    }

    fn publish_serving_leaf(&self, now: time::OffsetDateTime) {
        let key = SigningKey::generate();
        let id = "spiffe://mesh.example/countersign/ca/ca-1".parse().unwrap();
        let validity = Validity::try_new(now - MINUTE, now + HOUR * 900).unwrap();
        let chain = self.sign(id, key.public_key(), validity);
        let chain = chain.into_iter().map(Into::into).collect();
        let bundles = BundleSet::from(self.bundle());
        let verified = UnverifiedChain::from_der(chain)
            .unwrap()
            .verify(&bundles, now)
            .unwrap();
        let svid = X509Svid::try_new(verified, key).unwrap();
        self.shared._publisher.publish(svid, bundles).unwrap();
    }

    fn bundle(&self) -> Bundle {
        let root = self.shared.root.certificate().to_vec();
        Bundle::new(trust_domain(), 1, vec![root]).unwrap()
    }

    /// Another replica of the same CA, which signs nothing.
    pub(crate) fn refusing(&self) -> Self {
        Self {
            signs: false,
            ..self.clone()
        }
    }

    pub(crate) async fn serve(&self, port: u16) -> Serving {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let credentials = self.shared.credentials.clone();
        let incoming = futures_util::stream::unfold(listener, move |listener| {
            let credentials = credentials.clone();
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let config = credentials.optional_client_server_config(&[b"h2"]).unwrap();
                    if let Ok(tls) = mtls::accept::<TcpStream>(stream, config).await {
                        return Some((Ok::<_, std::io::Error>(TlsStream::new(tls)), listener));
                    }
                }
            }
        });
        let router = Server::builder()
            .add_service(AttestationServer::new(self.clone()))
            .add_service(IssuanceServer::new(self.clone()))
            .add_service(ConfigurationWatchServer::new(self.clone()));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { router.serve_with_incoming(incoming.boxed()).await.unwrap() });
        Serving {
            address,
            _tasks: tasks,
        }
    }

    pub(crate) fn token(&self, address: SocketAddr) -> JoinToken {
        self.token_for(&[address])
    }

    pub(crate) fn token_for(&self, addresses: &[SocketAddr]) -> JoinToken {
        let addresses = addresses.iter().map(|it| it.to_string().parse().unwrap());
        let root = Sha256::of(self.shared.root.certificate());
        let token = JoinToken::generate(
            "t1",
            trust_domain(),
            addresses.collect(),
            vec![root],
            &mut SystemRandom,
        );
        let token = token.unwrap();
        *self.shared.token.lock().unwrap() = Some(token.clone());
        token
    }

    /// The next agent finds the token bound to another key.
    pub(crate) fn redeem_elsewhere(&self) {
        *self.shared.redeemed_by.lock().unwrap() = Some(Sha256::of(b"another key"));
    }

    pub(crate) fn leaves_live(&self, life: Duration) {
        *self.shared.leaf_life.lock().unwrap() = life;
    }

    pub(crate) fn configure(&self, change: impl FnOnce(&mut wire::Snapshot)) {
        self.shared.snapshot.send_modify(change);
    }

    pub(crate) fn heard(&self) -> watch::Receiver<Heard> {
        self.shared.heard.subscribe()
    }

    fn issue(&self, id: SpiffeId, key: &PublicKey) -> wire::Svid {
        let now = self.shared.clock.now();
        let life = *self.shared.leaf_life.lock().unwrap();
        let validity = Validity::try_new(now - MINUTE, now + life).unwrap();
        wire::Svid {
            spiffe_id: id.to_string(),
            chain: self.sign(id, key, validity),
        }
    }

    fn sign(&self, spiffe_id: SpiffeId, key: &PublicKey, validity: Validity) -> Vec<Vec<u8>> {
        let spec = LeafSpec {
            spiffe_id,
            public_key: *key,
            validity,
            serial: SerialNumber::random(&mut SystemRandom),
            dns_names: Vec::new(),
        };
        vec![self.shared.root.issue(&spec).unwrap().certificate.to_vec()]
    }

    fn admit(&self, key: &PublicKey) -> Response<wire::AttestResponse> {
        Response::new(wire::AttestResponse {
            svid: Some(self.issue(AGENT.parse().unwrap(), key)),
            bundle: self.shared.snapshot.borrow().bundle.clone(),
            ca_time_unix_ms: 0,
            recovery_key: Vec::new(),
        })
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn snapshot(number: u64, root: &Authority) -> wire::Snapshot {
    let uid = nix::unistd::geteuid().as_raw();
    wire::Snapshot {
        configuration: Some(mesh::Configuration {
            revision: Some(mesh::Revision { epoch: 1, number }),
            engine_version: 1,
            id_template: "/ns/{namespace}/sa/{name}".to_owned(),
            ..mesh::Configuration::default()
        }),
        identities: vec![wire::AssignedIdentity {
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
            spiffe_id: "spiffe://mesh.example/ns/shop/sa/orders".to_owned(),
            unix: Some(wire::UnixSelectors {
                uid: Some(uid),
                ..wire::UnixSelectors::default()
            }),
            ttl_seconds: 3600,
            hint: "orders".to_owned(),
            selectors: None,
        }],
        bundle: Some(mesh::Bundle {
            trust_domain: "mesh.example".to_owned(),
            sequence: 1,
            x509_authorities: vec![root.certificate().to_vec()],
            ..mesh::Bundle::default()
        }),
        endpoints: Vec::new(),
    }
}

/// The key, if its holder signed for this connection.
fn proven(possession: Option<wire::Possession>, peer: &Peer) -> Result<PublicKey, Status> {
    let possession = possession.unwrap();
    let key = PublicKey::from_spki(&possession.public_key).unwrap();
    let digest = Sha256::of(key.spki());
    let prefix: &[u8] = b"countersign-attest-v1\0";
    let signed = [prefix, &peer.exporter, digest.as_bytes()].concat();
    key.verify(&signed, &possession.signature)
        .map_err(|_| Status::permission_denied("possession"))?;
    Ok(key)
}

fn peer<T>(request: &Request<T>) -> Peer {
    request.extensions().get::<Peer>().unwrap().clone()
}

#[tonic::async_trait]
impl Attestation for Ca {
    async fn attest(
        &self,
        request: Request<wire::AttestRequest>,
    ) -> Result<Response<wire::AttestResponse>, Status> {
        let peer = peer(&request);
        let request = request.into_inner();
        let key = proven(request.possession, &peer)?;
        let Some(wire::attest_request::Evidence::JoinToken(sent)) = request.evidence else {
            return Err(Status::invalid_argument("evidence"));
        };
        let token = self.shared.token.lock().unwrap().clone();
        if token.is_none_or(|token| token.secret().as_slice() != sent.secret) {
            return Err(Status::permission_denied("no such token"));
        }
        let mut redeemed_by = self.shared.redeemed_by.lock().unwrap();
        if *redeemed_by.get_or_insert(key.fingerprint()) != key.fingerprint() {
            return Err(Status::permission_denied(
                "the token was used by another key",
            ));
        }
        drop(redeemed_by);
        Ok(self.admit(&key))
    }

    async fn recover(
        &self,
        _request: Request<wire::RecoverRequest>,
    ) -> Result<Response<wire::RecoverResponse>, Status> {
        Ok(Response::new(wire::RecoverResponse::default()))
    }

    async fn reattest(
        &self,
        request: Request<wire::ReattestRequest>,
    ) -> Result<Response<wire::AttestResponse>, Status> {
        let peer = peer(&request);
        let request = request.into_inner();
        let key = proven(request.possession, &peer)?;
        let chain = request.expired_chain.into_iter().map(Into::into).collect();
        let chain = UnverifiedChain::from_der(chain).unwrap();
        let bundles = BundleSet::from(self.bundle());
        let expired = chain
            .verify_expired(&bundles, self.shared.clock.now(), HOUR * 24)
            .map_err(|error| Status::permission_denied(error.to_string()))?;
        let digest = Sha256::of(key.spki());
        let prefix: &[u8] = b"countersign-reattest-v1\0";
        let signed = [prefix, &peer.exporter, digest.as_bytes()].concat();
        expired
            .public_key()
            .verify(&signed, &request.expired_signature)
            .map_err(|_| Status::permission_denied("expired key"))?;
        self.shared.heard.send_modify(|heard| heard.reattested += 1);
        Ok(self.admit(&key))
    }
}

#[tonic::async_trait]
impl Issuance for Ca {
    async fn issue(
        &self,
        request: Request<wire::IssueRequest>,
    ) -> Result<Response<wire::IssueResponse>, Status> {
        if peer(&request).spiffe_id.as_deref() != Some(AGENT) {
            return Err(Status::unauthenticated("no agent's SVID"));
        }
        if !self.signs {
            let mut refusal = Status::unavailable("this replica's clock is off");
            let elsewhere = MetadataValue::from_static("elsewhere");
            refusal
                .metadata_mut()
                .insert("countersign-retry", elsewhere);
            return Err(refusal);
        }
        let result = |request: wire::CertificateRequest| {
            let key = verify_csr(&request.csr).unwrap();
            let svid = self.issue(request.spiffe_id.parse().unwrap(), &key);
            wire::IssueResult {
                result: Some(issue_result::Result::Svid(svid)),
            }
        };
        Ok(Response::new(wire::IssueResponse {
            results: request
                .into_inner()
                .requests
                .into_iter()
                .map(result)
                .collect(),
            ca_time_unix_ms: 0,
        }))
    }
}

#[tonic::async_trait]
impl ConfigurationWatch for Ca {
    type WatchStream = BoxStream<'static, Result<wire::CaMessage, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let greeting = ca_message::Message::Greeting(wire::Greeting {
            version: Some(mesh::PROTOCOL),
            ..wire::Greeting::default()
        });
        let snapshots =
            WatchStream::new(self.shared.snapshot.subscribe()).map(ca_message::Message::Snapshot);
        let shared = Arc::clone(&self.shared);
        let said = request.into_inner().filter_map(move |message| {
            let message = message.ok().and_then(|it| it.message);
            let answer = message.as_ref().and_then(confirmation);
            if let Some(message) = message {
                shared.heard.send_modify(|heard| heard.note(message));
            }
            std::future::ready(answer)
        });
        let messages = futures_util::stream::iter([greeting]).chain(snapshots);
        let messages = futures_util::stream::select(messages, said);
        Ok(Response::new(
            messages
                .map(|message| {
                    Ok(wire::CaMessage {
                        message: Some(message),
                    })
                })
                .boxed(),
        ))
    }
}

fn confirmation(message: &agent_message::Message) -> Option<ca_message::Message> {
    let agent_message::Message::Announcements(announced) = message else {
        return None;
    };
    Some(ca_message::Message::Announced(wire::Announced {
        sequence: announced.sequence,
    }))
}

impl Heard {
    fn note(&mut self, message: agent_message::Message) {
        match message {
            agent_message::Message::Acknowledge(ack) => {
                self.acknowledged = ack.revision.map(|revision| revision.number);
            }
            agent_message::Message::Subscriptions(list) => self.subscriptions = list.services,
            agent_message::Message::Announcements(list) => {
                let workloads: BTreeMap<String, ()> = list
                    .announcements
                    .into_iter()
                    .map(|entry| (entry.workload, ()))
                    .collect();
                self.announced_for = workloads.into_keys().collect();
            }
            agent_message::Message::Proxies(list) => {
                let proxies = list.proxies.into_iter();
                self.proxies = proxies.map(|it| (it.workload, it.engine_version)).collect();
            }
            agent_message::Message::Hello(hello) => {
                let asked = hello.subscriptions.unwrap_or_default();
                self.first_subscriptions = asked.services;
            }
            agent_message::Message::Report(_) | agent_message::Message::Sightings(_) => {}
        }
    }
}
