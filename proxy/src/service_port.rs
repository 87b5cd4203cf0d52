//! What a mesh listener stands for, and what policy calls a target: a Service's named port.

use std::fmt;
use std::str::FromStr;

use identity::QualifiedName;
use policy::PortName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A Service's named port, written `namespace/service:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePort {
    pub service: QualifiedName,
    pub port: PortName,
}

/// Not `namespace/service:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not <namespace>/<service>:<port>")]
pub struct InvalidServicePort {
    text: String,
}

impl FromStr for ServicePort {
    type Err = InvalidServicePort;

    fn from_str(text: &str) -> Result<Self, InvalidServicePort> {
        let parse = || {
            let (service, port) = text.split_once(':')?;
            Some(Self {
                service: service.parse().ok()?,
                port: port.parse().ok()?,
            })
        };
        parse().ok_or_else(|| InvalidServicePort {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for ServicePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

impl Serialize for ServicePort {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServicePort {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_without_three_parts_are_refused() {
        for text in [
            "",
            "orders:http",
            "shop/orders",
            "shop/orders:",
            "shop/orders:a:b",
        ] {
            assert!(text.parse::<ServicePort>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_service_port_comes_back_from_its_text() {
        let text = "shop/orders:http";
        assert_eq!(text.parse::<ServicePort>().unwrap().to_string(), text);
    }
}
