//! The sections `[transparent]` and `[dns]`: how programs reach the mesh without a proxy setting,
//! and whom the proxy asks for names.
//!
//! Refused: a port for this host that others reach, ports of one kind that differ, since one
//! redirect rule leads to both families, and answers believed for no time at all.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use runtime::Span;
use serde::Deserialize;

use super::InvalidConfig;
use crate::discovery::Bounds;
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

/// The names of the mesh, by DNS; and the names of endpoints, of which the proxy asks others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// UDP and TCP; loopback of each family, on one port.
    pub listen: Vec<SocketAddr>,
    /// Who is asked for other names, at most three: `system`, or addresses. Left out, other names
    /// are refused.
    pub forward: Vec<Resolver>,
    /// Who is asked where endpoints with names are, at most three; `system` includes the hosts
    /// file.
    pub servers: Vec<Resolver>,
    /// An answer is believed as long as it says, but not shorter than this, from 1s,
    pub shortest_ttl: Span,
    /// nor longer than this.
    pub longest_ttl: Span,
    /// While no server answers, what was known stays so long beyond its time.
    pub keep_stale: Span,
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
        let shortest = self.shortest_ttl.duration();
        if shortest < Duration::from_secs(1) || shortest > self.longest_ttl.duration() {
            return Err(InvalidConfig::ShortestTtl);
        }
        require_one_port("dns.listen", &self.listen)
    }

    pub(crate) fn bounds(&self) -> Bounds {
        Bounds {
            shortest: self.shortest_ttl.duration(),
            longest: self.longest_ttl.duration(),
            stale: self.keep_stale.duration(),
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        let hour = Span::from(Duration::from_secs(3600));
        Self {
            listen: Vec::new(),
            forward: Vec::new(),
            servers: vec![Resolver::System],
            shortest_ttl: Span::from(Duration::from_secs(5)),
            longest_ttl: hour,
            keep_stale: hour,
        }
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
