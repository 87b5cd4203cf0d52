//! The sections `[transparent]` and `[dns]`: how programs reach the mesh without a proxy setting.
//!
//! Refused: a port for this host that others reach, and ports of one kind that differ, since one
//! redirect rule leads to both families.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::Deserialize;

use super::InvalidConfig;
use crate::dns::Resolver;

/// Where `countersign redirect` leads connections.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transparent {
    /// What programs here connect to, whatever it was; loopback of each family, on one port.
    pub outbound: Vec<SocketAddr>,
    /// What others connect to past the mesh; any address of each family, on one port.
    pub inbound: Vec<SocketAddr>,
    /// Whose connections are carried, beside `outbound.allowed_uids`. The proxy's own are never
    /// led here, so that somebody must be named.
    pub allowed_uids: BTreeSet<u32>,
}

/// The names of the mesh, by DNS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// UDP and TCP; loopback of each family, on one port.
    pub listen: Vec<SocketAddr>,
    /// Who is asked for other names, at most three: `system`, or addresses. Left out, other names
    /// are refused.
    #[serde(default)]
    pub forward: Vec<Resolver>,
}

impl Transparent {
    pub fn outbound_port(&self) -> Option<u16> {
        self.outbound.first().map(SocketAddr::port)
    }

    pub fn inbound_port(&self) -> Option<u16> {
        self.inbound.first().map(SocketAddr::port)
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        for address in &self.outbound {
            require_loopback("transparent.outbound", *address)?;
        }
        require_one_port("transparent.outbound", &self.outbound)?;
        require_one_port("transparent.inbound", &self.inbound)
    }
}

impl Dns {
    pub fn port(&self) -> Option<u16> {
        self.listen.first().map(SocketAddr::port)
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        for address in &self.listen {
            require_loopback("dns.listen", *address)?;
        }
        require_one_port("dns.listen", &self.listen)
    }
}

fn require_loopback(field: &'static str, address: SocketAddr) -> Result<(), InvalidConfig> {
    match address.ip().is_loopback() {
        true => Ok(()),
        false => Err(InvalidConfig::NotLoopback { field, address }),
    }
}

fn require_one_port(field: &'static str, addresses: &[SocketAddr]) -> Result<(), InvalidConfig> {
    let mut ports = addresses.iter().map(SocketAddr::port);
    let first = ports.next();
    match ports.find(|port| Some(*port) != first) {
        None => Ok(()),
        Some(port) => Err(InvalidConfig::OtherPort { field, port }),
    }
}
