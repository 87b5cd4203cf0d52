//! A mesh of proxies in this process: real certificates, real policy, no CA.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign_proxy::config::{AccessLogFormat, Outbound, Reach};
use countersign_proxy::{CallRecord, Config, FeedSource, Proxy};
use crypto::random::SystemRandom;
use crypto::signing::SigningKey;
use identity::x509::{Authority, Bundle, BundleSet, LeafSpec, UnverifiedChain, X509Svid};
use identity::{SerialNumber, SpiffeId, TrustDomain, Validity};
use mtls::{Credentials, Publisher};
use proto::mesh::v1;
use runtime::{Clock, ClockControl};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::feed::Agent;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
const LIFE: Duration = Duration::from_secs(3600);

/// Signs what the CA would.
#[derive(Debug)]
pub(crate) struct Issuer {
    trust_domain: TrustDomain,
    authority: Authority,
    clock: Clock,
}

pub(crate) struct Mesh {
    pub(crate) agent: Agent,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) clock: Clock,
    pub(crate) time: ClockControl,
    directory: TempDir,
    _tasks: JoinSet<()>,
}

/// A proxy, and what it recorded.
pub(crate) struct Sidecar {
    pub(crate) proxy: Proxy,
    pub(crate) calls: broadcast::Receiver<Arc<CallRecord>>,
}

impl Issuer {
    pub(crate) fn id(&self, workload: &str) -> SpiffeId {
        let (namespace, name) = workload.split_once('/').unwrap();
        let path = format!("/ns/{namespace}/sa/{name}");
        SpiffeId::new(&self.trust_domain, &path).unwrap()
    }

    fn issue(&self, workload: &str) -> (Vec<u8>, SigningKey) {
        let now = self.clock.now();
        let key = SigningKey::generate();
        let leaf = self.authority.issue(&LeafSpec {
            spiffe_id: self.id(workload),
            public_key: *key.public_key(),
            validity: Validity::try_new(now - LIFE / 60, now + LIFE).unwrap(),
            serial: SerialNumber::random(&mut SystemRandom),
            dns_names: Vec::new(),
        });
        (leaf.unwrap().certificate.to_vec(), key)
    }

    fn bundle(&self) -> Bundle {
        let root = self.authority.certificate().to_vec();
        Bundle::new(self.trust_domain.clone(), 1, vec![root]).unwrap()
    }

    /// As the feed carries them.
    pub(crate) fn message(&self, workload: &str) -> v1::Credentials {
        let (leaf, key) = self.issue(workload);
        v1::Credentials {
            spiffe_id: self.id(workload).to_string(),
            chain: vec![leaf],
            key: key.to_pkcs8().to_vec(),
            bundles: vec![v1::Bundle {
                trust_domain: self.trust_domain.to_string(),
                sequence: 1,
                x509_authorities: vec![self.authority.certificate().to_vec()],
                ..Default::default()
            }],
        }
    }

    /// For a peer that is not a proxy of ours.
    pub(crate) fn credentials(&self, workload: &str) -> (Publisher, Credentials) {
        let clock = self.clock.clone();
        let (publisher, credentials) = mtls::channel(move || clock.now());
        let (leaf, key) = self.issue(workload);
        let bundles = BundleSet::from(self.bundle());
        let chain = UnverifiedChain::from_concatenated_der(&leaf).unwrap();
        let verified = chain.verify(&bundles, self.clock.now()).unwrap();
        let svid = X509Svid::try_new(verified, key).unwrap();
        publisher.publish(svid, bundles).unwrap();
        (publisher, credentials)
    }
}

impl Mesh {
    pub(crate) fn start(objects: &str) -> Self {
        let (clock, time) = Clock::adjustable();
        let trust_domain: TrustDomain = "test.example".parse().unwrap();
        let now = clock.now();
        let validity = Validity::try_new(now - LIFE, now + LIFE * 1000).unwrap();
        let authority = Authority::new_root(
            &trust_domain,
            SigningKey::generate(),
            validity,
            SerialNumber::random(&mut SystemRandom),
        );
        let issuer = Arc::new(Issuer {
            trust_domain,
            authority: authority.unwrap(),
            clock: clock.clone(),
        });
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("feed.sock")).unwrap();
        let agent = Agent::new(Arc::clone(&issuer));
        let mut tasks = JoinSet::new();
        tasks.spawn(agent.clone().serve(listener));
        let mesh = Self {
            agent,
            issuer,
            clock,
            time,
            directory,
            _tasks: tasks,
        };
        mesh.set_objects(objects);
        mesh
    }

    /// Replaces the configuration. Returns its revision number.
    pub(crate) fn set_objects(&self, yaml: &str) -> u64 {
        let objects = policy::parse_documents(yaml).unwrap();
        let services = objects.iter().filter_map(|object| match object {
            policy::Resource::Service(service) => Some(service.name.to_string()),
            _ => None,
        });
        let services = services.collect();
        let objects = objects.iter().map(|it| it.to_json().to_string()).collect();
        self.change(|world| {
            world.objects = objects;
            world.services = services;
            world.engine_version = policy::ENGINE_VERSION;
        })
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut crate::feed::World)) -> u64 {
        let mut number = 0;
        self.agent.world.send_modify(|world| {
            change(world);
            world.number += 1;
            number = world.number;
        });
        number
    }

    /// Waits until a workload's proxy has applied a revision.
    pub(crate) async fn applied(&self, workload: &str, number: u64) {
        let mut applied = self.agent.applied.subscribe();
        let reached = applied.wait_for(|all| all.get(workload).is_some_and(|it| *it >= number));
        drop(
            timeout(DEADLINE, reached)
                .await
                .expect("applied in time")
                .unwrap(),
        );
    }

    pub(crate) fn serves(&self, workload: &str, port: &str, address: SocketAddr) {
        let (target, port) = port.split_once(':').unwrap();
        let (namespace, service) = target.split_once('/').unwrap();
        let application = v1::ApplicationAddress {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            port: port.to_owned(),
            address: address.to_string(),
        };
        self.agent.world.send_modify(|world| {
            world
                .applications
                .entry(workload.to_owned())
                .or_default()
                .push(application);
        });
    }

    pub(crate) fn config(&self, workload: &str) -> Config {
        let mut config = Config::for_workload(workload.parse().unwrap());
        config.access_log.format = AccessLogFormat::Off;
        config.outbound = Some(Outbound {
            listen: "127.0.0.1:0".parse().unwrap(),
            allowed_uids: None,
            unix_socket: None,
        });
        config
    }

    pub(crate) async fn sidecar(&self, workload: &str) -> Sidecar {
        self.sidecar_with(self.config(workload)).await
    }

    pub(crate) async fn sidecar_reaching(&self, workload: &str, target: &str) -> Sidecar {
        let (service, port) = target.split_once(':').unwrap();
        let mut config = self.config(workload);
        config.reach.push(Reach {
            service: service.parse().unwrap(),
            port: port.parse().unwrap(),
            listen: "127.0.0.1:0".parse().unwrap(),
        });
        self.sidecar_with(config).await
    }

    pub(crate) async fn sidecar_with(&self, config: Config) -> Sidecar {
        let feed = FeedSource::Socket(self.directory.path().join("feed.sock"));
        let proxy = Proxy::start(config, feed, self.clock.clone())
            .await
            .unwrap();
        timeout(DEADLINE, proxy.ready())
            .await
            .expect("ready in time");
        Sidecar {
            calls: proxy.calls(),
            proxy,
        }
    }
}

impl Sidecar {
    pub(crate) fn outbound(&self) -> SocketAddr {
        self.proxy.outbound_address().unwrap()
    }

    pub(crate) fn mesh(&self, target: &str) -> SocketAddr {
        let addresses: BTreeMap<String, SocketAddr> = self
            .proxy
            .mesh_addresses()
            .into_iter()
            .map(|(name, address)| (name.to_string(), address))
            .collect();
        addresses[target]
    }

    /// The record of the next call that ended.
    pub(crate) async fn record(&mut self) -> CallRecord {
        timeout(DEADLINE, self.calls.recv())
            .await
            .expect("a record in time")
            .map(Arc::unwrap_or_clone)
            .unwrap()
    }
}
