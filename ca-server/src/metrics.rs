//! What this replica counts. Labels are stable codes, so their number is bounded.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::horizon::{EndingKind, Horizon};

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
    earliest_end: Family<Ends, Seconds>,
    late: Gauge,
    survives: Seconds,
    clock_offset: Seconds,
    store_away: Gauge,
    spooled: Gauge,
    revocations_waiting: Gauge,
    log_leaves: Gauge,
    log_delay: Histogram,
    unlogged: Counter,
}

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ends {
    kind: &'static str,
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
            earliest_end: Family::default(),
            late: Gauge::default(),
            survives: Seconds::default(),
            clock_offset: Seconds::default(),
            store_away: Gauge::default(),
            spooled: Gauge::default(),
            revocations_waiting: Gauge::default(),
            log_leaves: Gauge::default(),
            log_delay: Histogram::new(exponential_buckets(0.1, 2.0, 12)),
            unlogged: Counter::default(),
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
            "From the commit of a revision to the last acknowledgement of this replica's agents",
            inner.enforcement.clone(),
        );
        registry.register(
            "connected_agents",
            "Agents with a watch stream to this replica",
            inner.connected.clone(),
        );
        inner.register_vitals(registry);
        inner.register_log(registry);
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

    pub(crate) fn enforced(&self, after: Duration) {
        self.0.enforcement.observe(after.as_secs_f64());
    }

    /// Of a kind of which there is nothing, nothing is told.
    pub(crate) fn horizon(&self, horizon: &Horizon) {
        for kind in EndingKind::ALL {
            let label = Ends {
                kind: kind.as_str(),
            };
            match horizon.first(kind) {
                Some(ending) => {
                    let at = ending.not_after.unix_timestamp() as f64;
                    self.0.earliest_end.get_or_create(&label).set(at);
                }
                None => drop(self.0.earliest_end.remove(&label)),
            }
        }
        self.0.late.set(horizon.late_count as i64);
        let survives = horizon.survives(horizon.at);
        self.0
            .survives
            .set(survives.map_or(f64::NAN, |left| left.as_secs_f64()));
    }

    pub(crate) fn clock_offset(&self, offset: time::Duration) {
        self.0.clock_offset.set(offset.as_seconds_f64());
    }

    pub(crate) fn store_away(&self, away: bool, spooled: usize) {
        self.0.store_away.set(i64::from(away));
        self.0.spooled.set(spooled as i64);
    }

    pub(crate) fn revocations_waiting(&self, count: usize) {
        self.0.revocations_waiting.set(count as i64);
    }

    /// `delay` is of the oldest record among the new leaves, if there is one.
    pub(crate) fn log_grew(&self, size: u64, delay: Option<time::Duration>) {
        self.0
            .log_leaves
            .set(i64::try_from(size).unwrap_or(i64::MAX));
        if let Some(delay) = delay {
            self.0.log_delay.observe(delay.as_seconds_f64());
        }
    }

    pub(crate) fn unlogged(&self, leaves: usize) {
        self.0.unlogged.inc_by(leaves as u64);
    }

    pub(crate) fn connected(&self, agents: usize) {
        self.0.connected.set(agents as i64);
    }
}

impl Inner {
    fn register_log(&self, registry: &mut Registry) {
        registry.register(
            "log_leaves",
            "Leaves of the transparency log when this replica last added some",
            self.log_leaves.clone(),
        );
        registry.register(
            "unlogged_leaves",
            "Certificates that proxies saw and that were never recorded: an alarm",
            self.unlogged.clone(),
        );
        registry.register(
            "log_merge_delay_seconds",
            "From the oldest record of a step to its leaf in the transparency log",
            self.log_delay.clone(),
        );
    }

    fn register_vitals(&self, registry: &mut Registry) {
        registry.register(
            "earliest_end_timestamp_seconds",
            "When the first of a kind ends: root, intermediate, agent, workload; Unix time",
            self.earliest_end.clone(),
        );
        registry.register(
            "late_certificates",
            "Certificates of agents and workloads that should have been renewed",
            self.late.clone(),
        );
        registry.register(
            "store_away",
            "1 while renewals are recorded in the spool",
            self.store_away.clone(),
        );
        registry.register(
            "spooled_records",
            "Records that wait for the store",
            self.spooled.clone(),
        );
        registry.register(
            "spooled_revocations",
            "Revocations that are obeyed here and wait for the store",
            self.revocations_waiting.clone(),
        );
        registry.register_with_unit(
            "survives",
            "How long calls go on if nothing is signed from now on; NaN without workloads",
            Unit::Seconds,
            self.survives.clone(),
        );
        registry.register_with_unit(
            "clock_offset",
            "This replica's clock minus the database's",
            Unit::Seconds,
            self.clock_offset.clone(),
        );
    }
}
