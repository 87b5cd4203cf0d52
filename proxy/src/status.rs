//! What the proxy says about itself: on the admin socket, to the agent, and to whoever started it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use identity::QualifiedName;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::sandbox::SandboxStatus;
use crate::service_port::ServicePort;

/// A snapshot of the proxy's state.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProxyStatus {
    pub workload: QualifiedName,
    /// The identity that mesh listeners present; none before the first credentials.
    pub spiffe_id: Option<String>,
    /// Of the leaf that is presented, lower-case hexadecimal.
    pub serial: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// The configuration that decisions are made by.
    pub revision: Option<String>,
    /// Credentials and policy are live, listeners are bound and announced.
    pub ready: bool,
    pub draining: bool,
    /// What the process has given up; none for a proxy inside another program.
    pub sandbox: Option<SandboxStatus>,
    pub feed_connected: bool,
    /// How long ago the CA was last heard, in milliseconds; none if never.
    pub ca_heard_ms_ago: Option<u64>,
    /// For how long the leaf is valid without the CA, in seconds.
    pub survives_seconds: Option<u64>,
    pub mesh_listeners: BTreeMap<ServicePort, SocketAddr>,
    /// What the Gateways of our workload ask for, and what came of it.
    pub gateways: Vec<GatewayPort>,
    /// Application ports that can be reached around the proxy.
    pub bypassable: Vec<BypassablePort>,
    pub live_streams: usize,
    pub calls_allowed: u64,
    pub calls_denied: u64,
    pub calls_failed: u64,
}

/// One port of Gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GatewayPort {
    /// As Gateways say it.
    pub port: u16,
    /// Where this proxy listens for it, if it does.
    pub address: Option<SocketAddr>,
    /// Served as they should be.
    pub hosts: Vec<String>,
    /// When the first certificate of those that are shown expires.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// Why the port or another host is not, or a host soon will not be, for people.
    pub problems: Vec<String>,
}

/// An application port that policy does not protect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BypassablePort {
    pub target: ServicePort,
    pub application_port: u16,
    pub reach: Reachable,
}

/// Who gets around the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reachable {
    /// Any process of this host.
    LocalUsers,
    /// Anyone who reaches this host.
    Network,
}

impl Reachable {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LocalUsers => "local-users",
            Self::Network => "network",
        }
    }
}

/// Where the parts of the proxy write what they know. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct StatusBoard {
    sender: watch::Sender<ProxyStatus>,
}

impl StatusBoard {
    pub(crate) fn new(workload: QualifiedName) -> Self {
        let (sender, _) = watch::channel(ProxyStatus {
            workload,
            spiffe_id: None,
            serial: None,
            not_after: None,
            revision: None,
            ready: false,
            draining: false,
            sandbox: None,
            feed_connected: false,
            ca_heard_ms_ago: None,
            survives_seconds: None,
            mesh_listeners: BTreeMap::new(),
            gateways: Vec::new(),
            bypassable: Vec::new(),
            live_streams: 0,
            calls_allowed: 0,
            calls_denied: 0,
            calls_failed: 0,
        });
        Self { sender }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<ProxyStatus> {
        self.sender.subscribe()
    }

    pub(crate) fn current(&self) -> ProxyStatus {
        self.sender.borrow().clone()
    }

    /// Changes the status; watchers wake only if something is different.
    pub(crate) fn update(&self, change: impl FnOnce(&mut ProxyStatus)) {
        self.sender.send_if_modified(|status| {
            let before = status.clone();
            change(status);
            *status != before
        });
    }
}

/// How long a leaf is still valid, in whole seconds.
pub(crate) fn survives(not_after: OffsetDateTime, now: OffsetDateTime) -> u64 {
    Duration::try_from(not_after - now).map_or(0, |left| left.as_secs())
}
