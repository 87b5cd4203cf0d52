//! Every fixed port and socket, bound before anything runs, so that a port in use is one clear
//! error.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use runtime::AdminSocket;
use tokio::net::{TcpListener, UnixListener};

use super::StartError;
use crate::config::Config;
use crate::dns::DnsSockets;
use crate::service_port::ServicePort;

/// What was bound.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) outbound: Option<TcpListener>,
    pub(super) outbound_unix: Option<UnixListener>,
    pub(super) reach: BTreeMap<ServicePort, TcpListener>,
    pub(super) dns: Vec<DnsSockets>,
    pub(super) metrics: Option<TcpListener>,
    pub(super) admin: Option<AdminSocket>,
}

impl Listening {
    pub(super) async fn bind(config: &Config) -> Result<Self, StartError> {
        let mut reach = BTreeMap::new();
        for it in &config.reach {
            let name = ServicePort {
                service: it.service.clone(),
                port: it.port.clone(),
            };
            reach.insert(name, bind("reach.listen", it.listen).await?);
        }
        let outbound = match &config.outbound {
            Some(outbound) => Some(bind("outbound.listen", outbound.listen).await?),
            None => None,
        };
        let unix_socket = config
            .outbound
            .as_ref()
            .and_then(|it| it.unix_socket.as_ref());
        let mut dns = Vec::new();
        for address in config.dns.iter().flat_map(|it| &it.listen) {
            dns.push(bind_dns(*address).await?);
        }
        let metrics = match config.listen.metrics {
            Some(address) => Some(runtime::metrics::bind_metrics(address).await?),
            None => None,
        };
        Ok(Self {
            outbound,
            outbound_unix: unix_socket.map(|path| bind_unix(path)).transpose()?,
            reach,
            dns,
            metrics,
            admin: config
                .listen
                .admin_socket
                .as_ref()
                .map(AdminSocket::bind)
                .transpose()?,
        })
    }

    pub(super) fn outbound_address(&self) -> Option<SocketAddr> {
        self.outbound.as_ref()?.local_addr().ok()
    }

    pub(super) fn dns_addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.dns.iter();
        addresses.filter_map(|it| it.address().ok()).collect()
    }

    pub(super) fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref()?.local_addr().ok()
    }

    pub(super) fn reach_addresses(&self) -> BTreeMap<ServicePort, SocketAddr> {
        let addresses = self.reach.iter();
        addresses
            .filter_map(|(name, listener)| Some((name.clone(), listener.local_addr().ok()?)))
            .collect()
    }
}

async fn bind_dns(address: SocketAddr) -> Result<DnsSockets, StartError> {
    DnsSockets::bind(address)
        .await
        .map_err(|source| StartError::Bind {
            what: "dns.listen",
            address,
            source,
        })
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Bind {
            what,
            address,
            source,
        })
}

/// Replaces a socket that nobody serves any more; leaves every other file alone.
fn bind_unix(path: &Path) -> Result<UnixListener, StartError> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    let bound = if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        fs::remove_file(path).and_then(|()| UnixListener::bind(path))
    } else {
        UnixListener::bind(path)
    };
    bound.map_err(|source| StartError::BindUnix {
        path: path.to_owned(),
        source,
    })
}
