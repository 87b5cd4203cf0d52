//! How many connections one source may hold, so that it leaves room for others: at the mesh
//! listeners by its address before the handshake and by its identity after, at those of Gateways
//! by its address.
//!
//! Invariant: a place is held by a [`SourcePlace`] and given back when that is dropped; what is
//! remembered is bounded by the connections that are open.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use identity::SpiffeId;

/// For all workers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sources {
    most: usize,
    open: Arc<Mutex<HashMap<Source, Held>>>,
}

/// Whose connections are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    V4(Ipv4Addr),
    /// The first 64 bits: what one host can choose its addresses from.
    V6(u64),
    Identity(SpiffeId),
}

#[derive(Debug, Default)]
struct Held {
    connections: usize,
    /// Whether it was said that there is no more room.
    told: bool,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct SourcePlace {
    sources: Sources,
    source: Source,
}

impl Sources {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            open: Arc::default(),
        }
    }

    /// A place; none if the source holds as many as it may.
    pub(crate) fn enter(&self, source: Source) -> Option<SourcePlace> {
        let mut open = self.lock();
        let held = open.entry(source.clone()).or_default();
        if held.connections >= self.most {
            if !std::mem::replace(&mut held.told, true) {
                let most = self.most;
                tracing::warn!(
                    ?source,
                    most,
                    "a source holds as many connections as it may"
                );
            }
            return None;
        }
        held.connections += 1;
        Some(SourcePlace {
            sources: self.clone(),
            source,
        })
    }

    /// Every change under the lock is complete before anything can panic.
    fn lock(&self) -> MutexGuard<'_, HashMap<Source, Held>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(prefix(address)),
        }
    }
}

impl Drop for SourcePlace {
    fn drop(&mut self) {
        let mut open = self.sources.lock();
        let Some(held) = open.get_mut(&self.source) else {
            return;
        };
        held.connections -= 1;
        if held.connections == 0 {
            open.remove(&self.source);
        }
    }
}

fn prefix(address: Ipv6Addr) -> u64 {
    (u128::from(address) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Source {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn one_more_than_the_limit_is_refused_and_others_are_not() {
        let sources = Sources::new(1);
        let held = sources.enter(at("10.0.0.1")).unwrap();
        assert!(sources.enter(at("10.0.0.1")).is_none());
        assert!(sources.enter(at("10.0.0.2")).is_some());
        drop(held);
        assert!(sources.enter(at("10.0.0.1")).is_some());
        assert!(sources.lock().is_empty());
    }

    #[test]
    fn addresses_that_one_host_can_choose_are_one_source() {
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:2"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }
}
