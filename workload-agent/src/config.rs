//! The agent's configuration file.
//!
//! Invariant: a `Config` that `validate` has passed can be started without asking the file again.
//! Refused: unknown keys, a proxy map that serves nothing, names that do not parse, two sockets
//! on one path.

mod join;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use identity::join_token::CaAddress;
use identity::{QualifiedName, TrustDomain};
use runtime::TelemetryOptions;
use serde::Deserialize;

pub use join::{HostCertificate, IssuersToken, Join, RootDigest};

/// Everything an agent is told locally. The rest comes from the CA.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Holds the sealed cache and its key; made with mode 0700.
    pub state_dir: PathBuf,
    #[serde(default)]
    pub ca: Ca,
    #[serde(default)]
    pub join: Join,
    pub workload_api: WorkloadApi,
    /// Absent: no proxy is served over a path (in-process feeds remain possible).
    pub feed: Option<Feed>,
    /// Which program, by uid and executable, may be the proxy of which workloads.
    #[serde(default)]
    pub proxies: Vec<ProxyEntry>,
    /// Overrides, on this host, of where a Service's application listens.
    #[serde(default)]
    pub applications: Vec<Application>,
    #[serde(default)]
    pub cache: Cache,
    #[serde(default)]
    pub listen: Listen,
    #[serde(default)]
    pub log: TelemetryOptions,
}

/// Where the CA's agent listeners are, and by what the CA is known.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ca {
    /// Empty: those that the join token names, or that the CA last announced.
    #[serde(default)]
    pub addresses: Vec<CaAddress>,
    /// A join token names it; without one it must be said.
    pub trust_domain: Option<TrustDomain>,
    /// Roots that are believed until a bundle is held: a join token names them; without one they
    /// must be said.
    #[serde(default)]
    pub root_sha256: Vec<RootDigest>,
}

/// The SPIFFE Workload API's socket.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadApi {
    pub socket: PathBuf,
    /// Only processes registered with [`crate::Agent::spawned`], and their descendants, are
    /// workloads: for one uid that runs several programs.
    #[serde(default)]
    pub spawned_only: bool,
}

/// The mesh feed's socket, for proxies.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    pub socket: PathBuf,
    /// Group that owns the socket (mode 0660), by name. Absent: the agent's own.
    pub group: Option<String>,
}

/// A local program that may be the proxy of some workloads.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyEntry {
    pub uid: u32,
    /// Absolute path of its executable; only narrows the uid.
    pub path: Option<PathBuf>,
    pub workloads: Vec<QualifiedName>,
}

/// Where an application listens on this host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    pub service: QualifiedName,
    pub port: String,
    /// `host:port`.
    pub address: String,
}

/// What keeps the agent's credentials across restarts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// A 0600 file with the sealing key. Absent: `cache.key` in the state directory.
    pub key_file: Option<PathBuf>,
}

/// Listeners for the host's operator.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Prometheus metrics; loopback only.
    pub metrics: Option<SocketAddr>,
    /// Status, log level and drain; absent: `admin.sock` in the state directory.
    pub admin_socket: Option<PathBuf>,
}

/// Why a configuration cannot be started.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigRefused {
    #[error("listen.metrics is {0}; metrics are served on a loopback address only")]
    MetricsNotLoopback(SocketAddr),
    #[error("[[proxies]] for uid {0} names no workload; list at least one in `workloads`")]
    ProxyWithoutWorkloads(u32),
    #[error("proxies.path `{0}` is not absolute")]
    RelativeProxyPath(String),
    #[error("[[proxies]] is set, and there is no [feed] socket for them to connect to")]
    ProxiesWithoutFeed,
    #[error("`{0}` is used for two sockets; give each one its own path")]
    SharedSocket(String),
    #[error("[join] names {0} and another way; an agent proves itself in one way")]
    TwoWaysToJoin(&'static str),
    #[error("[join.{method}] needs ca.{missing}: without a token the agent knows no CA")]
    UnknownCa {
        method: &'static str,
        missing: &'static str,
    },
    #[error("applications.address `{0}` is not `host:port`")]
    ApplicationAddress(String),
}

impl Config {
    /// An agent whose files are all under `dir`: token in `join-token`, sockets beside it, no feed
    /// socket, and only spawned processes as workloads. For `up`, `run` and tests.
    pub fn for_directory(dir: &Path) -> Self {
        Self {
            state_dir: dir.join("agent"),
            ca: Ca::default(),
            join: Join {
                token_file: Some(dir.join("join-token")),
                x509pop: None,
                jwt: None,
            },
            workload_api: WorkloadApi {
                socket: dir.join("workload.sock"),
                spawned_only: true,
            },
            feed: None,
            proxies: Vec::new(),
            applications: Vec::new(),
            cache: Cache::default(),
            listen: Listen::default(),
            log: TelemetryOptions::default(),
        }
    }

    /// The rules that need more than one field.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), ConfigRefused> {
        if let Some(metrics) = self.listen.metrics.filter(|a| !a.ip().is_loopback()) {
            return Err(ConfigRefused::MetricsNotLoopback(metrics));
        }
        self.join.validate(&self.ca)?;
        if !self.proxies.is_empty() && self.feed.is_none() {
            return Err(ConfigRefused::ProxiesWithoutFeed);
        }
        for proxy in &self.proxies {
            proxy.validate()?;
        }
        if let Some(bad) = self.applications.iter().find(|a| !is_host_port(&a.address)) {
            return Err(ConfigRefused::ApplicationAddress(bad.address.clone()));
        }
        self.distinct_sockets()
    }

    pub(crate) fn admin_socket(&self) -> PathBuf {
        let default = || self.state_dir.join("admin.sock");
        self.listen.admin_socket.clone().unwrap_or_else(default)
    }

    pub(crate) fn cache_key_file(&self) -> PathBuf {
        let default = || self.state_dir.join("cache.key");
        self.cache.key_file.clone().unwrap_or_else(default)
    }

    fn distinct_sockets(&self) -> Result<(), ConfigRefused> {
        let mut seen = BTreeSet::new();
        let sockets = [
            Some(self.workload_api.socket.clone()),
            self.feed.as_ref().map(|feed| feed.socket.clone()),
            Some(self.admin_socket()),
        ];
        for socket in sockets.into_iter().flatten() {
            let shown = socket.display().to_string();
            if !seen.insert(socket) {
                return Err(ConfigRefused::SharedSocket(shown));
            }
        }
        Ok(())
    }
}

impl ProxyEntry {
    fn validate(&self) -> Result<(), ConfigRefused> {
        if self.workloads.is_empty() {
            return Err(ConfigRefused::ProxyWithoutWorkloads(self.uid));
        }
        match &self.path {
            Some(path) if !path.is_absolute() => {
                Err(ConfigRefused::RelativeProxyPath(path.display().to_string()))
            }
            _ => Ok(()),
        }
    }
}

fn is_host_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, toml::de::Error> {
        toml::from_str(text)
    }

    const MINIMAL: &str = "state_dir = '/var/lib/agent'\n[workload_api]\nsocket = '/run/w.sock'\n";

    #[test]
    fn unknown_keys_are_refused() {
        let refused = parse(&format!("{MINIMAL}sockets = 1\n"));
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("unknown field `sockets`"), "{message}");
    }

    #[test]
    fn metrics_outside_loopback_are_refused() {
        let config = parse(&format!("{MINIMAL}[listen]\nmetrics = '0.0.0.0:9000'\n")).unwrap();
        let refused = config.validate().unwrap_err();
        assert_eq!(
            refused,
            ConfigRefused::MetricsNotLoopback("0.0.0.0:9000".parse().unwrap())
        );
    }

    #[test]
    fn proxies_without_a_feed_socket_are_refused() {
        let proxy = "[[proxies]]\nuid = 7\nworkloads = ['shop/orders']\n";
        let config = parse(&format!("{MINIMAL}{proxy}")).unwrap();
        assert_eq!(
            config.validate().unwrap_err(),
            ConfigRefused::ProxiesWithoutFeed
        );
    }

    #[test]
    fn a_proxy_that_serves_nothing_is_refused() {
        let rest = "[feed]\nsocket = '/run/f.sock'\n[[proxies]]\nuid = 7\nworkloads = []\n";
        let config = parse(&format!("{MINIMAL}{rest}")).unwrap();
        assert_eq!(
            config.validate().unwrap_err(),
            ConfigRefused::ProxyWithoutWorkloads(7)
        );
    }

    #[test]
    fn one_path_for_two_sockets_is_refused() {
        let config = parse(&format!("{MINIMAL}[feed]\nsocket = '/run/w.sock'\n")).unwrap();
        let refused = config.validate().unwrap_err();
        assert_eq!(
            refused,
            ConfigRefused::SharedSocket("/run/w.sock".to_owned())
        );
    }

    #[test]
    fn an_address_without_a_port_is_refused() {
        let refused = parse(&format!("{MINIMAL}[ca]\naddresses = ['ca.example']\n"));
        assert!(refused.unwrap_err().to_string().contains("addresses"));
    }

    const HOST: &str = "[join.x509pop]\ncertificate_file = '/h.pem'\nkey_file = '/h.key'\n";

    #[test]
    fn two_ways_to_join_are_refused() {
        let config = parse(&format!("{MINIMAL}[join]\ntoken_file = '/t'\n{HOST}")).unwrap();
        let refused = config.validate().unwrap_err();
        assert_eq!(refused, ConfigRefused::TwoWaysToJoin("x509pop"));
        let jwt = "[join.jwt]\ntoken_file = '/t'\n";
        let config = parse(&format!("{MINIMAL}{HOST}{jwt}")).unwrap();
        assert_eq!(config.validate().unwrap_err(), refused);
    }

    #[test]
    fn a_host_certificate_without_a_known_ca_is_refused() {
        let known = [
            ("addresses", ""),
            ("root_sha256", "addresses = ['ca.example:8444']\n"),
            (
                "trust_domain",
                concat!(
                    "addresses = ['ca.example:8444']\n",
                    "root_sha256 = ['",
                    "0000000000000000000000000000000000000000000000000000000000000000']\n"
                ),
            ),
        ];
        for (missing, ca) in known {
            let config = parse(&format!("{MINIMAL}[ca]\n{ca}{HOST}")).unwrap();
            let method = "x509pop";
            assert_eq!(
                config.validate(),
                Err(ConfigRefused::UnknownCa { method, missing })
            );
        }
    }

    #[test]
    fn the_example_is_accepted() {
        let example = include_str!("../../deploy/examples/agent.toml");
        let config = parse(example).unwrap();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.proxies[0].uid, 990);
    }

    #[test]
    fn a_directory_is_enough_for_a_whole_configuration() {
        let config = Config::for_directory(Path::new("/tmp/agent"));
        assert_eq!(config.validate(), Ok(()));
        assert!(config.workload_api.spawned_only);
    }
}
