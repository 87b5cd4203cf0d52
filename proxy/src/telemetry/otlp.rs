//! Sends spans to an OpenTelemetry collector: OTLP over gRPC, in batches.
//!
//! Invariant: it takes what the queue holds and never makes a call wait. What a collector does not
//! take, because it is away for too long or refuses, is dropped and counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crypto::random::{Random, SystemRandom};
use proto::otlp::v1::trace_service_client::TraceServiceClient;
use proto::otlp::v1::{ExportTraceServiceRequest, Resource, ResourceSpans, ScopeSpans, Span};
use runtime::{Backoff, Clock};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::metrics::SpanCounts;
use super::otlp_tls::Secure;
use super::span;
use crate::config::{InvalidConfig, Tracing};
use crate::record::CallRecord;

/// Spans of one request.
const BATCH: usize = 512;
/// A span waits at most this long for others.
const LINGER: Duration = Duration::from_secs(1);
const REQUEST: Duration = Duration::from_secs(10);
/// A batch is tried for this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// All that is left when the proxy ends.
const FLUSH: Duration = Duration::from_secs(2);

/// The task that sends.
#[derive(Debug)]
pub(crate) struct Exporter {
    spans: Receiver<Arc<CallRecord>>,
    client: TraceServiceClient<Channel>,
    resource: Resource,
    counts: SpanCounts,
}

/// What became of one request.
enum Sent {
    /// With the number of spans that the collector refused.
    Taken(u64),
    Again,
    Refused(Status),
}

impl Exporter {
    /// Connects with the first batch.
    ///
    /// # Errors
    /// If the endpoint is no URL.
    pub(super) fn new(
        config: &Tracing,
        resource: Resource,
        spans: Receiver<Arc<CallRecord>>,
        counts: SpanCounts,
        clock: Clock,
    ) -> Result<Self, InvalidConfig> {
        let endpoint = Endpoint::from_shared(config.endpoint.clone());
        let endpoint = endpoint.map_err(|_| InvalidConfig::Tracing {
            field: "endpoint",
            rule: "is no URL",
        })?;
        let endpoint = endpoint.timeout(REQUEST).connect_timeout(REQUEST);
        let channel = match Secure::new(config, clock) {
            Some(secure) => secure.channel(&endpoint),
            None => endpoint.connect_lazy(),
        };
        Ok(Self {
            spans,
            client: TraceServiceClient::new(channel),
            resource,
            counts,
        })
    }

    /// Sends until `stop` resolves; then what is left, within a short time.
    ///
    /// # Errors
    /// Never.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Infallible> {
        let mut stop = std::pin::pin!(stop);
        loop {
            let batch = tokio::select! {
                batch = self.batch() => batch,
                () = stop.as_mut() => break,
            };
            if batch.is_empty() {
                return Ok(());
            }
            let count = batch.len() as u64;
            let sent = tokio::select! {
                () = self.send(batch.clone()) => true,
                () = stop.as_mut() => false,
            };
            if !sent {
                let last = timeout(FLUSH, self.attempt(batch)).await;
                self.settle(count, last.ok());
                break;
            }
        }
        self.flush().await;
        Ok(())
    }

    /// The next batch; empty if there will be none.
    async fn batch(&mut self) -> Vec<Span> {
        let mut records = Vec::new();
        if self.spans.recv_many(&mut records, BATCH).await == 0 {
            return Vec::new();
        }
        let end = Instant::now() + LINGER;
        while records.len() < BATCH {
            let room = BATCH - records.len();
            match timeout_at(end, self.spans.recv_many(&mut records, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        to_spans(&records)
    }

    async fn send(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let end = Instant::now() + PATIENCE;
        let mut backoff =
            Backoff::try_new(Duration::from_millis(250), Duration::from_secs(10), 0.5)
                .expect("the literals are in order");
        loop {
            match self.attempt(batch.clone()).await {
                Sent::Again if Instant::now() < end => {
                    tokio::time::sleep(backoff.next(SystemRandom.unit())).await;
                }
                settled => return self.settle(count, Some(settled)),
            }
        }
    }

    /// Everything in the queue, once.
    async fn flush(&mut self) {
        self.spans.close();
        let end = Instant::now() + FLUSH;
        let mut records = Vec::new();
        while self.spans.recv_many(&mut records, BATCH).await > 0 {
            let spans = to_spans(&records);
            records.clear();
            let count = spans.len() as u64;
            let sent = timeout_at(end, self.attempt(spans)).await;
            self.settle(count, sent.ok());
        }
    }

    async fn attempt(&mut self, spans: Vec<Span>) -> Sent {
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(span::scope()),
                    spans,
                }],
            }],
        };
        match self.client.export(request).await {
            Ok(answer) => {
                let partial = answer.into_inner().partial_success;
                let refused = partial.map_or(0, |it| it.rejected_spans);
                Sent::Taken(u64::try_from(refused).unwrap_or(0))
            }
            Err(status) if is_worth_another(&status) => {
                tracing::debug!(code = ?status.code(), "the trace collector does not answer");
                Sent::Again
            }
            Err(status) => Sent::Refused(status),
        }
    }

    fn settle(&self, count: u64, sent: Option<Sent>) {
        match sent {
            Some(Sent::Taken(refused)) => {
                let refused = refused.min(count);
                self.counts.exported(count - refused);
                self.counts.dropped(refused);
            }
            Some(Sent::Refused(status)) => {
                tracing::warn!(code = ?status.code(), count, "the trace collector refuses spans");
                self.counts.dropped(count);
            }
            Some(Sent::Again) | None => self.counts.dropped(count),
        }
    }
}

fn to_spans(records: &[Arc<CallRecord>]) -> Vec<Span> {
    records.iter().filter_map(|it| span::of(it)).collect()
}

/// OTLP specification, "Failures": what may be sent again.
fn is_worth_another(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
    )
}
