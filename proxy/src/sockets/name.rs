//! What a listening socket is for, in a form that a predecessor and its successor both read.

use std::fmt;
use std::net::{AddrParseError, SocketAddr};
use std::num::ParseIntError;
use std::str::FromStr;

use crate::service_port::{InvalidServicePort, ServicePort};

/// The name of a listening socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SocketName {
    Outbound,
    OutboundUnix,
    Reach(ServicePort),
    Mesh(ServicePort),
    /// By the port that Gateways say, whatever it is on this host.
    Gateway(u16),
    /// These by the address that is configured.
    TransparentOutbound(SocketAddr),
    TransparentInbound(SocketAddr),
    DnsTcp(SocketAddr),
    DnsUdp(SocketAddr),
    Metrics,
    Health,
    Admin,
    Takeover,
}

/// What kind of socket a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tcp,
    Udp,
    Unix,
}

/// No name that this version knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidSocketName {
    #[error("no socket is named {0:?}")]
    Unknown(String),
    #[error("the socket's port")]
    Port(#[from] InvalidServicePort),
    #[error("the socket's port")]
    Number(#[from] ParseIntError),
    #[error("the socket's address")]
    Address(#[from] AddrParseError),
}

impl SocketName {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::OutboundUnix | Self::Admin | Self::Takeover => Kind::Unix,
            Self::DnsUdp(_) => Kind::Udp,
            Self::Outbound
            | Self::Reach(_)
            | Self::Mesh(_)
            | Self::Gateway(_)
            | Self::TransparentOutbound(_)
            | Self::TransparentInbound(_)
            | Self::DnsTcp(_)
            | Self::Metrics
            | Self::Health => Kind::Tcp,
        }
    }

    /// Whether each worker has a socket of its own, or one task serves the only one.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(
            self,
            Self::Outbound
                | Self::Reach(_)
                | Self::Mesh(_)
                | Self::Gateway(_)
                | Self::TransparentOutbound(_)
                | Self::TransparentInbound(_)
        )
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outbound => f.write_str("outbound.listen"),
            Self::OutboundUnix => f.write_str("outbound.unix_socket"),
            Self::Reach(port) => write!(f, "reach.listen {port}"),
            Self::Mesh(port) => write!(f, "mesh.ports {port}"),
            Self::Gateway(port) => write!(f, "gateway {port}"),
            Self::TransparentOutbound(address) => write!(f, "transparent.outbound {address}"),
            Self::TransparentInbound(address) => write!(f, "transparent.inbound {address}"),
            Self::DnsTcp(address) => write!(f, "dns.listen/tcp {address}"),
            Self::DnsUdp(address) => write!(f, "dns.listen/udp {address}"),
            Self::Metrics => f.write_str("listen.metrics"),
            Self::Health => f.write_str("listen.health"),
            Self::Admin => f.write_str("listen.admin_socket"),
            Self::Takeover => f.write_str("takeover.socket"),
        }
    }
}

impl FromStr for SocketName {
    type Err = InvalidSocketName;

    fn from_str(text: &str) -> Result<Self, InvalidSocketName> {
        match text.split_once(' ') {
            Some(("reach.listen", port)) => Ok(Self::Reach(port.parse()?)),
            Some(("mesh.ports", port)) => Ok(Self::Mesh(port.parse()?)),
            Some(("gateway", port)) => Ok(Self::Gateway(port.parse()?)),
            Some(("transparent.outbound", address)) => {
                Ok(Self::TransparentOutbound(address.parse()?))
            }
            Some(("transparent.inbound", address)) => {
                Ok(Self::TransparentInbound(address.parse()?))
            }
            Some(("dns.listen/tcp", address)) => Ok(Self::DnsTcp(address.parse()?)),
            Some(("dns.listen/udp", address)) => Ok(Self::DnsUdp(address.parse()?)),
            Some(_) => Err(InvalidSocketName::Unknown(text.to_owned())),
            None => Self::without_argument(text),
        }
    }
}

impl SocketName {
    fn without_argument(text: &str) -> Result<Self, InvalidSocketName> {
        match text {
            "outbound.listen" => Ok(Self::Outbound),
            "outbound.unix_socket" => Ok(Self::OutboundUnix),
            "listen.metrics" => Ok(Self::Metrics),
            "listen.health" => Ok(Self::Health),
            "listen.admin_socket" => Ok(Self::Admin),
            "takeover.socket" => Ok(Self::Takeover),
            _ => Err(InvalidSocketName::Unknown(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_no_socket_are_refused() {
        let names = ["", "mesh.ports", "gateway 65536", "x y"];
        for text in names
            .into_iter()
            .chain(["outbound.listen shop/orders:http"])
        {
            assert!(text.parse::<SocketName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_comes_back_from_its_text() {
        let port: ServicePort = "shop/orders:http".parse().unwrap();
        let names = [
            SocketName::Outbound,
            SocketName::OutboundUnix,
            SocketName::Reach(port.clone()),
            SocketName::Mesh(port),
            SocketName::Gateway(443),
            SocketName::TransparentOutbound("[::1]:15001".parse().unwrap()),
            SocketName::TransparentInbound("0.0.0.0:15006".parse().unwrap()),
            SocketName::DnsTcp("[::1]:53".parse().unwrap()),
            SocketName::DnsUdp("127.0.0.1:0".parse().unwrap()),
            SocketName::Metrics,
            SocketName::Health,
            SocketName::Admin,
            SocketName::Takeover,
        ];
        for name in names {
            assert_eq!(name.to_string().parse::<SocketName>().unwrap(), name);
        }
    }
}
