//! The sections `[gateway]` and `[external]`: what of this host the objects of those kinds may
//! use.
//!
//! An object says what is served and what is called; only this file says which files it may name
//! and which of the host's own networks it may reach. Refused: paths that are not absolute.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::InvalidConfig;

/// Ways in for callers outside the mesh. Left out: this proxy opens no listener of a Gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// The one folder whose files a Gateway may name.
    pub certificates: PathBuf,
    /// Bound by every listener.
    #[serde(default = "everywhere")]
    pub address: IpAddr,
    /// The port of this host for a port of a Gateway, where the two differ; 0 for a free one.
    #[serde(default, deserialize_with = "ports")]
    pub ports: BTreeMap<u16, u16>,
}

/// Ways out of the mesh.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct External {
    /// The one folder whose files an External may name as its roots.
    pub roots: Option<PathBuf>,
    /// Networks that no host outside should resolve to, and that calls may go to all the same.
    #[serde(deserialize_with = "networks")]
    pub allow: Vec<Network>,
}

/// An address, or all that have its first bits; written `192.0.2.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Not `address` or `address/bits`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address or a network such as 192.0.2.0/24")]
pub struct InvalidNetwork {
    text: String,
}

impl Gateway {
    /// Where a listener of `port` is bound.
    pub(crate) fn local_port(&self, port: u16) -> u16 {
        self.ports.get(&port).copied().unwrap_or(port)
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        require_absolute("gateway.certificates", &self.certificates)
    }
}

impl External {
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        match &self.roots {
            Some(roots) => require_absolute("external.roots", roots),
            None => Ok(()),
        }
    }
}

impl Network {
    pub fn contains(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let ignored = 32 - u32::from(self.bits);
                let differing = u32::from(network) ^ u32::from(address);
                differing.checked_shr(ignored).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let ignored = 128 - u32::from(self.bits);
                let differing = u128::from(network) ^ u128::from(address);
                differing.checked_shr(ignored).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let parse = || {
            let (address, bits) = match text.split_once('/') {
                Some((address, bits)) => (address, Some(bits)),
                None => (text, None),
            };
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
            (bits <= most).then_some(Self { address, bits })
        };
        parse().ok_or_else(|| InvalidNetwork {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn require_absolute(field: &'static str, path: &Path) -> Result<(), InvalidConfig> {
    if path.is_absolute() {
        return Ok(());
    }
    let path = path.to_owned();
    Err(InvalidConfig::NotAbsolute { field, path })
}

fn everywhere() -> IpAddr {
    IpAddr::V4(Ipv4Addr::UNSPECIFIED)
}

/// TOML's keys are text.
fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u16, u16>, D::Error> {
    let texts = BTreeMap::<String, u16>::deserialize(deserializer)?;
    let parsed = texts.into_iter().map(|(text, local)| {
        let port = text.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| serde::de::Error::custom(format!("{text} is no port")))?;
        Ok((port, local))
    });
    parsed.collect()
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Network>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    let parsed = texts.iter().map(|text| text.parse());
    parsed
        .collect::<Result<_, _>>()
        .map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn holds(network: &str, address: &str, expected: bool) {
        let network: Network = network.parse().unwrap();
        assert_eq!(network.contains(address.parse().unwrap()), expected);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0/8", "a/8"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_holds_its_own_addresses_only() {
        holds("127.0.0.0/8", "128.0.0.1", false);
        holds("127.0.0.0/8", "::1", false);
        holds("0.0.0.0/0", "::1", false);
        holds("127.0.0.0/8", "127.255.0.1", true);
        holds("::1", "::1", true);
        holds("::/0", "fe80::1", true);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn a_network_is_read_back_and_holds_its_address(address: IpAddr, bits in 0_u8..=128) {
            let bits = if address.is_ipv4() { bits.min(32) } else { bits };
            let network = Network { address, bits };
            prop_assert_eq!(network.to_string().parse(), Ok(network));
            prop_assert!(network.contains(address));
        }
    }
}
