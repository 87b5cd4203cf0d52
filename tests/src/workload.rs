//! A workload as a host would have it: an agent in its own directory, a proxy fed by it, and what
//! the workload itself would call with.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cli::admin::Client;
use identity::{QualifiedName, SpiffeId};
use nix::unistd::getuid;
use proxy::config::{AccessLogFormat, Dns, External, Gateway, Limits, Outbound, Reach, Tracing};
use proxy::{FeedSource, Proxy, ProxyStatus};
use runtime::Clock;
use serde_json::json;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use workload_agent::config::{Feed, ProxyEntry};
use workload_agent::{Agent, AgentStatus};

use crate::caller::Caller;
use crate::mesh::{DRAIN, trust_domain};
use crate::waiting::DEADLINE;

/// Where a workload joins: the CA's operator, and a directory for its agent.
#[derive(Clone, Debug)]
pub(crate) struct Home<'a> {
    pub(crate) admin: &'a Client,
    pub(crate) time: Clock,
    pub(crate) directory: &'a Path,
    /// The replica that the agent tries first; `None`: as its token says.
    pub(crate) replica: Option<SocketAddr>,
}

/// What a workload is to be before it runs.
#[derive(Debug)]
pub struct WorkloadBuilder<'a> {
    home: Home<'a>,
    name: QualifiedName,
    applications: BTreeMap<String, SocketAddr>,
    reach: Vec<Reach>,
    gateway: Option<Gateway>,
    external: External,
    any_process: bool,
    host: Option<String>,
    limits: Limits,
    tracing: Option<Tracing>,
    section: proxy::config::Mesh,
    names: Option<Dns>,
    sockets: Option<Sockets>,
}

/// Sockets of the agent outside its private directory.
#[derive(Debug)]
struct Sockets {
    directory: PathBuf,
    proxies: Vec<ProxyEntry>,
}

/// A running workload's agent and proxy.
#[derive(Debug)]
pub struct Workload {
    pub name: QualifiedName,
    pub spiffe_id: SpiffeId,
    pub agent: Agent,
    pub proxy: Proxy,
    pub agent_config: workload_agent::Config,
    pub proxy_config: proxy::Config,
}

impl<'a> WorkloadBuilder<'a> {
    pub(crate) fn new(home: Home<'a>, name: &str) -> Self {
        Self {
            home,
            name: name.parse().expect("namespace/name"),
            applications: BTreeMap::new(),
            reach: Vec::new(),
            gateway: None,
            external: External::default(),
            any_process: false,
            host: None,
            limits: Limits::default(),
            tracing: None,
            section: proxy::config::Mesh::default(),
            names: None,
            sockets: None,
        }
    }

    /// Another agent for the same workload, as on a second host.
    pub fn on(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    /// Of the proxy.
    pub fn limited(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where the proxy is, as `[mesh]` says it.
    pub fn meshed(mut self, section: proxy::config::Mesh) -> Self {
        self.section = section;
        self
    }

    /// Whom the proxy asks for names.
    pub fn naming(mut self, names: Option<Dns>) -> Self {
        self.names = names;
        self
    }

    /// Where the proxy sends spans.
    pub fn traced(mut self, tracing: Option<Tracing>) -> Self {
        self.tracing = tracing;
        self
    }

    /// The Workload API and a feed for programs of `uid`, in a directory that every user may
    /// enter.
    pub fn with_sockets_in(mut self, directory: &Path, uid: u32) -> Self {
        self.sockets = Some(Sockets {
            directory: directory.to_owned(),
            proxies: vec![ProxyEntry {
                uid,
                path: None,
                workloads: vec![self.name.clone()],
            }],
        });
        self
    }

    /// The application behind `port` of the service that has the workload's own name.
    pub fn serving(mut self, port: &str, application: SocketAddr) -> Self {
        self.applications.insert(port.to_owned(), application);
        self
    }

    /// A local port for a TCP service, as `namespace/service` and port name.
    pub fn reaching(mut self, service: &str, port: &str) -> Self {
        self.reach.push(Reach {
            service: service.parse().expect("namespace/name"),
            port: port.parse().expect("a port name"),
            listen: loopback(),
        });
        self
    }

    /// Opens its Gateways' listeners, with files of `folder`; the ports are free ones for the
    /// ports that are named.
    pub fn gateway(mut self, folder: &Path, ports: &[u16]) -> Self {
        self.gateway = Some(Gateway {
            certificates: folder.to_owned(),
            address: loopback().ip(),
            ports: ports.iter().map(|port| (*port, 0)).collect(),
        });
        self
    }

    /// What of this host its Externals may use.
    pub fn external(mut self, external: External) -> Self {
        self.external = external;
        self
    }

    /// Every process of this uid is the workload, as on a host with a uid for each.
    pub fn by_uid(mut self) -> Self {
        self.any_process = true;
        self
    }

    /// Registers the workload, joins its agent, and waits until its proxy can serve.
    pub async fn start(self) -> Workload {
        let agent_config = self.join().await;
        let agent = self.start_agent(&agent_config).await;
        let proxy_config = self.proxy_config();
        let feed = FeedSource::in_process(agent.feed_connector(&self.name));
        let proxy = start_proxy(&proxy_config, feed, self.home.time.clone()).await;
        let spiffe_id = spiffe_id(&self.name);
        Workload {
            name: self.name,
            spiffe_id,
            agent,
            proxy,
            agent_config,
            proxy_config,
        }
    }

    async fn start_agent(&self, config: &workload_agent::Config) -> Agent {
        Agent::start(config.clone(), self.home.time.clone())
            .await
            .expect("the agent starts")
    }

    /// Writes the registry entry, once; [`start`](Self::start) does it too.
    pub async fn register(&self) {
        let QualifiedName { namespace, name } = &self.name;
        let workload = json!({
            "apiVersion": "countersign.dev/v1",
            "kind": "Workload",
            "metadata": {"namespace": namespace.as_str(), "name": name.as_str()},
            "spec": {"selectors": {"unix": {"uid": getuid().as_raw()}}},
        });
        let known = self
            .home
            .admin
            .get(&format!("/v1/workloads/{}", self.name))
            .await
            .is_ok();
        if !known {
            let changeset = json!({"reason": "test", "apply": [workload]});
            let written = self.home.admin.post("/v1/changesets", &changeset).await;
            written.expect("the workload is registered");
        }
    }

    /// The registry entry and the token; the directory that an agent starts from.
    pub async fn join(&self) -> workload_agent::Config {
        self.register().await;
        let agent = self.agent_name();
        let token = self.join_token(&agent).await;
        let directory = self.home.directory.join(&agent);
        runtime::files::private_directory(&directory).expect("a directory for the agent");
        let token_file = directory.join("join-token");
        runtime::files::write_private(&token_file, token.as_bytes()).expect("writable");
        let mut config = workload_agent::Config::for_directory(&directory);
        let replica = self.home.replica.into_iter();
        let replica = replica.map(|address| address.to_string().parse().expect("an address"));
        config.ca.addresses = replica.collect();
        config.workload_api.spawned_only = !self.any_process;
        config.applications = self.local_applications();
        if let Some(Sockets { directory, proxies }) = &self.sockets {
            config.workload_api.socket = directory.join("workload.sock");
            config.feed = Some(Feed {
                socket: directory.join("feed.sock"),
                group: None,
            });
            config.proxies.clone_from(proxies);
        }
        config
    }

    async fn join_token(&self, agent: &str) -> String {
        let request = json!({"agent": agent, "workloads": [self.name.to_string()]});
        let answer = self.home.admin.post("/v1/join-tokens", &request).await;
        let token = &answer.expect("a token")["tokens"][0]["token"];
        token.as_str().expect("text").to_owned()
    }

    fn agent_name(&self) -> String {
        let QualifiedName { namespace, name } = &self.name;
        let host = self.host.iter().map(|host| format!("-{host}"));
        format!("{namespace}-{name}{}", host.collect::<String>())
    }

    fn local_applications(&self) -> Vec<workload_agent::config::Application> {
        let applications = self.applications.iter();
        let local = applications.map(|(port, address)| workload_agent::config::Application {
            service: self.name.clone(),
            port: port.clone(),
            address: address.to_string(),
        });
        local.collect()
    }

    fn proxy_config(&self) -> proxy::Config {
        let mut config = proxy::Config::for_workload(self.name.clone());
        let listen = loopback();
        config.outbound = Some(Outbound {
            listen,
            allowed_uids: None,
            unix_socket: None,
        });
        config.reach.clone_from(&self.reach);
        config.gateway.clone_from(&self.gateway);
        config.external.clone_from(&self.external);
        config.limits.clone_from(&self.limits);
        config.tracing.clone_from(&self.tracing);
        config.mesh.clone_from(&self.section);
        config.dns.clone_from(&self.names);
        config.listen.metrics = Some(loopback());
        let admin = self.home.directory.join(self.agent_name());
        config.listen.admin_socket = Some(admin.join("proxy.sock"));
        config.access_log.format = AccessLogFormat::Off;
        config
    }
}

impl Workload {
    /// A client of this workload, on a connection of its own.
    pub async fn caller(&self) -> Caller {
        Caller::connect(self.outbound()).await
    }

    pub fn outbound(&self) -> SocketAddr {
        self.proxy
            .outbound_address()
            .expect("an outbound listener was configured")
    }

    /// A client of this workload over HTTP/2 with prior knowledge.
    pub async fn h2_caller(&self) -> Caller {
        Caller::connect_h2(self.outbound()).await
    }

    /// The one local port of [`reaching`](WorkloadBuilder::reaching).
    pub fn reach(&self) -> SocketAddr {
        let addresses = self.proxy.reach_addresses();
        *addresses
            .values()
            .next()
            .expect("a local port was configured")
    }

    /// What its proxy counts, as a scraper gets it.
    pub async fn metrics(&self) -> String {
        let address = self.proxy.metrics_address();
        let address = address.expect("metrics are served");
        let mut stream = TcpStream::connect(address).await.expect("reachable");
        let request = b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    /// Where its proxy takes calls.
    pub fn mesh_listener(&self) -> SocketAddr {
        let addresses = self.proxy.mesh_addresses();
        *addresses.values().next().expect("a mesh listener")
    }

    /// Where its proxy listens for this port of its Gateways, once it does, with a certificate for
    /// each of so many hosts.
    pub async fn gateway(&self, port: u16, hosts: usize) -> SocketAddr {
        let mut status = self.proxy.status();
        let open = |status: &ProxyStatus| {
            let mut ports = status.gateways.iter();
            let found = ports.find(|it| it.port == port && it.hosts.len() == hosts);
            found.and_then(|it| it.address)
        };
        let opened = timeout(DEADLINE, status.wait_for(|it| open(it).is_some())).await;
        let opened = opened.expect("it opens in time");
        open(&opened.expect("the proxy lives")).expect("it is open")
    }

    /// What its proxy says of its Gateways once it says this.
    pub async fn problem(&self, text: &str) -> String {
        let mut status = self.proxy.status();
        let told = |status: &ProxyStatus| {
            let mut all = status.gateways.iter().flat_map(|it| &it.problems);
            all.find(|it| it.contains(text)).cloned()
        };
        let heard = timeout(DEADLINE, status.wait_for(|it| told(it).is_some())).await;
        let heard = heard.expect("it is told in time");
        told(&heard.expect("the proxy lives")).expect("it was told")
    }

    /// Returns once the workload's certificate was replaced so often.
    pub async fn renewals(&self, count: u64) {
        let enough = |status: &AgentStatus| {
            let held = status.identity(&self.spiffe_id);
            held.is_some_and(|held| held.renewals >= count)
        };
        let mut status = self.agent.status();
        let renewed = timeout(DEADLINE, status.wait_for(enough)).await;
        renewed
            .expect("it is renewed in time")
            .expect("the agent lives");
    }

    /// Of the certificate that it holds.
    pub fn serial(&self) -> String {
        let status = self.agent.status().borrow().clone();
        let held = status.identity(&self.spiffe_id);
        held.expect("it holds its identity").serial.to_string()
    }

    /// The end of the certificate that it holds.
    pub fn not_after(&self) -> OffsetDateTime {
        let status = self.agent.status().borrow().clone();
        let held = status.identity(&self.spiffe_id);
        held.expect("it holds its identity").not_after
    }

    /// A new proxy takes the place of the old one, which ends as by a crash.
    pub async fn replace_proxy(&mut self) {
        let feed = FeedSource::in_process(self.agent.feed_connector(&self.name));
        // Its place is taken for as long as the old one lives.
        self.proxy_config.listen.admin_socket = None;
        let fresh = start_proxy(&self.proxy_config, feed, Clock::system()).await;
        std::mem::replace(&mut self.proxy, fresh).kill().await;
    }

    pub fn workload_api(&self) -> PathBuf {
        self.agent.workload_api_socket().to_owned()
    }

    /// In order: the proxy, then the agent.
    pub async fn drain(self) {
        self.proxy.drain(DRAIN).await.expect("the proxy drains");
        self.agent.drain(DRAIN).await.expect("the agent drains");
    }
}

async fn start_proxy(config: &proxy::Config, feed: FeedSource, time: Clock) -> Proxy {
    let started = Proxy::start(config.clone(), feed, time).await;
    let proxy = started.expect("the proxy starts");
    let ready = timeout(DEADLINE, proxy.ready()).await;
    ready.expect("the proxy becomes ready in time");
    proxy
}

fn spiffe_id(name: &QualifiedName) -> SpiffeId {
    identity::IdTemplate::default().id(&trust_domain(), name)
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
