//! `[listen]`, `[advertise]` and `[web]`: which sockets there are, under which names others reach
//! them, and with which certificate the web listener answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use identity::join_token::CaAddress;
use serde::Deserialize;

use super::BrokenRule;

/// Sockets of this process.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenConfig {
    /// REST and the bundle, HTTPS.
    pub web: SocketAddr,
    /// Agents and machines, gRPC over TLS 1.3.
    pub agents: SocketAddr,
    /// Metrics in plain HTTP; loopback only. None, if left out.
    pub metrics: Option<SocketAddr>,
    /// Status, log level and drain, for this uid only. None, if left out.
    pub admin_socket: Option<PathBuf>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            web: (Ipv4Addr::LOCALHOST, 8443).into(),
            agents: (Ipv4Addr::LOCALHOST, 8444).into(),
            metrics: None,
            admin_socket: None,
        }
    }
}

impl ListenConfig {
    pub(super) fn check(&self) -> Result<(), BrokenRule> {
        match self.metrics {
            Some(address) if !address.ip().is_loopback() => Err(BrokenRule {
                key: "listen.metrics",
                message: format!(
                    "{address} is no loopback address, and metrics need no credential"
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Nobody can connect to `0.0.0.0`, so what others are told must be said.
    pub(super) fn check_named(&self, advertise: &AdvertiseConfig) -> Result<(), BrokenRule> {
        let unnamed = [
            ("advertise.web", self.web, advertise.web.is_none()),
            ("advertise.agents", self.agents, advertise.agents.is_empty()),
        ];
        let missing = unnamed
            .into_iter()
            .find(|(_, address, unnamed)| *unnamed && address.ip().is_unspecified());
        missing.map_or(Ok(()), |(key, address, _)| {
            Err(BrokenRule {
                key,
                message: format!(
                    "must say how others reach this replica, which listens on {address}"
                ),
            })
        })
    }

    pub(super) fn loopback() -> Self {
        let any_port = (Ipv4Addr::LOCALHOST, 0).into();
        Self {
            web: any_port,
            agents: any_port,
            metrics: None,
            admin_socket: None,
        }
    }
}

/// How others reach this replica; what is left out follows from `[listen]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdvertiseConfig {
    /// `https://host:8443`, written into the administrator's credential.
    pub web: Option<String>,
    /// `host:8444` of every replica, written into join tokens and told to agents.
    pub agents: Vec<CaAddress>,
}

impl AdvertiseConfig {
    /// Host names of the CA, which no workload may have in its certificate.
    pub(crate) fn dns_names(&self) -> Vec<String> {
        let web = self
            .web
            .as_ref()
            .and_then(|url| url.parse::<http::Uri>().ok());
        let web = web.and_then(|url| url.host().map(str::to_owned));
        let agents = self.agents.iter().map(CaAddress::host);
        agents
            .chain(web)
            .filter(|host| host.parse::<IpAddr>().is_err())
            .collect()
    }
}

/// The web listener's certificate: both files, or neither for one of our own CA.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebConfig {
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl WebConfig {
    pub(super) fn check(&self) -> Result<(), BrokenRule> {
        let (key, missing) = match (&self.certificate_file, &self.key_file) {
            (Some(_), None) => ("web.certificate_file", "key_file"),
            (None, Some(_)) => ("web.key_file", "certificate_file"),
            _ => return Ok(()),
        };
        Err(BrokenRule {
            key,
            message: format!("set without {missing}"),
        })
    }
}
