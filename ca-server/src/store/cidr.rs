//! An address range, such as `10.0.0.0/8` or `fd00::/8`.
//!
//! Refuses a range whose address has bits set outside the prefix: it would say two things.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("an address range is written `address/prefix`, such as 10.0.0.0/8")]
    Form,
    #[error("the prefix of this address range must be between 0 and {most}")]
    Prefix { most: u8 },
    #[error("the address has bits set beyond its /{prefix} prefix")]
    HostBits { prefix: u8 },
}

impl Cidr {
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }

    /// An IPv4 address in IPv6 form counts as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                let mask = mask(self.prefix, 32) as u32;
                u32::from(range) == u32::from(address) & mask
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                u128::from(range) == u128::from(address) & mask(self.prefix, 128)
            }
            _ => false,
        }
    }
}

fn mask(prefix: u8, width: u8) -> u128 {
    let all = if width == 128 {
        u128::MAX
    } else {
        (1 << width) - 1
    };
    all & !all.checked_shr(u32::from(prefix)).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = text.split_once('/').ok_or(CidrError::Form)?;
        let address: IpAddr = address.parse().map_err(|_| CidrError::Form)?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CidrError::Form);
        }
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= most);
        let prefix = prefix.ok_or(CidrError::Prefix { most })?;
        let cidr = Self { address, prefix };
        if address.to_canonical() != address || !cidr.contains(address) {
            return Err(CidrError::HostBits { prefix });
        }
        Ok(cidr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn malformed_ranges_are_refused() {
        assert_eq!("10.0.0.0".parse::<Cidr>(), Err(CidrError::Form));
        assert_eq!("10.0.0.0/+8".parse::<Cidr>(), Err(CidrError::Form));
        assert_eq!(
            "10.0.0.0/33".parse::<Cidr>(),
            Err(CidrError::Prefix { most: 32 })
        );
        assert_eq!(
            "fd00::/129".parse::<Cidr>(),
            Err(CidrError::Prefix { most: 128 })
        );
        assert_eq!(
            "10.0.0.1/8".parse::<Cidr>(),
            Err(CidrError::HostBits { prefix: 8 })
        );
    }

    #[test]
    fn an_address_outside_the_range_is_not_contained() {
        let cidr: Cidr = "10.1.0.0/16".parse().unwrap();
        assert!(!cidr.contains("10.2.0.1".parse().unwrap()));
        assert!(!cidr.contains("fd00::1".parse().unwrap()));
    }

    #[test]
    fn an_ipv4_address_in_ipv6_form_is_contained() {
        let cidr: Cidr = "10.1.0.0/16".parse().unwrap();
        assert!(cidr.contains("::ffff:10.1.255.255".parse().unwrap()));
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(256))]

        #[test]
        fn a_range_holds_its_own_addresses_and_reads_back(address: u128, prefix in 0u8..=128) {
            let address = std::net::Ipv6Addr::from(address);
            let range = std::net::Ipv6Addr::from(u128::from(address) & mask(prefix, 128));
            if let Ok(cidr) = format!("{range}/{prefix}").parse::<Cidr>() {
                prop_assert!(cidr.contains(address.into()) || address.to_ipv4_mapped().is_some());
                prop_assert_eq!(cidr.to_string().parse(), Ok(cidr));
            }
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = text.parse::<Cidr>();
        }
    }
}
