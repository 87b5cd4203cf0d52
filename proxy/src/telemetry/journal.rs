//! Where every call is told when it has ended.
//!
//! Invariant: counts are kept for every call and cost no allocation; a record is built only while
//! somebody listens. Nobody who listens holds up a call: who is too slow loses the oldest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use prometheus_client::registry::Registry;
use runtime::Clock;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use super::exposition::Exposition;
use super::levels::{Gauges, Level};
use super::metrics::{Metrics, OpenConnection};
use super::otlp::Exporter;
use super::series::{Book, Key, Series, Shard, Totals};
use super::span;
use super::tracer::{Trace, Tracer};
use crate::config::{self, Config, InvalidConfig};
use crate::failure::Reason;
use crate::record::{CallRecord, Direction, NetworkProtocol, Verdict};
use crate::status::ProxyStatus;

/// Records that a reader may be behind.
const RECORDS: usize = 1024;

/// Tells counts and records. Cheap to clone; each worker takes a [`Journal::shard`] of its own.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    inner: Arc<Inner>,
    shard: Arc<Shard>,
}

#[derive(Debug)]
struct Inner {
    book: Arc<Book>,
    records: broadcast::Sender<Arc<CallRecord>>,
    metrics: Metrics,
    levels: Gauges,
    tracer: Tracer,
    spans: Mutex<Option<mpsc::Receiver<Arc<CallRecord>>>>,
    totals: [AtomicU64; Verdict::ALL.len()],
}

/// What is counted of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// None is success.
    pub(crate) reason: Option<Reason>,
    pub(crate) status: Option<u16>,
    pub(crate) duration: Duration,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) retries: u32,
}

impl Journal {
    /// A journal, and its metrics in the registry.
    pub(crate) fn register(
        registry: &mut Registry,
        config: &config::Metrics,
        tracing: Option<&config::Tracing>,
    ) -> Self {
        let registry = registry.sub_registry_with_prefix("countersign_proxy");
        let (records, _) = broadcast::channel(RECORDS);
        let book = Arc::new(Book::new(config));
        let exposition = Exposition::new(Arc::clone(&book), config.labels.clone());
        registry.register_collector(Box::new(exposition));
        let metrics = Metrics::register(registry);
        let (tracer, spans) = match tracing {
            Some(tracing) => {
                let (tracer, spans) = Tracer::on(tracing, metrics.spans());
                (tracer, Some(spans))
            }
            None => (Tracer::off(), None),
        };
        Self {
            shard: book.shard(),
            inner: Arc::new(Inner {
                metrics,
                tracer,
                spans: Mutex::new(spans),
                levels: Gauges::register(registry, config.series),
                book,
                records,
                totals: Default::default(),
            }),
        }
    }

    /// The same journal for another worker, which counts by itself.
    pub(crate) fn shard(&self) -> Self {
        Self {
            shard: self.inner.book.shard(),
            inner: Arc::clone(&self.inner),
        }
    }

    /// Where calls between these two are counted. For a connection to keep: looking it up costs
    /// more than counting.
    pub(crate) fn series(
        &self,
        direction: Direction,
        protocol: NetworkProtocol,
        source: &Arc<str>,
        target: &Arc<str>,
    ) -> Series {
        let key = Key {
            direction,
            protocol,
            source: Arc::clone(source),
            target: Arc::clone(target),
        };
        self.inner.book.series(&self.shard, key)
    }

    /// Counts a call that has ended.
    pub(crate) fn count(&self, series: &Series, outcome: &Outcome) {
        series.count(outcome);
        let verdict = Verdict::of(outcome.reason);
        self.inner.totals[verdict as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a record would be read by anybody.
    pub(crate) fn is_observed(&self) -> bool {
        self.inner.records.receiver_count() > 0
    }

    /// Tells whoever listens, and the trace that it belongs to.
    pub(crate) fn tell(&self, record: CallRecord) {
        let record = Arc::new(record);
        if record.trace.as_ref().is_some_and(|it| it.span.is_some()) {
            self.inner.tracer.export(&record);
        }
        if self.is_observed() {
            // A reader that has just left misses nothing.
            drop(self.inner.records.send(record));
        }
    }

    /// Reads the trace context that a request brings.
    pub(crate) fn trace(&self, fields: &HeaderMap) -> Trace {
        self.inner.tracer.arrive(fields, self.is_observed())
    }

    /// The task that sends spans; `None` where nothing is traced, or if it was taken before.
    ///
    /// # Errors
    /// If the collector's endpoint is no URL.
    pub(crate) fn exporter(
        &self,
        config: &Config,
        clock: Clock,
    ) -> Result<Option<Exporter>, InvalidConfig> {
        let spans = &self.inner.spans;
        let spans = spans.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(spans), Some(tracing)) = (spans, &config.tracing) else {
            return Ok(None);
        };
        let resource = span::resource(&config.workload);
        Exporter::new(tracing, resource, spans, self.inner.metrics.spans(), clock).map(Some)
    }

    /// All counts of calls.
    pub(super) fn read(&self) -> BTreeMap<Key, Totals> {
        self.inner.book.read()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<CallRecord>> {
        self.inner.records.subscribe()
    }

    pub(crate) fn connection(&self, direction: Direction) -> OpenConnection {
        self.inner.metrics.connection(direction)
    }

    /// A TLS handshake between proxies has ended, well if there is no reason.
    pub(crate) fn handshake(&self, direction: Direction, reason: Option<Reason>, took: Duration) {
        self.inner.metrics.handshake(direction, reason, took);
    }

    pub(crate) fn records_lost(&self, reader: &'static str, count: u64) {
        self.inner.metrics.records_lost(reader, count);
    }

    /// A number about a target that changes: an ejection, what is in flight, a limit.
    pub(crate) fn level(&self, level: Level, target: &str) -> super::levels::Gauge {
        self.inner.levels.gauge(level, target)
    }

    /// Takes over what the status says, and forgets series that ended.
    pub(crate) fn note(&self, status: &ProxyStatus) {
        self.inner.metrics.note(status);
        self.inner.book.expire(Instant::now());
    }

    /// How many calls ended with this verdict.
    pub(crate) fn total(&self, verdict: Verdict) -> u64 {
        self.inner.totals[verdict as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(registry: &mut Registry) -> Journal {
        Journal::register(registry, &config::Metrics::default(), None)
    }

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    fn call(journal: &Journal, reason: Option<Reason>) {
        let (source, target) = (Arc::from("spiffe://td/a"), Arc::from("shop/orders:http"));
        let (direction, protocol) = (Direction::Inbound, NetworkProtocol::Http2);
        let series = journal.series(direction, protocol, &source, &target);
        let outcome = Outcome {
            reason,
            status: Some(reason.map_or(200, |it| it.status().as_u16())),
            duration: Duration::from_micros(60),
            bytes_in: 3,
            bytes_out: 5,
            retries: 0,
        };
        journal.count(&series, &outcome);
    }

    #[test]
    fn a_denied_call_is_counted_by_its_reason_and_not_as_allowed() {
        let mut registry = Registry::default();
        let journal = journal(&mut registry);
        call(&journal, Some(Reason::PolicyDenied));
        let line = "countersign_proxy_calls_total{direction=\"inbound\",source=\"spiffe://td/a\",\
                    target=\"shop/orders:http\",protocol=\"http/2\",verdict=\"denied\",\
                    reason=\"policy-denied\",status_class=\"4xx\"} 1\n";
        assert!(text(&registry).contains(line), "{}", text(&registry));
        assert_eq!(journal.total(Verdict::Allowed), 0);
    }

    #[test]
    fn what_workers_count_is_added_up() {
        let mut registry = Registry::default();
        let journal = journal(&mut registry);
        let worker = journal.shard();
        call(&journal, None);
        call(&worker, None);
        let labels = "direction=\"inbound\",source=\"spiffe://td/a\",\
                      target=\"shop/orders:http\",protocol=\"http/2\"";
        for sample in [
            format!("call_duration_seconds_bucket{{le=\"0.000075\",{labels}}} 2\n"),
            format!("call_duration_seconds_bucket{{le=\"0.00005\",{labels}}} 0\n"),
            format!("call_sent_bytes_total{{{labels}}} 10\n"),
        ] {
            assert!(text(&registry).contains(&sample), "{}", text(&registry));
        }
    }

    #[test]
    fn a_level_of_a_target_is_shown() {
        let mut registry = Registry::default();
        let journal = journal(&mut registry);
        let level = journal.level(Level::InFlight, "shop/orders:http");
        level.set(7);
        let line = "countersign_proxy_in_flight{target=\"shop/orders:http\"} 7\n";
        assert!(text(&registry).contains(line), "{}", text(&registry));
    }

    #[test]
    fn nobody_listens_until_somebody_does() {
        let journal = journal(&mut Registry::default());
        assert!(!journal.is_observed());
        let records = journal.subscribe();
        assert!(journal.is_observed());
        drop(records);
        assert!(!journal.is_observed());
    }
}
