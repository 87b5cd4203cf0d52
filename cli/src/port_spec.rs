//! `--port name=app[:port][/protocol]` and `--reach ns/service:port=local`.

use std::fmt;
use std::str::FromStr;

use identity::QualifiedName;
use policy::{PortName, Protocol};
use thiserror::Error;

/// A port that the program serves, and what callers say to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSpec {
    pub(crate) name: PortName,
    /// Where the program listens, on loopback.
    pub(crate) app: u16,
    /// What callers say.
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
}

impl FromStr for PortSpec {
    type Err = InvalidPortSpec;

    fn from_str(text: &str) -> Result<Self, InvalidPortSpec> {
        let (name, rest) = text.split_once('=').ok_or(InvalidPortSpec::Form)?;
        let (numbers, protocol) = match rest.split_once('/') {
            Some((numbers, protocol)) => (numbers, read_protocol(protocol)?),
            None => (rest, Protocol::Http),
        };
        let (app, port) = match numbers.split_once(':') {
            Some((app, port)) => (read_port(app)?, Some(read_port(port)?)),
            None => (read_port(numbers)?, None),
        };
        let name = name
            .parse()
            .map_err(|_| InvalidPortSpec::Name(name.to_owned()))?;
        let port = port.unwrap_or_else(|| if protocol.is_http() { 80 } else { app });
        Ok(Self {
            name,
            app,
            port,
            protocol,
        })
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}={}:{}/{}",
            self.name,
            self.app,
            self.port,
            self.protocol.as_str()
        )
    }
}

/// A TCP service that the program reaches through a local port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReachSpec {
    pub(crate) service: QualifiedName,
    pub(crate) port: PortName,
    /// On loopback.
    pub(crate) local: u16,
}

impl FromStr for ReachSpec {
    type Err = InvalidReachSpec;

    fn from_str(text: &str) -> Result<Self, InvalidReachSpec> {
        let (target, local) = text.rsplit_once('=').ok_or(InvalidReachSpec)?;
        let (service, port) = target.split_once(':').ok_or(InvalidReachSpec)?;
        Ok(Self {
            service: service.parse().map_err(|_| InvalidReachSpec)?,
            port: port.parse().map_err(|_| InvalidReachSpec)?,
            local: read_port(local).map_err(|_| InvalidReachSpec)?,
        })
    }
}

impl fmt::Display for ReachSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}={}", self.service, self.port, self.local)
    }
}

/// Why a text is no port of a program.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum InvalidPortSpec {
    #[error("write name=app[:port][/protocol], as in http=8080 or pg=5432/tcp")]
    Form,
    #[error("`{0}` is no port name; use lower-case letters, digits and dashes")]
    Name(String),
    #[error("`{0}` is no port; use a number from 1 to 65535")]
    Port(String),
    #[error("`{0}` is no protocol; use http, http2, grpc or tcp")]
    Protocol(String),
}

/// A text that is no service to reach.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("write namespace/service:port=local, as in data/db:pg=5432")]
pub(crate) struct InvalidReachSpec;

fn read_port(text: &str) -> Result<u16, InvalidPortSpec> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| digits && *port != 0);
    port.ok_or_else(|| InvalidPortSpec::Port(text.to_owned()))
}

fn read_protocol(text: &str) -> Result<Protocol, InvalidPortSpec> {
    let all = [
        Protocol::Http,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::Tcp,
    ];
    let found = all.into_iter().find(|protocol| protocol.as_str() == text);
    found.ok_or_else(|| InvalidPortSpec::Protocol(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: InvalidPortSpec) {
        assert_eq!(text.parse::<PortSpec>(), Err(expected));
    }

    #[test]
    fn wrong_parts_are_named() {
        refused("8080", InvalidPortSpec::Form);
        refused("HTTP=8080", InvalidPortSpec::Name("HTTP".to_owned()));
        refused("http=0", InvalidPortSpec::Port("0".to_owned()));
        refused("http=8080:", InvalidPortSpec::Port(String::new()));
        refused("http=+80", InvalidPortSpec::Port("+80".to_owned()));
        refused("http=8080/udp", InvalidPortSpec::Protocol("udp".to_owned()));
    }

    #[test]
    fn http_defaults_to_80_and_tcp_to_the_application_port() {
        let ports = ["http=8080", "pg=5432/tcp"].map(|text| text.parse::<PortSpec>().unwrap().port);
        assert_eq!(ports, [80, 5432]);
    }

    #[test]
    fn reach_without_a_port_name_is_refused() {
        assert_eq!("data/db=5432".parse::<ReachSpec>(), Err(InvalidReachSpec));
        assert_eq!("db:pg=5432".parse::<ReachSpec>(), Err(InvalidReachSpec));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,24}") {
            let _refused_or_read = (text.parse::<PortSpec>(), text.parse::<ReachSpec>());
        }

        #[test]
        fn port_survives_being_written_and_read(
            name in "[a-z][a-z0-9]{0,8}",
            app in 1_u16..,
            port in 1_u16..,
            protocol in prop::sample::select(vec!["http", "http2", "grpc", "tcp"]),
        ) {
            let text = format!("{name}={app}:{port}/{protocol}");
            prop_assert_eq!(text.parse::<PortSpec>().unwrap().to_string(), text);
        }

        #[test]
        fn reach_survives_being_written_and_read(
            name in "[a-z]{1,8}/[a-z]{1,8}:[a-z]{1,8}",
            local in 1_u16..,
        ) {
            let text = format!("{name}={local}");
            prop_assert_eq!(text.parse::<ReachSpec>().unwrap().to_string(), text);
        }
    }
}
