//! Every fixed port and socket, bound before anything runs, so that a port in use is one clear
//! error.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use super::StartError;
use super::control::ControlSockets;
use crate::config::Config;
use crate::dns::DnsSockets;
use crate::service_port::ServicePort;
use crate::sockets::{SocketName, Sockets};

/// What was bound. Each is for the workers to share as [`Sockets::tcp`] says, and nothing is to
/// be accepted before [`Sockets::admitted`] resolves.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) sockets: Sockets,
    pub(super) outbound: Vec<TcpListener>,
    pub(super) outbound_unix: Option<UnixListener>,
    pub(super) reach: BTreeMap<ServicePort, Vec<TcpListener>>,
    /// What programs here connect to, whatever it was.
    pub(super) redirected_out: Vec<Vec<TcpListener>>,
    /// What others connect to past the mesh.
    pub(super) redirected_in: Vec<Vec<TcpListener>>,
    pub(super) dns: Vec<DnsSockets>,
    pub(super) control: ControlSockets,
}

impl Listening {
    pub(super) fn bind(config: &Config, sockets: Sockets) -> Result<Self, StartError> {
        let tcp = |name: SocketName, address: Option<SocketAddr>| match address {
            Some(address) => sockets.tcp(&name, address),
            None => Ok(Vec::new()),
        };
        let mut reach = BTreeMap::new();
        for it in &config.reach {
            let name = ServicePort {
                service: it.service.clone(),
                port: it.port.clone(),
            };
            let listeners = tcp(SocketName::Reach(name.clone()), Some(it.listen))?;
            reach.insert(name, listeners);
        }
        let mut dns = Vec::new();
        for address in config.dns.iter().flat_map(|it| &it.listen) {
            dns.push(bind_dns(&sockets, *address)?);
        }
        let transparent = &config.transparent;
        let mut redirected_out = Vec::new();
        for address in &transparent.outbound {
            let name = SocketName::TransparentOutbound(*address);
            redirected_out.push(tcp(name, Some(*address))?);
        }
        let mut redirected_in = Vec::new();
        for address in &transparent.inbound {
            let name = SocketName::TransparentInbound(*address);
            redirected_in.push(tcp(name, Some(*address))?);
        }
        let outbound = config.outbound.as_ref();
        let outbound_unix = outbound.and_then(|it| it.unix_socket.clone());
        let unix = |name, path: Option<_>, private| {
            path.map(|path: PathBuf| sockets.unix(&name, &path, private))
                .transpose()
        };
        Ok(Self {
            outbound: tcp(SocketName::Outbound, outbound.map(|it| it.listen))?,
            outbound_unix: unix(SocketName::OutboundUnix, outbound_unix, false)?,
            reach,
            redirected_out,
            redirected_in,
            dns,
            control: ControlSockets {
                metrics: tcp(SocketName::Metrics, config.listen.metrics)?.pop(),
                health: tcp(SocketName::Health, config.listen.health)?.pop(),
                admin: unix(SocketName::Admin, config.listen.admin_socket.clone(), true)?,
                takeover: unix(SocketName::Takeover, config.takeover_socket(), true)?,
            },
            sockets,
        })
    }

    pub(super) fn dns_addresses(&self) -> Vec<SocketAddr> {
        let addresses = self.dns.iter();
        addresses.filter_map(|it| it.address().ok()).collect()
    }

    pub(super) fn reach_addresses(&self) -> BTreeMap<ServicePort, SocketAddr> {
        let addresses = self.reach.iter();
        addresses
            .filter_map(|(name, listeners)| {
                Some((name.clone(), listeners.first()?.local_addr().ok()?))
            })
            .collect()
    }
}

/// Both at one address; with port 0 at the same free port.
fn bind_dns(sockets: &Sockets, address: SocketAddr) -> Result<DnsSockets, StartError> {
    let name = SocketName::DnsTcp(address);
    let mut tcp = sockets.tcp(&name, address)?;
    let bound = sockets.address(&name).unwrap_or(address);
    let udp = sockets.udp(&SocketName::DnsUdp(address), bound)?;
    DnsSockets::bound(udp, tcp.remove(0)).map_err(StartError::Serve)
}
