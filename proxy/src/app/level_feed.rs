//! Feeds the gauges of targets from what the machines of traffic know.
//!
//! It looks, a few times a second: nothing on a call's way does anything for a gauge. What several
//! workers see in different ways is told as the worker sees it that is worst off.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::service_port::ServicePort;
use crate::state::{MeshState, Served};
use crate::telemetry::{Gauge, Journal, Level};
use crate::traffic::settings::{Budget, RateLimit};
use crate::traffic::shared::{Callee, Shared};

/// The gauges that are shown at present.
#[derive(Debug)]
pub(super) struct LevelFeed {
    journal: Journal,
    shared: Shared,
    shown: HashMap<(Level, ServicePort), Gauge>,
}

/// What one look finds.
type Found = HashMap<(Level, ServicePort), i64>;

impl LevelFeed {
    pub(super) fn new(journal: Journal, shared: Shared) -> Self {
        Self {
            journal,
            shared,
            shown: HashMap::new(),
        }
    }

    /// Looks at everything once. What is not there any more is not shown any more.
    pub(super) fn note(&mut self, state: &MeshState, now: Instant) {
        let mut found = Found::new();
        for (port, served) in &state.served {
            self.of_served(port, served, now, &mut found);
        }
        for (port, callee) in self.shared.all_called() {
            of_called(&port, &callee, &mut found);
            if let Some(left) = retry_budget(state, &port, &callee, now) {
                found.insert((Level::RetryBudget, port), left);
            }
        }
        self.shared.expire(now);
        self.shown.retain(|key, _| found.contains_key(key));
        for ((level, port), value) in found {
            let shown = self.shown.entry((level, port)).or_insert_with_key(|key| {
                let (level, port) = key;
                self.journal.level(*level, &port.to_string())
            });
            shown.set(value);
        }
    }

    fn of_served(&self, port: &ServicePort, served: &Served, now: Instant, found: &mut Found) {
        let traffic = &served.traffic;
        if traffic.bulkhead.is_none() && traffic.rate_limit.is_none() {
            return;
        }
        let limits = self.shared.served(port);
        let mut tell = |level, value| _ = found.insert((level, port.clone()), value);
        tell(Level::InFlight, i64::from(limits.in_flight()));
        if let Some(limit) = traffic.bulkhead.as_ref().and_then(|it| it.in_flight) {
            tell(Level::InFlightLimit, i64::from(limit));
        }
        let rate = traffic.rate_limit.as_ref().map(RateLimit::from);
        if let Some(rate) = rate.and_then(|it| it.all) {
            tell(Level::RateLimitTokens, number(limits.tokens(rate, now)));
        }
    }
}

fn of_called(port: &ServicePort, callee: &Callee, found: &mut Found) {
    let Some(counts) = callee.worst() else {
        return;
    };
    let mut tell = |level, value| _ = found.insert((level, port.clone()), value);
    tell(Level::EndpointsAvailable, number(counts.available as u64));
    tell(Level::EndpointsEjected, number(counts.ejected as u64));
    tell(Level::EndpointsUnhealthy, number(counts.unhealthy as u64));
    tell(Level::Pending, i64::from(callee.pending.inside()));
    let connections = i64::from(callee.connections.inside());
    tell(Level::PooledConnections, connections);
}

/// What the strictest of the rules that lead to the port has left.
fn retry_budget(
    state: &MeshState,
    port: &ServicePort,
    callee: &Callee,
    now: Instant,
) -> Option<i64> {
    let rules = state.routes.values().flat_map(|route| {
        let rules = route.rules.iter();
        let leading = rules.filter(|rule| {
            let mut to = rule.backends.iter();
            route.port == port.port && to.any(|it| route.service_of(&it.service) == port.service)
        });
        leading.filter_map(|rule| rule.retry.as_ref())
    });
    let left = rules.map(|retry| {
        let budget = Budget {
            ratio: retry.budget.ratio.as_f64(),
            min_per_second: retry.budget.min_per_second,
        };
        callee.budget.left(&budget, now)
    });
    left.min().map(number)
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
