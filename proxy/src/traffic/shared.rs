//! What the workers of a process have in common: limits, budgets and the results of health checks.
//!
//! Invariant: there is one of each for a port as long as the process lives, whatever the
//! configuration does meanwhile, so a change of configuration empties no bucket and loses no
//! count.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::balancer::Counts;
use super::budget::Budget;
use super::bulkhead::Bulkhead;
use super::callers::PortLimits;
use super::connections::PortConnections;
use crate::balance::Endpoint;
use crate::service_port::ServicePort;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    start: Instant,
    served: Arc<Mutex<HashMap<ServicePort, Arc<PortLimits>>>>,
    called: Arc<Mutex<HashMap<ServicePort, Arc<Callee>>>>,
    /// How many ports are called.
    ports: watch::Sender<usize>,
}

/// What all workers together may do towards one port of a Service.
#[derive(Debug)]
pub(crate) struct Callee {
    pub budget: Budget,
    pub connections: Arc<PortConnections>,
    pub pending: Arc<Bulkhead>,
    pub health: HealthBoard,
    /// What each worker's balancer sees.
    seen: Mutex<HashMap<usize, Counts>>,
}

/// The endpoints that active health found unfit.
#[derive(Debug, Default)]
pub(crate) struct HealthBoard {
    version: AtomicU64,
    unfit: Mutex<HashSet<Endpoint>>,
}

impl Shared {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            served: Arc::default(),
            called: Arc::default(),
            ports: watch::Sender::new(0),
        }
    }

    /// The limits of a port that our workload serves.
    pub(crate) fn served(&self, port: &ServicePort) -> Arc<PortLimits> {
        let mut served = lock(&self.served);
        if let Some(limits) = served.get(port) {
            return Arc::clone(limits);
        }
        let limits = Arc::new(PortLimits::new(self.start));
        served.insert(port.clone(), Arc::clone(&limits));
        limits
    }

    /// What concerns a port that our workload calls.
    pub(crate) fn called(&self, port: &ServicePort) -> Arc<Callee> {
        let mut called = lock(&self.called);
        if let Some(callee) = called.get(port) {
            return Arc::clone(callee);
        }
        let callee = Arc::new(Callee {
            budget: Budget::new(self.start),
            connections: Arc::default(),
            pending: Arc::default(),
            health: HealthBoard::default(),
            seen: Mutex::default(),
        });
        called.insert(port.clone(), Arc::clone(&callee));
        self.ports.send_replace(called.len());
        callee
    }

    /// The ports that our workload has called.
    pub(crate) fn all_called(&self) -> Vec<(ServicePort, Arc<Callee>)> {
        let called = lock(&self.called);
        let all = called.iter();
        all.map(|(port, callee)| (port.clone(), Arc::clone(callee)))
            .collect()
    }

    /// Changes when a port is called for the first time.
    pub(crate) fn subscribe(&self) -> watch::Receiver<usize> {
        self.ports.subscribe()
    }

    /// Forgets callers that use nothing.
    pub(crate) fn expire(&self, now: Instant) {
        for limits in lock(&self.served).values() {
            limits.expire(now);
        }
    }
}

impl Callee {
    /// What the balancer of a worker sees now; none if it calls the port no more.
    pub(crate) fn note(&self, worker: usize, counts: Option<Counts>) {
        let mut seen = lock(&self.seen);
        match counts {
            Some(counts) => drop(seen.insert(worker, counts)),
            None => drop(seen.remove(&worker)),
        }
    }

    /// What the worker sees that is worst off; none if nobody calls the port.
    pub(crate) fn worst(&self) -> Option<Counts> {
        let seen = lock(&self.seen);
        seen.values().copied().reduce(|one, other| Counts {
            available: one.available.min(other.available),
            ejected: one.ejected.max(other.ejected),
            unhealthy: one.unhealthy.max(other.unhealthy),
        })
    }
}

impl HealthBoard {
    /// Grows with each change.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn is_fit(&self, endpoint: &Endpoint) -> bool {
        !lock(&self.unfit).contains(endpoint)
    }

    pub(crate) fn set(&self, endpoint: &Endpoint, fit: bool) {
        let mut unfit = lock(&self.unfit);
        let changed = if fit {
            unfit.remove(endpoint)
        } else {
            unfit.insert(endpoint.clone())
        };
        if changed {
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    /// Endpoints that are gone are no longer unfit.
    pub(crate) fn retain(&self, lives: impl Fn(&Endpoint) -> bool) {
        let mut unfit = lock(&self.unfit);
        let before = unfit.len();
        unfit.retain(|endpoint| lives(endpoint));
        if unfit.len() != before {
            self.version.fetch_add(1, Ordering::Release);
        }
    }
}

/// Every change under these locks is complete before anything can panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(text: &str) -> ServicePort {
        text.parse().unwrap()
    }

    #[test]
    fn workers_that_ask_for_a_port_get_the_same_limits_and_no_other_does() {
        let shared = Shared::new(Instant::now());
        let other = shared.clone();
        let (one, same) = (shared.served(&port("a/b:c")), other.served(&port("a/b:c")));
        assert!(Arc::ptr_eq(&one, &same));
        assert!(!Arc::ptr_eq(&one, &shared.served(&port("a/b:d"))));
        let (one, same) = (shared.called(&port("a/b:c")), other.called(&port("a/b:c")));
        assert!(Arc::ptr_eq(&one, &same));
    }

    #[test]
    fn only_a_change_of_health_is_a_new_version() {
        let board = HealthBoard::default();
        let endpoint = Endpoint {
            host: "h".to_owned(),
            port: 1,
        };
        board.set(&endpoint, true);
        assert_eq!((board.version(), board.is_fit(&endpoint)), (0, true));
        board.set(&endpoint, false);
        board.set(&endpoint, false);
        assert_eq!((board.version(), board.is_fit(&endpoint)), (1, false));
        board.retain(|_| false);
        assert_eq!((board.version(), board.is_fit(&endpoint)), (2, true));
    }
}
