//! Where the port of a Service can be reached.

use std::fmt;
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
}

impl Endpoints {
    pub(crate) fn new(list: impl IntoIterator<Item = (Endpoint, Option<Zone>)>) -> Self {
        Self {
            list: list.into_iter().collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Endpoint, Option<Zone>)> {
        self.list.iter()
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
