//! Numbers that rise and fall with each target: what balancing, breakers and limits know.
//!
//! A gauge shows from the first time it is asked for until its last handle is dropped. Beyond the
//! limit of series a target's numbers are not shown, for a sum of them would mean nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// What a gauge tells about a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Endpoints that calls may go to.
    EndpointsAvailable,
    /// Endpoints that the breaker has taken out.
    EndpointsEjected,
    /// Endpoints that failed their health check.
    EndpointsUnhealthy,
    /// Requests in flight that the bulkhead counts.
    InFlight,
    /// The most of them.
    InFlightLimit,
    /// Requests that wait for a connection.
    Pending,
    /// Connections to peers that are kept open.
    PooledConnections,
    /// Retries and hedges that may be made at once.
    RetryBudget,
    /// Requests that the rate limit would let in at once.
    RateLimitTokens,
}

/// A handle to one number. Cheap to clone; the number goes with the last one.
#[derive(Clone, Debug)]
pub(crate) struct Gauge(Arc<AtomicI64>);

/// All numbers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Gauges {
    limit: usize,
    levels: Arc<Mutex<Levels>>,
}

type Levels = BTreeMap<(Level, String), Weak<AtomicI64>>;

impl Level {
    pub(crate) const ALL: [Self; 9] = [
        Self::EndpointsAvailable,
        Self::EndpointsEjected,
        Self::EndpointsUnhealthy,
        Self::InFlight,
        Self::InFlightLimit,
        Self::Pending,
        Self::PooledConnections,
        Self::RetryBudget,
        Self::RateLimitTokens,
    ];

    fn name_and_help(self) -> (&'static str, &'static str) {
        match self {
            Self::EndpointsAvailable => ("endpoints_available", "Endpoints that calls may go to"),
            Self::EndpointsEjected => ("endpoints_ejected", "Endpoints the breaker has taken out"),
            Self::EndpointsUnhealthy => ("endpoints_unhealthy", "Endpoints that failed a check"),
            Self::InFlight => ("in_flight", "Requests that the bulkhead counts"),
            Self::InFlightLimit => ("in_flight_limit", "The most requests the bulkhead lets in"),
            Self::Pending => ("pending", "Requests that wait for a connection"),
            Self::PooledConnections => ("pooled_connections", "Connections to peers kept open"),
            Self::RetryBudget => (
                "retry_budget",
                "Retries and hedges that may be made at once",
            ),
            Self::RateLimitTokens => ("rate_limit_tokens", "Requests that may come at once"),
        }
    }
}

impl Gauge {
    pub(crate) fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Gauges {
    pub(crate) fn register(registry: &mut Registry, limit: usize) -> Self {
        let gauges = Self {
            limit,
            levels: Arc::default(),
        };
        registry.register_collector(Box::new(gauges.clone()));
        gauges
    }

    /// The number of this target; two who ask share it.
    pub(crate) fn gauge(&self, level: Level, target: &str) -> Gauge {
        let mut levels = self.lock();
        let key = (level, target.to_owned());
        if let Some(known) = levels.get(&key).and_then(Weak::upgrade) {
            return Gauge(known);
        }
        levels.retain(|_, number| number.strong_count() > 0);
        let number = Arc::new(AtomicI64::new(0));
        if levels.len() < self.limit * Level::ALL.len() {
            levels.insert(key, Arc::downgrade(&number));
        }
        Gauge(number)
    }

    /// Every change under the lock is complete before anything can panic.
    fn lock(&self) -> MutexGuard<'_, Levels> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let levels = self.lock();
        for level in Level::ALL {
            let (name, help) = level.name_and_help();
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for ((_, target), number) in levels.iter().filter(|((it, _), _)| *it == level) {
                if let Some(number) = number.upgrade() {
                    let labels = [("target", target.as_str())];
                    let value = number.load(Ordering::Relaxed);
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn beyond_the_limit_a_target_is_not_shown() {
        let mut registry = Registry::default();
        let gauges = Gauges::register(&mut registry, 1);
        let held: Vec<Gauge> = (0..=Level::ALL.len())
            .map(|at| gauges.gauge(Level::Pending, &format!("shop/s{at}:http")))
            .collect();
        assert_eq!(text(&registry).matches("pending{").count(), held.len() - 1);
    }

    #[test]
    fn a_number_goes_with_its_last_handle() {
        let mut registry = Registry::default();
        let gauges = Gauges::register(&mut registry, 10);
        let gauge = gauges.gauge(Level::EndpointsEjected, "shop/orders:http");
        gauges
            .gauge(Level::EndpointsEjected, "shop/orders:http")
            .set(2);
        let line = "endpoints_ejected{target=\"shop/orders:http\"} 2";
        assert!(text(&registry).contains(line), "{}", text(&registry));
        drop(gauge);
        assert!(!text(&registry).contains(line));
    }
}
