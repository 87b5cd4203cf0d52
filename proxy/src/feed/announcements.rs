//! Which mesh listeners are bound, and of which of them callers are told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use identity::QualifiedName;
use proto::mesh::v1;
use tokio::sync::watch;

use crate::balance::Zone;
use crate::service_port::ServicePort;

/// Mesh listeners by what they stand for.
pub(crate) type Bound = Arc<BTreeMap<ServicePort, SocketAddr>>;

/// Between the listeners, who bind, and the feed, which tells. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Announcements {
    bound: watch::Sender<Bound>,
    told: watch::Sender<Option<Bound>>,
}

impl Announcements {
    pub(crate) fn new() -> Self {
        let (bound, _) = watch::channel(Bound::default());
        let (told, _) = watch::channel(None);
        Self { bound, told }
    }

    pub(crate) fn bound(&self) -> Bound {
        Arc::clone(&self.bound.borrow())
    }

    pub(crate) fn changes(&self) -> watch::Receiver<Bound> {
        self.bound.subscribe()
    }

    pub(crate) fn publish(&self, bound: BTreeMap<ServicePort, SocketAddr>) {
        self.bound.send_if_modified(|current| {
            let changed = **current != bound;
            *current = Arc::new(bound);
            changed
        });
    }

    /// Callers are told of these; none if the agent is not connected.
    pub(crate) fn note_told(&self, told: Option<Bound>) {
        self.told.send_replace(told);
    }

    /// Whether callers are told of all that is bound.
    pub(crate) fn is_told(&self) -> bool {
        self.told.borrow().as_ref() == Some(&*self.bound.borrow())
    }

    /// Resolves once callers are told that nothing is bound any more.
    pub(crate) async fn withdrawn(&self) {
        let mut told = self.told.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        drop(
            told.wait_for(|told| told.as_ref().is_some_and(|it| it.is_empty()))
                .await,
        );
    }
}

/// Where callers find this proxy.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The address that callers are told to connect to.
    pub address: String,
    pub zone: Option<Zone>,
}

/// One announcement for each Service, with the ports that are bound.
pub(crate) fn message(bound: &Bound, place: &Place, sequence: u64) -> v1::Announce {
    let mut services: BTreeMap<&QualifiedName, v1::Endpoint> = BTreeMap::new();
    for (name, address) in bound.iter() {
        let endpoint = services
            .entry(&name.service)
            .or_insert_with(|| v1::Endpoint {
                address: place.address.clone(),
                zone: place.zone.as_deref().unwrap_or_default().to_owned(),
                ..v1::Endpoint::default()
            });
        let port = u32::from(address.port());
        endpoint.ports.insert(name.port.to_string(), port);
    }
    let announcements = services
        .into_iter()
        .map(|(service, endpoint)| v1::Announcement {
            namespace: service.namespace.to_string(),
            service: service.name.to_string(),
            endpoint: Some(endpoint),
        });
    v1::Announce {
        announcements: announcements.collect(),
        sequence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_one_service_are_one_announcement() {
        let bound: BTreeMap<ServicePort, SocketAddr> = [
            (
                "shop/orders:http".parse().unwrap(),
                "127.0.0.1:1".parse().unwrap(),
            ),
            (
                "shop/orders:grpc".parse().unwrap(),
                "127.0.0.1:2".parse().unwrap(),
            ),
            (
                "shop/admin:http".parse().unwrap(),
                "127.0.0.1:3".parse().unwrap(),
            ),
        ]
        .into();

        let place = Place {
            address: "10.0.0.7".to_owned(),
            zone: Some("a".into()),
        };
        let message = message(&Arc::new(bound), &place, 1);

        let orders = message.announcements[1].endpoint.as_ref().unwrap();
        assert_eq!(message.announcements.len(), 2);
        assert_eq!(
            (
                orders.address.as_str(),
                orders.ports["grpc"],
                orders.zone.as_str()
            ),
            ("10.0.0.7", 2, "a")
        );
    }
}
