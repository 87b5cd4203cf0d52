//! What a connection is for, where more is known than a request's Host says. Pure.
//!
//! Invariant: the address that a program connected to, or the authority of its CONNECT, names one
//! Service's port; a Host may only agree. So what a program resolved and what it says cannot
//! differ, whoever wrote the two.

use std::net::{IpAddr, SocketAddr};

use http::uri::Authority;

use super::AddressTable;
use crate::route::Destination;

/// The Service's port that a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    /// None for a tunnel, which was asked for by name.
    original: Option<SocketAddr>,
    destination: Destination,
}

/// The address stands for no Service that this proxy knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} stands for no Service here; resolve the Service's name again")]
pub(crate) struct NoService(SocketAddr);

/// The Host names something else than the address does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection was made to {service} ({way}), and the Host names {host}")]
pub(crate) struct OtherHost {
    service: String,
    way: String,
    host: String,
}

impl Intent {
    /// # Errors
    /// If the address stands for no Service.
    pub(crate) fn of(table: &AddressTable, original: SocketAddr) -> Result<Self, NoService> {
        let service = table.service_at(original.ip()).ok_or(NoService(original))?;
        Ok(Self {
            original: Some(original),
            destination: Destination {
                service: service.clone(),
                port: original.port(),
            },
        })
    }

    /// Of what goes through a tunnel.
    pub(crate) fn tunnel(destination: Destination) -> Self {
        Self {
            original: None,
            destination,
        }
    }

    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// # Errors
    /// If a request's authority names another Service, or another port of it. A port that is left
    /// out is the connection's.
    pub(crate) fn agrees(&self, authority: Option<&Authority>) -> Result<(), OtherHost> {
        let same = authority.is_some_and(|it| self.is_named(it));
        if same {
            return Ok(());
        }
        Err(OtherHost {
            service: self.destination.service.to_string(),
            way: self
                .original
                .map_or_else(|| "CONNECT".to_owned(), |it| it.to_string()),
            host: authority.map_or_else(|| "nothing".to_owned(), ToString::to_string),
        })
    }

    fn is_named(&self, authority: &Authority) -> bool {
        let without_port = authority.as_str().len() == authority.host().len();
        let same_port = without_port || authority.port_u16() == Some(self.destination.port);
        let service = Destination::of(Some(authority)).map(|it| it.service);
        let named = service.is_ok_and(|it| it == self.destination.service);
        same_port && (named || self.is_at(authority))
    }

    fn is_at(&self, authority: &Authority) -> bool {
        let original = self.original.map(|it| it.ip());
        original.is_some() && address(authority) == original
    }
}

fn address(authority: &Authority) -> Option<IpAddr> {
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> AddressTable {
        let mut table = AddressTable::default();
        for (service, address) in [("shop/orders", "240.0.0.1"), ("shop/admin", "240.0.0.2")] {
            table.insert(&service.parse().unwrap(), address.parse().unwrap());
        }
        table.insert(&"shop/orders".parse().unwrap(), "fd00::1".parse().unwrap());
        table
    }

    fn to(original: &str) -> Intent {
        Intent::of(&table(), original.parse().unwrap()).unwrap()
    }

    fn agrees(original: &str, host: &str) -> bool {
        to(original).agrees(Some(&host.parse().unwrap())).is_ok()
    }

    #[test]
    fn an_address_of_no_service_is_refused() {
        let original = "10.0.0.7:80".parse().unwrap();
        assert_eq!(Intent::of(&table(), original), Err(NoService(original)));
    }

    #[test]
    fn a_host_that_names_another_service_port_or_address_is_refused() {
        for host in [
            "admin.shop.mesh.internal",
            "orders.other.mesh.internal",
            "orders.shop.mesh.internal:81",
            "orders.shop.mesh.internal:",
            "example.com",
            "240.0.0.2",
            "240.0.0.1:81",
        ] {
            assert!(!agrees("240.0.0.1:80", host), "{host}");
        }
        assert!(to("240.0.0.1:80").agrees(None).is_err());
    }

    #[test]
    fn a_host_that_names_the_service_by_name_or_address_agrees() {
        for host in [
            "orders.shop.mesh.internal",
            "Orders.shop.mesh.internal.:80",
            "240.0.0.1:80",
        ] {
            assert!(agrees("240.0.0.1:80", host), "{host}");
        }
        assert!(agrees("240.0.0.1:9090", "orders.shop.mesh.internal"));
        assert!(agrees("[fd00::1]:80", "[fd00::1]"));
        assert_eq!(
            to("[fd00::1]:80").destination(),
            to("240.0.0.1:80").destination()
        );
    }
}
