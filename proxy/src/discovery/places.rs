//! The endpoints of a Service's port, with the addresses of those that are names.
//!
//! Invariant: a name stands for all of its addresses, each with the name's port and zone; an
//! address that is listed twice is one endpoint.

use std::collections::BTreeMap;

use tokio::sync::watch;

use super::{Discovery, Resolved};
use crate::balance::{Endpoint, Endpoints, Zone};

/// Follows the names for as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Places {
    list: Vec<(Endpoint, Option<Zone>)>,
    names: Vec<watch::Receiver<Resolved>>,
    /// Of what was known of all names; none if it is to be read again in any case.
    version: Option<u64>,
    unsettled: bool,
}

impl Places {
    pub(crate) fn of(endpoints: &Endpoints, discovery: &Discovery) -> Self {
        if !endpoints.has_names() {
            return Self {
                list: endpoints.iter().cloned().collect(),
                ..Self::default()
            };
        }
        // Read first: what changes meanwhile is read again.
        let version = discovery.version();
        let mut list = BTreeMap::new();
        let mut names = Vec::new();
        for (endpoint, zone) in endpoints.iter() {
            let resolving = discovery.resolve(&endpoint.host);
            for address in resolving.borrow().addresses() {
                let endpoint = Endpoint {
                    host: address.to_string(),
                    port: endpoint.port,
                };
                list.entry(endpoint).or_insert_with(|| zone.clone());
            }
            names.push(resolving);
        }
        let pending = |it: &watch::Receiver<Resolved>| *it.borrow() == Resolved::Pending;
        Self {
            unsettled: list.is_empty() && names.iter().any(pending),
            list: list.into_iter().collect(),
            names,
            version: Some(version),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Endpoint, Option<Zone>)> {
        self.list.iter()
    }

    /// Whether a name may have moved since.
    pub(crate) fn are_outdated(&self, discovery: &Discovery) -> bool {
        !self.names.is_empty() && Some(discovery.version()) != self.version
    }

    /// A name has moved, whatever the version says: it grows a moment later.
    pub(crate) fn outdate(&mut self) {
        self.version = None;
    }

    /// Whether nobody can be called because no name has been answered for yet.
    pub(crate) fn are_unsettled(&self) -> bool {
        self.unsettled
    }

    pub(crate) fn names(&self) -> Vec<watch::Receiver<Resolved>> {
        self.names.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::discovery::HostName;

    fn endpoints(hosts: &[&str]) -> Endpoints {
        Endpoints::new(hosts.iter().map(|host| {
            let host = (*host).to_owned();
            (Endpoint { host, port: 80 }, Some(Zone::from("a")))
        }))
    }

    fn hosts(places: &Places) -> Vec<&str> {
        places.iter().map(|(it, _)| it.host.as_str()).collect()
    }

    #[test]
    fn names_alone_are_unsettled_until_one_is_answered_for() {
        let discovery = Discovery::new();
        let places = Places::of(&endpoints(&["db.example"]), &discovery);
        assert!(places.are_unsettled());
        discovery.publish(&HostName::new("db.example").unwrap(), Resolved::Nothing);
        assert!(places.are_outdated(&discovery));
        let places = Places::of(&endpoints(&["db.example"]), &discovery);
        assert!(!places.are_unsettled() && hosts(&places).is_empty());
    }

    #[test]
    fn a_name_stands_for_its_addresses_and_each_address_is_once() {
        let discovery = Discovery::new();
        let listed = endpoints(&["10.0.0.1", "db.example"]);
        let before = Places::of(&listed, &discovery);
        assert_eq!(hosts(&before), ["10.0.0.1"]);
        let addresses = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let name = HostName::new("db.example").unwrap();
        discovery.publish(&name, Resolved::Addresses(addresses.into()));
        assert!(before.are_outdated(&discovery));
        assert_eq!(
            hosts(&Places::of(&listed, &discovery)),
            ["10.0.0.1", "10.0.0.2"]
        );
    }
}
