//! What a listening socket is for, in a form that a predecessor and its successor both read.

use std::fmt;
use std::str::FromStr;

use crate::service_port::{InvalidServicePort, ServicePort};

/// The name of a listening socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SocketName {
    Outbound,
    OutboundUnix,
    Reach(ServicePort),
    Mesh(ServicePort),
    Metrics,
    Health,
    Admin,
    Takeover,
}

/// No name that this version knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidSocketName {
    #[error("no socket is named {0:?}")]
    Unknown(String),
    #[error("the socket's port")]
    Port(#[from] InvalidServicePort),
}

impl SocketName {
    pub(crate) fn is_unix(&self) -> bool {
        match self {
            Self::OutboundUnix | Self::Admin | Self::Takeover => true,
            Self::Outbound | Self::Reach(_) | Self::Mesh(_) | Self::Metrics | Self::Health => false,
        }
    }
}

impl fmt::Display for SocketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outbound => f.write_str("outbound.listen"),
            Self::OutboundUnix => f.write_str("outbound.unix_socket"),
            Self::Reach(port) => write!(f, "reach.listen {port}"),
            Self::Mesh(port) => write!(f, "mesh.ports {port}"),
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
        let (kind, port) = match text.split_once(' ') {
            Some((kind, port)) => (kind, Some(port.parse()?)),
            None => (text, None),
        };
        match (kind, port) {
            ("outbound.listen", None) => Ok(Self::Outbound),
            ("outbound.unix_socket", None) => Ok(Self::OutboundUnix),
            ("reach.listen", Some(port)) => Ok(Self::Reach(port)),
            ("mesh.ports", Some(port)) => Ok(Self::Mesh(port)),
            ("listen.metrics", None) => Ok(Self::Metrics),
            ("listen.health", None) => Ok(Self::Health),
            ("listen.admin_socket", None) => Ok(Self::Admin),
            ("takeover.socket", None) => Ok(Self::Takeover),
            _ => Err(InvalidSocketName::Unknown(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_no_socket_are_refused() {
        for text in ["", "mesh.ports", "outbound.listen shop/orders:http", "x y"] {
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
