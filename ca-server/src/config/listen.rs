//! `[listen]`, `[advertise]` and `[web]`: which sockets there are, under which names others reach
//! them, and with which certificate the web listener answers.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

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
    pub(super) fn check(&self) -> Result<(), ListenError> {
        match self.metrics {
            Some(address) if !address.ip().is_loopback() => Err(ListenError(address)),
            _ => Ok(()),
        }
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
    pub agents: Vec<String>,
}

/// The web listener's certificate: both files, or neither for one of our own CA.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebConfig {
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// Metrics are public to whoever reaches them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("metrics = {0} is not a loopback address")]
pub struct ListenError(SocketAddr);

/// Half of a pair of files was named.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{present} is set without {missing}")]
pub struct WebError {
    present: &'static str,
    missing: &'static str,
}

impl WebConfig {
    pub(super) fn check(&self) -> Result<(), WebError> {
        match (&self.certificate_file, &self.key_file) {
            (Some(_), None) => Err(WebError {
                present: "certificate_file",
                missing: "key_file",
            }),
            (None, Some(_)) => Err(WebError {
                present: "key_file",
                missing: "certificate_file",
            }),
            _ => Ok(()),
        }
    }
}
