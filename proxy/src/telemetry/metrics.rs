//! Counts of connections and handshakes, and the state of the proxy itself.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use time::OffsetDateTime;

use crate::failure::Reason;
use crate::record::Direction;
use crate::status::ProxyStatus;

/// Seconds. A resumed handshake takes hundreds of microseconds, one across the world a second.
const HANDSHAKES: [f64; 12] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

#[derive(Debug)]
pub(super) struct Metrics {
    connections: Family<DirectionLabel, Gauge>,
    connections_opened: Family<DirectionLabel, Counter>,
    handshakes: Family<ReasonLabels, Counter>,
    handshake_durations: Family<DirectionLabel, Histogram, fn() -> Histogram>,
    records_lost: Family<ReaderLabel, Counter>,
    spans: SpanCounts,
    feed_age: Gauge<f64, AtomicU64>,
    feed_connected: Gauge,
    revision: Gauge,
    live: Gauge,
    bypassable: Gauge,
    gateway_problems: Gauge,
    gateway_not_after: Gauge<f64, AtomicU64>,
}

const GATEWAY_NOT_AFTER: &str = "gateway_certificate_not_after_timestamp";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    direction: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReaderLabel {
    reader: &'static str,
}

/// What became of spans. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct SpanCounts {
    exported: Counter,
    dropped: Counter,
}

/// Counts a connection while it is open.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    gauge: Gauge,
}

impl SpanCounts {
    pub(super) fn exported(&self, count: u64) {
        self.exported.inc_by(count);
    }

    pub(super) fn dropped(&self, count: u64) {
        self.dropped.inc_by(count);
    }

    #[cfg(test)]
    pub(super) fn count_dropped(&self) -> u64 {
        self.dropped.get()
    }
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(HANDSHAKES);
        let metrics = Self {
            connections: Family::default(),
            connections_opened: Family::default(),
            handshakes: Family::default(),
            handshake_durations: Family::new_with_constructor(histogram),
            records_lost: Family::default(),
            spans: SpanCounts::default(),
            feed_age: Gauge::default(),
            feed_connected: Gauge::default(),
            revision: Gauge::default(),
            live: Gauge::default(),
            bypassable: Gauge::default(),
            gateway_problems: Gauge::default(),
            gateway_not_after: Gauge::default(),
        };
        metrics.register_connections(registry);
        metrics.register_state(registry);
        metrics
    }

    pub(super) fn connection(&self, direction: Direction) -> OpenConnection {
        let label = DirectionLabel {
            direction: direction.as_str(),
        };
        let gauge = self.connections.get_or_create(&label).clone();
        gauge.inc();
        self.connections_opened.get_or_create(&label).inc();
        OpenConnection { gauge }
    }

    pub(super) fn handshake(&self, direction: Direction, reason: Option<Reason>, took: Duration) {
        let direction = direction.as_str();
        let labels = ReasonLabels {
            direction,
            reason: reason.map_or("", Reason::code),
        };
        self.handshakes.get_or_create(&labels).inc();
        let durations = &self.handshake_durations;
        durations
            .get_or_create(&DirectionLabel { direction })
            .observe(took.as_secs_f64());
    }

    pub(super) fn records_lost(&self, reader: &'static str, count: u64) {
        let label = ReaderLabel { reader };
        self.records_lost.get_or_create(&label).inc_by(count);
    }

    pub(super) fn spans(&self) -> SpanCounts {
        self.spans.clone()
    }

    /// Takes over what the status says.
    pub(super) fn note(&self, status: &ProxyStatus) {
        let age = status
            .ca_heard_ms_ago
            .map_or(f64::NAN, |ms| ms as f64 / 1000.0);
        self.feed_age.set(age);
        self.feed_connected.set(i64::from(status.feed_connected));
        let number = status
            .revision
            .as_deref()
            .and_then(|it| it.rsplit_once('-')?.1.parse().ok());
        self.revision.set(number.unwrap_or(0));
        let count = |it: usize| i64::try_from(it).unwrap_or(i64::MAX);
        self.live.set(count(status.live_streams));
        self.bypassable.set(count(status.bypassable.len()));
        let ports = status.gateways.iter();
        let problems = ports.map(|port| port.problems.len()).sum();
        self.gateway_problems.set(count(problems));
        let ends = status.gateways.iter().filter_map(|port| port.not_after);
        let end = ends.map(OffsetDateTime::unix_timestamp).min();
        self.gateway_not_after
            .set(end.map_or(f64::NAN, |end| end as f64));
    }

    fn register_connections(&self, registry: &mut Registry) {
        let help = "Connections open now";
        registry.register("connections", help, self.connections.clone());
        let help = "Connections that were opened";
        registry.register("connections_opened", help, self.connections_opened.clone());
        let help = "TLS handshakes of proxies and gateways that ended; without a reason, well";
        registry.register("handshakes", help, self.handshakes.clone());
        let help = "How long TLS handshakes of proxies and gateways took";
        let durations = self.handshake_durations.clone();
        registry.register_with_unit("handshake_duration", help, Unit::Seconds, durations);
        let help = "Call records that a reader did not take in time";
        registry.register("call_records_lost", help, self.records_lost.clone());
        let help = "Spans that the trace collector took";
        registry.register("spans_exported", help, self.spans.exported.clone());
        let help = "Spans that no trace collector took";
        registry.register("spans_dropped", help, self.spans.dropped.clone());
    }

    fn register_state(&self, registry: &mut Registry) {
        let help = "Since the CA was last heard";
        registry.register_with_unit("ca_heard_age", help, Unit::Seconds, self.feed_age.clone());
        let help = "Whether the agent feeds this proxy";
        registry.register("feed_connected", help, self.feed_connected.clone());
        let help = "Number of the revision that decisions are made by";
        registry.register("revision", help, self.revision.clone());
        registry.register("live_streams", "Calls going on now", self.live.clone());
        let help = "Application ports that can be reached around the proxy";
        registry.register("bypassable_ports", help, self.bypassable.clone());
        let help = "Ports and hosts of Gateways that are not served as they should be";
        registry.register("gateway_problems", help, self.gateway_problems.clone());
        let help = "When the first certificate that a Gateway shows expires, in Unix time";
        let not_after = self.gateway_not_after.clone();
        registry.register_with_unit(GATEWAY_NOT_AFTER, help, Unit::Seconds, not_after);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
