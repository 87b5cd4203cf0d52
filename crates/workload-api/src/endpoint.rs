//! Where the Workload API listens (SPIFFE_Workload_Endpoint.md §4).
//!
//! It refuses every part that the standard does not name: an authority on a Unix socket, a host
//! name, path, query, fragment or user information on TCP.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// The environment variable to which a client falls back that was not told (requirement 111).
/// Reading it is left to the program.
pub const ENDPOINT_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// The address of a Workload API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `unix:///run/agent.sock` or `unix:/run/agent.sock`: an absolute path.
    Unix(PathBuf),
    /// `tcp://127.0.0.1:8000`: an IP address and a port.
    Tcp(SocketAddr),
}

impl Endpoint {
    /// What was configured, else the value of [`ENDPOINT_VARIABLE`].
    pub fn choose(
        configured: Option<&str>,
        environment: Option<&str>,
    ) -> Result<Self, EndpointError> {
        configured
            .or(environment)
            .ok_or(EndpointError::Unset)?
            .parse()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once(':').ok_or(EndpointError::Scheme)?;
        match scheme {
            "unix" => parse_unix(rest),
            "tcp" => parse_tcp(rest),
            _ => Err(EndpointError::Scheme),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// Why a text names no Workload API endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    #[error("no Workload API endpoint is configured, and SPIFFE_ENDPOINT_SOCKET is not set")]
    Unset,
    #[error("a Workload API endpoint starts with `unix:` or `tcp:`")]
    Scheme,
    #[error("the authority of a `unix` endpoint is empty: write unix:///path")]
    UnixAuthority,
    #[error("the path of a `unix` endpoint is absolute and not only `/`")]
    UnixPath,
    #[error("an endpoint has no query and no fragment, found {found:?}")]
    Extra { found: char },
    #[error("percent-encoding in the path of a `unix` endpoint is not supported")]
    PercentEncoding,
    #[error("a `tcp` endpoint is written tcp://ADDRESS:PORT, with an IP address and nothing more")]
    TcpAddress,
}

/// Requirement 113.
fn parse_unix(rest: &str) -> Result<Endpoint, EndpointError> {
    if let Some(found) = rest.chars().find(|c| matches!(c, '?' | '#')) {
        return Err(EndpointError::Extra { found });
    }
    if rest.contains('%') {
        return Err(EndpointError::PercentEncoding);
    }
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(EndpointError::UnixAuthority),
    };
    if !path.starts_with('/') || path.len() == 1 || path.contains('\0') {
        return Err(EndpointError::UnixPath);
    }
    Ok(Endpoint::Unix(PathBuf::from(path)))
}

/// Requirement 114. An IPv6 scope is no part of a URI host.
fn parse_tcp(rest: &str) -> Result<Endpoint, EndpointError> {
    let address = rest.strip_prefix("//").ok_or(EndpointError::TcpAddress)?;
    if let Some(found) = address.chars().find(|c| matches!(c, '?' | '#')) {
        return Err(EndpointError::Extra { found });
    }
    match address.parse::<SocketAddr>() {
        Ok(parsed) if parsed.port() != 0 && !address.contains('%') => Ok(Endpoint::Tcp(parsed)),
        _ => Err(EndpointError::TcpAddress),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(text: &str, expected: &EndpointError) {
        assert_eq!(&text.parse::<Endpoint>().unwrap_err(), expected, "{text:?}");
    }

    #[test]
    fn requirement_111_the_environment_is_the_fallback() {
        let environment = Some("unix:///run/environment.sock");
        assert_eq!(Endpoint::choose(None, None), Err(EndpointError::Unset));
        assert_eq!(
            Endpoint::choose(None, environment),
            Ok(Endpoint::Unix("/run/environment.sock".into()))
        );
        assert_eq!(
            Endpoint::choose(Some("unix:///run/configured.sock"), environment),
            Ok(Endpoint::Unix("/run/configured.sock".into()))
        );
    }

    #[test]
    fn requirement_112_other_schemes_are_refused() {
        for text in [
            "",
            "/run/a.sock",
            "http://127.0.0.1:80",
            "UNIX:///run/a.sock",
            "://",
        ] {
            refused(text, &EndpointError::Scheme);
        }
    }

    #[test]
    fn requirement_113_a_unix_endpoint_is_an_absolute_path_alone() {
        refused("unix://run/a.sock", &EndpointError::UnixAuthority);
        refused("unix://", &EndpointError::UnixAuthority);
        refused("unix:run/a.sock", &EndpointError::UnixPath);
        refused("unix:///", &EndpointError::UnixPath);
        refused("unix:///a\0b", &EndpointError::UnixPath);
        refused("unix:///a?b", &EndpointError::Extra { found: '?' });
        refused("unix:///a#b", &EndpointError::Extra { found: '#' });
        refused("unix:///a%20b", &EndpointError::PercentEncoding);
        assert_eq!(
            "unix:/run/a.sock".parse(),
            Ok(Endpoint::Unix("/run/a.sock".into()))
        );
    }

    #[test]
    fn requirement_114_a_tcp_endpoint_is_an_address_and_a_port_alone() {
        for text in [
            "tcp:127.0.0.1:80",
            "tcp://localhost:80",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:0",
            "tcp://127.0.0.1:80/",
            "tcp://a@127.0.0.1:80",
            "tcp://[fe80::1%1]:80",
        ] {
            refused(text, &EndpointError::TcpAddress);
        }
        refused("tcp://127.0.0.1:80?a", &EndpointError::Extra { found: '?' });
        let address = "[::1]:80".parse().unwrap();
        assert_eq!("tcp://[::1]:80".parse(), Ok(Endpoint::Tcp(address)));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_accepted_survives_a_round_trip(
            text in "(unix:|tcp:)?/{0,3}[a-z0-9.:%?#@\\[\\]/]{0,24}"
        ) {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
            }
        }
    }
}
