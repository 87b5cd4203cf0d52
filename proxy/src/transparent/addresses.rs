//! The addresses that stand for Services.
//!
//! Invariant: an address stands for at most one Service. Should the CA give one to two, it stands
//! for neither.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use identity::QualifiedName;

/// Both ways: by address, and by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddressTable {
    services: HashMap<IpAddr, Claim>,
    addresses: BTreeMap<QualifiedName, BTreeSet<IpAddr>>,
}

#[derive(Clone, Debug)]
enum Claim {
    One(QualifiedName),
    Disputed,
}

impl AddressTable {
    pub(crate) fn insert(&mut self, service: &QualifiedName, address: IpAddr) {
        let claim = self
            .services
            .entry(address)
            .or_insert_with(|| Claim::One(service.clone()));
        let other = match claim {
            Claim::One(first) if first == service => None,
            Claim::One(first) => Some(first.clone()),
            Claim::Disputed => return,
        };
        match other {
            Some(first) => {
                *claim = Claim::Disputed;
                self.addresses.entry(first).or_default().remove(&address);
            }
            None => drop(
                self.addresses
                    .entry(service.clone())
                    .or_default()
                    .insert(address),
            ),
        }
    }

    /// The Service that connections to `address` are for.
    pub(crate) fn service_at(&self, address: IpAddr) -> Option<&QualifiedName> {
        match self.services.get(&address.to_canonical())? {
            Claim::One(service) => Some(service),
            Claim::Disputed => None,
        }
    }

    /// What DNS answers for the Service's name.
    pub(crate) fn addresses_of(&self, service: &QualifiedName) -> impl Iterator<Item = IpAddr> {
        self.addresses.get(service).into_iter().flatten().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> QualifiedName {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_of_two_services_stands_for_neither() {
        let mut table = AddressTable::default();
        let address = "240.0.0.1".parse().unwrap();
        for service in ["shop/orders", "shop/checkout", "shop/orders"] {
            table.insert(&name(service), address);
        }
        assert_eq!(table.service_at(address), None);
        assert_eq!(table.addresses_of(&name("shop/orders")).count(), 0);
        assert_eq!(table.addresses_of(&name("shop/checkout")).count(), 0);
    }

    #[test]
    fn an_unknown_address_stands_for_nothing() {
        let mut table = AddressTable::default();
        table.insert(&name("shop/orders"), "240.0.0.1".parse().unwrap());
        assert_eq!(table.service_at("240.0.0.2".parse().unwrap()), None);
    }

    #[test]
    fn an_ipv4_address_of_a_dual_stack_socket_is_the_ipv4_address() {
        let mut table = AddressTable::default();
        table.insert(&name("shop/orders"), "240.0.0.1".parse().unwrap());
        let mapped = "::ffff:240.0.0.1".parse().unwrap();
        assert_eq!(table.service_at(mapped), Some(&name("shop/orders")));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn both_ways_agree(entries in prop::collection::vec((0u8..6, 0u8..6), 0..24)) {
            let mut table = AddressTable::default();
            let service = |number: u8| name(&format!("shop/s{number}"));
            let address = |number: u8| IpAddr::from([240, 0, 0, number]);
            for (of, at) in &entries {
                table.insert(&service(*of), address(*at));
            }
            for (number, at) in (0..6).flat_map(|it| (0..6).map(move |at| (it, at))) {
                let forth = table.addresses_of(&service(number)).any(|it| it == address(at));
                let back = table.service_at(address(at)) == Some(&service(number));
                prop_assert_eq!(forth, back);
                let claims: BTreeSet<u8> = entries.iter().filter(|it| it.1 == at).map(|it| it.0).collect();
                prop_assert_eq!(back, claims == BTreeSet::from([number]));
            }
        }
    }
}
