//! The proxy's configuration file (TOML).
//!
//! Unknown keys are refused. What can be wrong in itself is refused here, before a port is
//! bound: an outbound listener that is not on loopback, a duplicate local port, a limit of zero.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use identity::QualifiedName;
use policy::PortName;
use runtime::{ConfigError, TelemetryOptions};
use serde::{Deserialize, Deserializer};

use crate::service_port::ServicePort;

mod edges;
mod interception;
mod limits;
mod process;
mod telemetry;

pub use edges::{External, Gateway, InvalidNetwork, Network};
pub use interception::{Dns, Transparent};
pub use limits::Limits;
pub use process::{Demand, Drain, Sandbox, Takeover};
pub use telemetry::{Label, Metrics, Tracing};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The workload that this proxy stands in front of.
    pub workload: QualifiedName,
    /// The agent's mesh-feed socket. Left out where the feed is given in process.
    #[serde(default)]
    pub feed: Option<PathBuf>,
    #[serde(default)]
    pub proxy: Process,
    #[serde(default)]
    pub mesh: Mesh,
    #[serde(default)]
    pub outbound: Option<Outbound>,
    #[serde(default)]
    pub transparent: Transparent,
    #[serde(default)]
    pub dns: Option<Dns>,
    #[serde(default)]
    pub reach: Vec<Reach>,
    #[serde(default)]
    pub gateway: Option<Gateway>,
    #[serde(default)]
    pub external: External,
    #[serde(default)]
    pub listen: Listen,
    #[serde(default)]
    pub access_log: AccessLog,
    #[serde(default)]
    pub metrics: Metrics,
    #[serde(default)]
    pub tracing: Option<Tracing>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub drain: Drain,
    #[serde(default)]
    pub takeover: Takeover,
    #[serde(default)]
    pub sandbox: Sandbox,
    #[serde(default)]
    pub log: TelemetryOptions,
}

/// How much of the host the proxy uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Process {
    /// Threads that carry calls, each with connections of its own.
    pub workers: NonZeroUsize,
}

/// Where other proxies reach this workload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mesh {
    /// Bound by every mesh listener.
    pub address: IpAddr,
    /// What callers are told to connect to; `address` unless given.
    pub advertise: Option<String>,
    /// Where this proxy runs: calls stay in their zone while enough endpoints of it are left.
    pub zone: Option<String>,
    /// Fixed ports; any other listener takes a free one.
    pub ports: BTreeMap<ServicePort, u16>,
}

/// Where the workload itself calls the mesh.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// Loopback only: who listens elsewhere lends the workload's identity to the network.
    pub listen: SocketAddr,
    /// Who may call; the proxy's own uid unless given.
    #[serde(default)]
    pub allowed_uids: Option<BTreeSet<u32>>,
    /// The same listener on a Unix socket, where the kernel says who calls.
    #[serde(default)]
    pub unix_socket: Option<PathBuf>,
}

/// A local port in front of one TCP service.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    pub service: QualifiedName,
    #[serde(deserialize_with = "port_name")]
    pub port: PortName,
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Prometheus metrics; loopback only.
    pub metrics: Option<SocketAddr>,
    /// Says over HTTP whether the proxy is ready, and nothing else; on any address, since probes
    /// come from elsewhere.
    pub health: Option<SocketAddr>,
    pub admin_socket: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    pub format: AccessLogFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    #[default]
    Json,
    Text,
    Off,
}

/// More threads than this are a mistake.
const MOST_WORKERS: usize = 64;

/// A value that is wrong in itself.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    #[error("{address} is not a loopback address, and this port is for this host only")]
    NotLoopback {
        field: &'static str,
        address: SocketAddr,
    },
    #[error("{address} is used twice")]
    DuplicateListener {
        field: &'static str,
        address: SocketAddr,
    },
    #[error("port {port} differs from the first one, and one rule leads to both families")]
    OtherPort { field: &'static str, port: u16 },
    #[error("must not be zero")]
    ZeroLimit { field: &'static str },
    #[error("{workers} is more than {MOST_WORKERS}")]
    Workers { workers: NonZeroUsize },
    #[error("has 1 to 63 letters, digits, `-`, `_` or `.`")]
    Zone,
    #[error("lies between 1s and `longest_ttl`")]
    ShortestTtl,
    #[error("must not be zero: calls are counted in one series at least")]
    NoSeries,
    #[error("{rule}")]
    Tracing {
        field: &'static str,
        rule: &'static str,
    },
    #[error("is empty, so nobody could call; leave it out for the proxy's own uid")]
    NobodyMayCall,
    #[error("must be set, or listen.admin_socket, for a takeover")]
    NoTakeoverSocket,
    #[error("{} is not an absolute path", path.display())]
    NotAbsolute { field: &'static str, path: PathBuf },
    #[error("is missing, so the connections of nobody would be carried")]
    NobodyIsRedirected,
    #[error("port {port} is given to {first} and to {second}")]
    DuplicatePort {
        port: u16,
        first: ServicePort,
        second: ServicePort,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// If it cannot be read or parsed, has an unknown key, or a value that [`Config::check`]
    /// refuses.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = runtime::config::load(path)?;
        config
            .check()
            .map_err(|invalid| ConfigError::inconsistent(path, invalid.key(), &invalid))?;
        Ok(config)
    }

    /// A sidecar for `workload` with every default: no outbound listener, nothing but the mesh.
    pub fn for_workload(workload: QualifiedName) -> Self {
        Self {
            workload,
            feed: None,
            proxy: Process::default(),
            mesh: Mesh::default(),
            outbound: None,
            transparent: Transparent::default(),
            dns: None,
            reach: Vec::new(),
            gateway: None,
            external: External::default(),
            listen: Listen::default(),
            access_log: AccessLog::default(),
            metrics: Metrics::default(),
            tracing: None,
            limits: Limits::default(),
            drain: Drain::default(),
            takeover: Takeover::default(),
            sandbox: Sandbox::default(),
            log: TelemetryOptions::default(),
        }
    }

    /// Where a successor asks for the sockets: unless configured beside the admin socket, and named
    /// after it, since proxies may share a directory.
    pub fn takeover_socket(&self) -> Option<PathBuf> {
        let beside = || {
            let admin = self.listen.admin_socket.as_ref()?;
            Some(admin.with_extension("takeover.sock"))
        };
        self.takeover.socket.clone().or_else(beside)
    }

    /// # Errors
    /// The first value that is wrong in itself.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        self.check_listeners()?;
        self.check_ports()?;
        if !self.mesh.zone.as_deref().is_none_or(is_zone) {
            return Err(InvalidConfig::Zone);
        }
        let workers = self.proxy.workers;
        if workers.get() > MOST_WORKERS {
            return Err(InvalidConfig::Workers { workers });
        }
        self.transparent.check()?;
        if !self.transparent.outbound.is_empty() && self.allowed_uids().is_none() {
            return Err(InvalidConfig::NobodyIsRedirected);
        }
        if let Some(dns) = &self.dns {
            dns.check()?;
        }
        if let Some(gateway) = &self.gateway {
            gateway.check()?;
        }
        self.external.check()?;
        if let Some(outbound) = &self.outbound
            && outbound
                .allowed_uids
                .as_ref()
                .is_some_and(BTreeSet::is_empty)
        {
            return Err(InvalidConfig::NobodyMayCall);
        }
        if self.metrics.series == 0 {
            return Err(InvalidConfig::NoSeries);
        }
        if let Some(tracing) = &self.tracing {
            tracing.check()?;
        }
        self.limits.check()
    }

    /// Who may call through this proxy; none if the configuration names nobody.
    pub(crate) fn allowed_uids(&self) -> Option<BTreeSet<u32>> {
        let outbound = self.outbound.as_ref();
        let mut allowed = outbound.and_then(|it| it.allowed_uids.clone());
        if !self.transparent.allowed_uids.is_empty() {
            let transparent = &self.transparent.allowed_uids;
            allowed.get_or_insert_default().extend(transparent);
        }
        allowed
    }

    fn check_listeners(&self) -> Result<(), InvalidConfig> {
        let outbound = self
            .outbound
            .iter()
            .map(|it| ("outbound.listen", it.listen));
        let reach = self.reach.iter().map(|it| ("reach.listen", it.listen));
        let metrics = self.listen.metrics.map(|it| ("listen.metrics", it));
        let mut seen = BTreeSet::new();
        for (field, address) in outbound.chain(reach).chain(metrics) {
            if !address.ip().is_loopback() {
                return Err(InvalidConfig::NotLoopback { field, address });
            }
            if address.port() != 0 && !seen.insert(address) {
                return Err(InvalidConfig::DuplicateListener { field, address });
            }
        }
        Ok(())
    }

    fn check_ports(&self) -> Result<(), InvalidConfig> {
        let mut seen: BTreeMap<u16, &ServicePort> = BTreeMap::new();
        for (name, port) in self.mesh.ports.iter().filter(|(_, port)| **port != 0) {
            if let Some(first) = seen.insert(*port, name) {
                return Err(InvalidConfig::DuplicatePort {
                    port: *port,
                    first: first.clone(),
                    second: name.clone(),
                });
            }
        }
        Ok(())
    }
}

impl InvalidConfig {
    fn key(&self) -> String {
        match self {
            Self::NotLoopback { field, .. }
            | Self::DuplicateListener { field, .. }
            | Self::NotAbsolute { field, .. }
            | Self::OtherPort { field, .. } => (*field).to_owned(),
            Self::ZeroLimit { field } => format!("limits.{field}"),
            Self::Tracing { field, .. } => format!("tracing.{field}"),
            Self::Zone => "mesh.zone".to_owned(),
            Self::ShortestTtl => "dns.shortest_ttl".to_owned(),
            Self::NoSeries => "metrics.series".to_owned(),
            Self::Workers { .. } => "proxy.workers".to_owned(),
            Self::NobodyIsRedirected => "transparent.allowed_uids".to_owned(),
            Self::NobodyMayCall => "outbound.allowed_uids".to_owned(),
            Self::NoTakeoverSocket => "takeover.socket".to_owned(),
            Self::DuplicatePort { .. } => "mesh.ports".to_owned(),
        }
    }
}

impl Default for Process {
    fn default() -> Self {
        Self {
            workers: NonZeroUsize::MIN,
        }
    }
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertise: None,
            zone: None,
            ports: BTreeMap::new(),
        }
    }
}

/// As an endpoint of a Service states it.
fn is_zone(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=63).contains(&text.len()) && text.bytes().all(letter)
}

fn port_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PortName, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        runtime::config::parse("proxy.toml", &format!("workload = \"shop/orders\"\n{text}"))
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let invalid = parse(text).unwrap().check().unwrap_err();
        assert_eq!(invalid.key(), expected);
    }

    #[test]
    fn an_unknown_key_is_refused_and_the_nearest_named() {
        let error = parse("[outbond]\nlisten = \"127.0.0.1:0\"").unwrap_err();
        assert!(
            error.to_string().contains("did you mean `outbound`?"),
            "{error}"
        );
    }

    #[test]
    fn local_ports_are_on_loopback_only() {
        refused("[outbound]\nlisten = \"0.0.0.0:15001\"", "outbound.listen");
        let reach = "[[reach]]\nservice = \"data/db\"\nport = \"pg\"\nlisten = \"10.0.0.1:5432\"";
        refused(reach, "reach.listen");
        refused("[listen]\nmetrics = \"0.0.0.0:9090\"", "listen.metrics");
    }

    #[test]
    fn one_kind_of_interception_is_on_one_port_and_for_this_host() {
        let outbound = "[transparent]\noutbound = [\"127.0.0.1:15001\", \"[::1]:15002\"]";
        refused(outbound, "transparent.outbound");
        refused(
            "[transparent]\noutbound = [\"0.0.0.0:15001\"]",
            "transparent.outbound",
        );
        refused("[dns]\nlisten = [\"10.0.0.1:53\"]", "dns.listen");
    }

    #[test]
    fn a_listener_that_nobody_may_use_is_refused() {
        let outbound = "[outbound]\nlisten = \"127.0.0.1:0\"\nallowed_uids = []";
        refused(outbound, "outbound.allowed_uids");
    }

    #[test]
    fn limits_of_zero_are_refused() {
        refused("[limits]\nstreams = 0", "limits.streams");
        refused("[limits]\nidle = \"0s\"", "limits.idle");
        refused("[metrics]\nseries = 0", "metrics.series");
    }

    #[test]
    fn spans_do_not_leave_this_host_in_the_clear_by_accident() {
        refused(
            "[tracing]\nendpoint = \"http://10.0.0.9:4317\"",
            "tracing.endpoint",
        );
        let relative = "[tracing]\nendpoint = \"https://[::1]:4317\"\nroots = \"roots.pem\"";
        refused(relative, "tracing.roots");
        let meant = "[tracing]\nendpoint = \"http://10.0.0.9:4317\"\ndanger_cleartext = true";
        parse(meant).unwrap().check().unwrap();
        let local = "[tracing]\nendpoint = \"http://[::1]:4317\"\nratio = 1.5";
        refused(local, "tracing.ratio");
    }

    #[test]
    fn a_zone_that_no_endpoint_could_have_is_refused() {
        refused("[mesh]\nzone = \"\"", "mesh.zone");
        refused("[mesh]\nzone = \"a b\"", "mesh.zone");
    }

    #[test]
    fn an_answer_that_is_believed_for_no_time_is_refused() {
        refused("[dns]\nshortest_ttl = \"0s\"", "dns.shortest_ttl");
        refused("[dns]\nlongest_ttl = \"2s\"", "dns.shortest_ttl");
    }

    #[test]
    fn a_number_of_workers_out_of_range_is_refused() {
        refused("[proxy]\nworkers = 65", "proxy.workers");
        assert!(parse("[proxy]\nworkers = 0").is_err());
    }

    #[test]
    fn one_port_for_two_mesh_listeners_is_refused() {
        let ports = "[mesh.ports]\n\"shop/orders:http\" = 31006\n\"shop/orders:grpc\" = 31006";
        refused(ports, "mesh.ports");
    }

    #[test]
    fn the_example_of_the_documentation_is_accepted() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/proxy.toml");
        let config = Config::load(&path).unwrap();
        assert_eq!(config.workload.to_string(), "shop/orders");
    }
}
