//! Counts of calls, connections and handshakes, with bounded labels.
//!
//! Cardinality is bounded at the source: targets that the configuration does not name are one
//! label value together, and no label holds what a caller sent.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::broadcast;

use crate::failure::Reason;
use crate::record::{CallRecord, Direction, Verdict};
use crate::status::ProxyStatus;

/// Seconds; a proxy's own share of a call is tens of microseconds.
const DURATIONS: [f64; 18] = [
    0.000_05, 0.000_1, 0.000_15, 0.000_2, 0.000_3, 0.000_5, 0.000_75, 0.001, 0.002, 0.005, 0.01,
    0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 10.0,
];

/// More targets than this are counted as `other`.
const MOST_TARGETS: usize = 256;
const RECORDS: usize = 1024;

/// Where every call is told. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    records: broadcast::Sender<CallRecord>,
    targets: Mutex<HashSet<String>>,
    calls: Family<CallLabels, Counter>,
    durations: Family<DirectionLabel, Histogram, fn() -> Histogram>,
    connections: Family<DirectionLabel, Gauge>,
    handshake_failures: Family<ReasonLabels, Counter>,
    records_lost: Counter,
    feed_age: Gauge<f64, AtomicU64>,
    feed_connected: Gauge,
    revision: Gauge,
    live: Gauge,
    bypassable: Gauge,
    totals: [AtomicU64; 3],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    direction: &'static str,
    target: String,
    verdict: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    direction: &'static str,
    reason: &'static str,
}

/// Counts a connection while it is open.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    gauge: Gauge,
}

impl Journal {
    /// A journal, and its metrics in the registry.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let (records, _) = broadcast::channel(RECORDS);
        let histogram: fn() -> Histogram = || Histogram::new(DURATIONS);
        let inner = Inner {
            records,
            targets: Mutex::default(),
            calls: Family::default(),
            durations: Family::new_with_constructor(histogram),
            connections: Family::default(),
            handshake_failures: Family::default(),
            records_lost: Counter::default(),
            feed_age: Gauge::default(),
            feed_connected: Gauge::default(),
            revision: Gauge::default(),
            live: Gauge::default(),
            bypassable: Gauge::default(),
            totals: Default::default(),
        };
        inner.register(registry);
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<CallRecord> {
        self.inner.records.subscribe()
    }

    /// Tells of a call that has ended.
    pub(crate) fn write(&self, record: &CallRecord) {
        let direction = record.direction.as_str();
        let labels = CallLabels {
            direction,
            target: self.target_label(&record.target),
            verdict: record.verdict.as_str(),
            reason: record.reason.map_or("", Reason::code),
        };
        self.inner.calls.get_or_create(&labels).inc();
        let seconds = record.duration.as_secs_f64();
        let durations = &self.inner.durations;
        durations
            .get_or_create(&DirectionLabel { direction })
            .observe(seconds);
        self.inner.totals[index(record.verdict)].fetch_add(1, Ordering::Relaxed);
        if self.inner.records.receiver_count() > 0 {
            // Without a reader there is nobody to tell.
            drop(self.inner.records.send(record.clone()));
        }
    }

    pub(crate) fn connection(&self, direction: Direction) -> OpenConnection {
        let label = DirectionLabel {
            direction: direction.as_str(),
        };
        let gauge = self.inner.connections.get_or_create(&label).clone();
        gauge.inc();
        OpenConnection { gauge }
    }

    pub(crate) fn handshake_failed(&self, direction: Direction, reason: Reason) {
        let labels = ReasonLabels {
            direction: direction.as_str(),
            reason: reason.code(),
        };
        self.inner.handshake_failures.get_or_create(&labels).inc();
    }

    pub(crate) fn records_lost(&self, count: u64) {
        self.inner.records_lost.inc_by(count);
    }

    /// Takes over what the status says.
    pub(crate) fn note(&self, status: &ProxyStatus) {
        let age = status
            .ca_heard_ms_ago
            .map_or(f64::NAN, |ms| ms as f64 / 1000.0);
        self.inner.feed_age.set(age);
        self.inner
            .feed_connected
            .set(i64::from(status.feed_connected));
        let number = status
            .revision
            .as_deref()
            .and_then(|it| it.rsplit_once('-')?.1.parse().ok());
        self.inner.revision.set(number.unwrap_or(0));
        self.inner
            .live
            .set(i64::try_from(status.live_streams).unwrap_or(i64::MAX));
        self.inner
            .bypassable
            .set(i64::try_from(status.bypassable.len()).unwrap_or(i64::MAX));
    }

    /// How many calls ended with this verdict.
    pub(crate) fn total(&self, verdict: Verdict) -> u64 {
        self.inner.totals[index(verdict)].load(Ordering::Relaxed)
    }

    /// A target is a label of its own if it is the first few hundredth.
    fn target_label(&self, target: &str) -> String {
        let mut targets = self
            .inner
            .targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !targets.contains(target) && targets.len() < MOST_TARGETS {
            targets.insert(target.to_owned());
        }
        if targets.contains(target) {
            target
        } else {
            "other"
        }
        .to_owned()
    }
}

impl Inner {
    fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("countersign_proxy");
        registry.register(
            "calls",
            "Requests and TCP connections that ended",
            self.calls.clone(),
        );
        let help = "How long calls took, to the last byte";
        registry.register_with_unit("call_duration", help, Unit::Seconds, self.durations.clone());
        registry.register(
            "connections",
            "Connections open now",
            self.connections.clone(),
        );
        let help = "TLS handshakes between proxies that failed";
        registry.register("handshake_failures", help, self.handshake_failures.clone());
        let help = "Call records that no reader took in time";
        registry.register("call_records_lost", help, self.records_lost.clone());
        let help = "Since the CA was last heard";
        registry.register_with_unit("ca_heard_age", help, Unit::Seconds, self.feed_age.clone());
        let help = "Whether the agent feeds this proxy";
        registry.register("feed_connected", help, self.feed_connected.clone());
        let help = "Number of the revision that decisions are made by";
        registry.register("revision", help, self.revision.clone());
        registry.register("live_streams", "Calls going on now", self.live.clone());
        let help = "Application ports that can be reached around the proxy";
        registry.register("bypassable_ports", help, self.bypassable.clone());
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

fn index(verdict: Verdict) -> usize {
    match verdict {
        Verdict::Allowed => 0,
        Verdict::Denied => 1,
        Verdict::Failed => 2,
    }
}
