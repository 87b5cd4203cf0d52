//! Where the port of a Service can be reached.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Where a mesh listener can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// An IP address or a host name.
    pub host: String,
    pub port: u16,
}

/// Where an endpoint is.
pub(crate) type Zone = Arc<str>;

/// The endpoints of one port of a Service, each once. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoints {
    list: Arc<[(Endpoint, Option<Zone>)]>,
    /// Whether one of them is a host name.
    has_names: bool,
}

impl Endpoints {
    pub(crate) fn new(list: impl IntoIterator<Item = (Endpoint, Option<Zone>)>) -> Self {
        let list: Arc<[_]> = list.into_iter().collect();
        Self {
            has_names: list.iter().any(|(endpoint, _)| !endpoint.is_address()),
            list,
        }
    }

    /// Whether one of them is a host name, whose addresses only discovery knows.
    pub(crate) fn has_names(&self) -> bool {
        self.has_names
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Endpoint, Option<Zone>)> {
        self.list.iter()
    }
}

impl Endpoint {
    fn is_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ip_version_six_is_bracketed() {
        let endpoint = Endpoint {
            host: "::1".to_owned(),
            port: 80,
        };
        assert_eq!(endpoint.to_string(), "[::1]:80");
    }
}
