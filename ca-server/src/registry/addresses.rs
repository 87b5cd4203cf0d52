//! The addresses that stand for a Service in the mesh: one of 240.0.0.0/4, one of a ULA prefix.
//!
//! Both follow from the Service's place, and the prefix from the trust domain's name, so that
//! restarts, backups and restores change nothing. The ranges route nowhere: only a proxy that
//! intercepts a connection can tell what it is for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crypto::digest::Sha256;
use identity::TrustDomain;

use crate::store::Place;

const RANGE: u32 = u32::from_be_bytes([240, 0, 0, 0]);

/// What the mesh's DNS answers for one Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceAddresses {
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
}

impl ServiceAddresses {
    pub(crate) fn of(trust_domain: &TrustDomain, place: Place) -> Self {
        Self {
            ipv4: Ipv4Addr::from(RANGE + place.number()),
            ipv6: Ipv6Addr::from(prefix(trust_domain) | u128::from(place.number())),
        }
    }

    /// Both, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        [IpAddr::V4(self.ipv4), IpAddr::V6(self.ipv6)].into_iter()
    }
}

/// RFC 4193 section 3: fd00::/8, a global ID of 40 bits, a subnet ID of zero.
fn prefix(trust_domain: &TrustDomain) -> u128 {
    let digest = Sha256::of_parts(&[
        b"countersign service addresses\0",
        trust_domain.as_str().as_bytes(),
    ]);
    let mut bytes = [0; 16];
    bytes[0] = 0xfd;
    bytes[1..6].copy_from_slice(&digest.as_bytes()[..5]);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(trust_domain: &str, place: u32) -> ServiceAddresses {
        ServiceAddresses::of(&trust_domain.parse().unwrap(), Place::of_number(place))
    }

    #[test]
    fn meshes_have_different_prefixes_and_services_different_addresses() {
        let one = addresses("corp.example", 1);
        assert_ne!(one.ipv6, addresses("other.example", 1).ipv6);
        let two = addresses("corp.example", 2);
        assert!(one.ipv4 != two.ipv4 && one.ipv6 != two.ipv6);
    }

    #[test]
    fn addresses_are_of_their_ranges() {
        for place in [1, 256, 251_658_239] {
            let addresses = addresses("corp.example", place);
            assert!((240..255).contains(&addresses.ipv4.octets()[0]));
            assert_eq!(addresses.ipv6.octets()[0], 0xfd);
            assert_eq!(addresses.ipv6.octets()[6..8], [0, 0]);
        }
    }
}
