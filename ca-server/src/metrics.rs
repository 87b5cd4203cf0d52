//! What this replica counts. Labels are stable codes, so their number is bounded.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// A cheap handle on all of them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    issued: Counter,
    attestations: Family<Outcome, Counter>,
    agent_requests: Family<Request, Counter>,
    record_groups: Histogram,
    enforcement: Histogram,
    connected: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    kind: &'static str,
}

impl Metrics {
    /// Registers all of them.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let inner = Inner {
            issued: Counter::default(),
            attestations: Family::default(),
            agent_requests: Family::default(),
            record_groups: Histogram::new(exponential_buckets(1.0, 2.0, 12)),
            enforcement: Histogram::new(exponential_buckets(0.001, 2.0, 18)),
            connected: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("countersign_ca");
        registry.register(
            "svids_issued",
            "SVIDs signed, recorded and released",
            inner.issued.clone(),
        );
        registry.register(
            "attestations",
            "Attestations, by attestor or by the code of their refusal",
            inner.attestations.clone(),
        );
        registry.register(
            "agent_requests",
            "What agents asked for: calls by service, and messages on watch streams; no PINGs",
            inner.agent_requests.clone(),
        );
        registry.register(
            "record_group_size",
            "Issuance records in one durable commit",
            inner.record_groups.clone(),
        );
        registry.register(
            "enforcement_seconds",
            "From the commit of a revision to the last agent's acknowledgement",
            inner.enforcement.clone(),
        );
        registry.register(
            "connected_agents",
            "Agents with a watch stream to this replica",
            inner.connected.clone(),
        );
        Self(Arc::new(inner))
    }

    pub(crate) fn issued(&self, count: usize) {
        self.0.issued.inc_by(count as u64);
    }

    pub(crate) fn attestation(&self, result: &'static str) {
        self.0.attestations.get_or_create(&Outcome { result }).inc();
    }

    /// `kind` is a service, or `watch-message`.
    pub(crate) fn agent_request(&self, kind: &'static str) {
        self.0.agent_requests.get_or_create(&Request { kind }).inc();
    }

    pub(crate) fn record_group(&self, records: usize) {
        self.0.record_groups.observe(records as f64);
    }

    pub(crate) fn enforced(&self, after: time::Duration) {
        self.0.enforcement.observe(after.as_seconds_f64());
    }

    pub(crate) fn connected(&self, agents: usize) {
        self.0.connected.set(agents as i64);
    }
}
