//! Which addresses a host outside may resolve to.
//!
//! Invariant: whoever answers for a name (DNS rebinding) cannot lead a call to this host itself, to
//! its link, or to where clouds keep the credentials of their machines, in any spelling of the
//! address. Private networks are no secret of the host and may be called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Network;

/// Where clouds answer their machines, outside the ranges below: Alibaba, Azure, Oracle.
const METADATA: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];

/// The same over IPv6: Amazon, Google.
const METADATA_6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254),
    Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254),
];

/// What an address is, that no host outside has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOutside {
    #[error("is this host")]
    Loopback,
    #[error("is on this host's link")]
    LinkLocal,
    #[error("is where clouds keep their machines' credentials")]
    Metadata,
    #[error("is no address of a host")]
    NoHost,
}

/// # Errors
/// If no host outside has this address, unless the configuration allows it.
pub(crate) fn check(address: IpAddr, allowed: &[Network]) -> Result<(), NotOutside> {
    if allowed.iter().any(|network| network.contains(address)) {
        return Ok(());
    }
    match address {
        IpAddr::V4(address) => check_v4(address),
        IpAddr::V6(address) => check_v6(address),
    }
}

fn check_v4(address: Ipv4Addr) -> Result<(), NotOutside> {
    match address {
        it if it.is_loopback() => Err(NotOutside::Loopback),
        it if METADATA.contains(&it) => Err(NotOutside::Metadata),
        it if it.is_link_local() => Err(NotOutside::LinkLocal),
        it if it.is_multicast() || it.octets()[0] == 0 => Err(NotOutside::NoHost),
        // Addresses of the mesh's Services are among these.
        it if it.octets()[0] >= 240 => Err(NotOutside::NoHost),
        _ => Ok(()),
    }
}

fn check_v6(address: Ipv6Addr) -> Result<(), NotOutside> {
    match address {
        it if it.is_loopback() => Err(NotOutside::Loopback),
        it if METADATA_6.contains(&it) => Err(NotOutside::Metadata),
        it if it.is_unicast_link_local() => Err(NotOutside::LinkLocal),
        // fec0::/10 was site-local (RFC 3879).
        it if it.segments()[0] & 0xffc0 == 0xfec0 => Err(NotOutside::LinkLocal),
        it if it.is_multicast() || it.is_unspecified() => Err(NotOutside::NoHost),
        it => embedded(it).map_or(Ok(()), check_v4),
    }
}

/// The IPv4 address that a packet to this one goes to in the end: IPv4-mapped and -compatible
/// (RFC 4291 section 2.5.5), NAT64 (RFC 6052), 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let segments = address.segments();
    let at = |from: usize| {
        let [a, b, c, d] = [0, 1, 2, 3].map(|it| octets[from + it]);
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] => Some(at(12)),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(at(12)),
        [0x2002, ..] => Some(at(2)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(address: &str, expected: NotOutside) {
        assert_eq!(check(address.parse().unwrap(), &[]), Err(expected));
    }

    #[test]
    fn the_host_itself_is_not_outside_in_any_spelling() {
        for address in ["127.0.0.1", "127.255.1.2", "::1", "::ffff:127.0.0.1"] {
            refused(address, NotOutside::Loopback);
        }
        for address in ["::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"] {
            refused(address, NotOutside::Loopback);
        }
    }

    #[test]
    fn credentials_of_machines_are_not_outside() {
        for address in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1"] {
            refused(address, NotOutside::LinkLocal);
        }
        for address in ["fd00:ec2::254", "100.100.100.200", "fd20:ce::254"] {
            refused(address, NotOutside::Metadata);
        }
    }

    #[test]
    fn what_no_host_has_is_refused() {
        for address in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            refused(address, NotOutside::NoHost);
        }
        refused("240.0.0.1", NotOutside::NoHost);
    }

    #[test]
    fn hosts_of_the_world_and_of_private_networks_are_outside() {
        for address in [
            "192.0.2.1",
            "10.0.0.1",
            "192.168.1.1",
            "2001:db8::1",
            "fd12::1",
        ] {
            assert_eq!(check(address.parse().unwrap(), &[]), Ok(()), "{address}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn what_is_allowed_passes_and_a_mapped_address_is_judged_as_itself(address: Ipv4Addr) {
            let network: Network = address.to_string().parse().unwrap();
            prop_assert_eq!(check(address.into(), &[network]), Ok(()));
            let mapped = IpAddr::V6(address.to_ipv6_mapped());
            prop_assert_eq!(check(mapped, &[]), check(address.into(), &[]));
        }
    }
}
