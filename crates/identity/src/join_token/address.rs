//! Where a CA listens: `host:port`, the host a DNS name, an IPv4 address or an IPv6 address in
//! brackets. It refuses port 0, and anything before or after the two parts.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use thiserror::Error;

use crate::dns_name::{DnsName, DnsNameError};
use crate::serde_text::serde_as_text;

/// The address of a CA replica, or of what stands before several.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CaAddress {
    host: Host,
    port: NonZeroU16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Name(DnsName),
    Address(IpAddr),
}

impl CaAddress {
    /// The host as a resolver takes it: an IPv6 address has no brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Name(name) => name.to_string(),
            Host::Address(address) => address.to_string(),
        }
    }

    pub fn port(&self) -> u16 {
        self.port.get()
    }
}

impl FromStr for CaAddress {
    type Err = CaAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(CaAddressError::Shape)?;
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| is_number);
        Ok(Self {
            host: parse_host(host)?,
            port: port.ok_or(CaAddressError::Port)?,
        })
    }
}

impl fmt::Display for CaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}:{}", self.port),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
        }
    }
}

serde_as_text!(CaAddress);

/// Why a text is not the address of a CA.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CaAddressError {
    #[error("an address is written `host:port`, an IPv6 host in brackets")]
    Shape,
    #[error("the port of an address is a number from 1 to 65535")]
    Port,
    #[error("the host of an address is an IP address or a DNS name: {0}")]
    Host(DnsNameError),
}

fn parse_host(text: &str) -> Result<Host, CaAddressError> {
    if let Some(rest) = text.strip_prefix('[') {
        let address = rest.strip_suffix(']').and_then(|inner| inner.parse().ok());
        return match address {
            Some(address) => Ok(Host::Address(IpAddr::V6(address))),
            None => Err(CaAddressError::Shape),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(CaAddressError::Shape);
    }
    match text.parse::<Ipv4Addr>() {
        Ok(address) => Ok(Host::Address(IpAddr::V4(address))),
        Err(_) => text.parse().map(Host::Name).map_err(CaAddressError::Host),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_without_a_usable_port_are_refused() {
        for text in ["ca:0", "ca:", "ca:+1", "ca:65536", "ca:x"] {
            assert_eq!(
                text.parse::<CaAddress>(),
                Err(CaAddressError::Port),
                "{text}"
            );
        }
    }

    #[test]
    fn addresses_of_another_shape_are_refused() {
        for text in ["ca", "::1:8444", "[::1:8444", "[ca]:8444"] {
            assert_eq!(
                text.parse::<CaAddress>(),
                Err(CaAddressError::Shape),
                "{text}"
            );
        }
        for text in ["https://ca:8444", ":8444", "a b:8444", "1.2.3.4.5:8444"] {
            assert!(
                matches!(text.parse::<CaAddress>(), Err(CaAddressError::Host(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn each_kind_of_host_is_read() {
        for (text, host) in [
            ("127.0.0.1:8444", "127.0.0.1"),
            ("[::1]:8444", "::1"),
            ("ca.example:8444", "ca.example"),
        ] {
            let address: CaAddress = text.parse().unwrap();
            assert_eq!((address.host().as_str(), address.port()), (host, 8444));
            assert_eq!(address.to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-f0-9:.\\[\\]]{0,30}") {
            if let Ok(address) = text.parse::<CaAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
