//! Which endpoint a call goes to: round robin, never the same endpoint twice for one call.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a mesh listener can be reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// An IP address or a host name.
    pub host: String,
    pub port: u16,
}

/// The endpoints of one port of a Service, and whose turn it is. The turn outlives a change of
/// the list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Balancer {
    endpoints: Arc<[Endpoint]>,
    turn: Arc<AtomicUsize>,
}

/// The endpoints for one call, in the order to try them.
#[derive(Debug)]
pub(crate) struct Attempts {
    endpoints: Arc<[Endpoint]>,
    start: usize,
    made: usize,
}

impl Balancer {
    /// Replaces the list, and keeps the turn.
    pub(crate) fn with_endpoints(&self, endpoints: Vec<Endpoint>) -> Self {
        Self {
            endpoints: endpoints.into(),
            turn: Arc::clone(&self.turn),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Takes the next turn.
    pub(crate) fn attempts(&self) -> Attempts {
        Attempts {
            endpoints: Arc::clone(&self.endpoints),
            start: self.turn.fetch_add(1, Ordering::Relaxed),
            made: 0,
        }
    }
}

impl Iterator for Attempts {
    type Item = Endpoint;

    fn next(&mut self) -> Option<Endpoint> {
        if self.made == self.endpoints.len() {
            return None;
        }
        let index = (self.start % self.endpoints.len() + self.made) % self.endpoints.len();
        self.made += 1;
        self.endpoints.get(index).cloned()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn balancer(count: u16) -> Balancer {
        let endpoints = (0..count).map(|port| Endpoint {
            host: "h".to_owned(),
            port,
        });
        Balancer::default().with_endpoints(endpoints.collect())
    }

    #[test]
    fn without_endpoints_there_is_no_attempt() {
        assert_eq!(balancer(0).attempts().next(), None);
    }

    #[test]
    fn an_address_of_ip_version_six_is_bracketed() {
        let endpoint = Endpoint {
            host: "::1".to_owned(),
            port: 80,
        };
        assert_eq!(endpoint.to_string(), "[::1]:80");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn calls_are_spread_evenly(count in 1u16..20, rounds in 1usize..10) {
            let balancer = balancer(count);
            let mut calls: BTreeMap<Endpoint, usize> = BTreeMap::new();
            for _ in 0..rounds * usize::from(count) {
                *calls.entry(balancer.attempts().next().unwrap()).or_default() += 1;
            }
            prop_assert!(calls.values().all(|it| *it == rounds));
        }

        #[test]
        fn one_call_tries_each_endpoint_once(count in 1u16..20, turn in 0usize..50) {
            let balancer = balancer(count);
            balancer.turn.store((usize::MAX - 20).wrapping_add(turn % 40), Ordering::Relaxed);
            let tried: Vec<_> = balancer.attempts().collect();
            prop_assert_eq!(tried.len(), usize::from(count));
            prop_assert_eq!(tried.into_iter().collect::<BTreeSet<_>>().len(), usize::from(count));
        }
    }
}
