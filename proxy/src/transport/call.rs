//! One call from its first byte to its last, and what is told of it.
//!
//! Invariant: every call is counted exactly once, when it ends, however it ends; and a record of
//! it is told if anybody listens then.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use policy::{DecisionId, Rule};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::failure::Failure;
use super::http2_client::Lease;
use super::steering::Carried;
use crate::admit::{Denied, Permit};
use crate::failure::Reason;
use crate::head::PeerWords;
use crate::live::{Stream, Ticket};
use crate::record::{CallRecord, Direction, NetworkProtocol, Verdict};
use crate::telemetry::{Journal, Outcome, Series, Trace};
use crate::traffic::callers::Entry;

/// A call in progress. Dropping it counts it.
#[derive(Debug)]
pub(crate) struct Call {
    journal: Journal,
    direction: Direction,
    protocol: NetworkProtocol,
    at: OffsetDateTime,
    started: Instant,
    source: Arc<str>,
    target: Arc<str>,
    series: Option<Series>,
    ticket: Option<Ticket>,
    lease: Option<Lease>,
    carried: Option<Carried>,
    /// Its place within the limits of the port that it is for.
    entry: Option<Entry>,
    method: Option<Method>,
    /// As received; kept only if somebody listened when the call began.
    path: Option<String>,
    trace: Trace,
    status: Option<StatusCode>,
    rule: Option<Arc<Rule>>,
    reason: Option<Reason>,
    detail: Option<String>,
    decision: Option<DecisionId>,
    /// The decision in the other proxy's words; read only for a record.
    heard: Option<HeaderValue>,
    upstream: Option<(Instant, Option<Instant>)>,
    retries: u32,
    finished: bool,
    /// It is told to nobody.
    untold: bool,
}

impl Call {
    /// A call that nobody has judged or sent anywhere yet. On the heap: it is handed on from step to
    /// step, and is large.
    pub(crate) fn begin(
        journal: &Journal,
        direction: Direction,
        at: OffsetDateTime,
        protocol: NetworkProtocol,
        (source, target): (Arc<str>, Arc<str>),
    ) -> Box<Self> {
        Box::new(Self {
            journal: journal.clone(),
            direction,
            protocol,
            at,
            started: Instant::now(),
            source,
            target,
            series: None,
            ticket: None,
            lease: None,
            carried: None,
            entry: None,
            method: None,
            path: None,
            trace: Trace::default(),
            status: None,
            rule: None,
            reason: None,
            detail: None,
            decision: None,
            heard: None,
            upstream: None,
            retries: 0,
            finished: false,
            untold: false,
        })
    }

    /// When it began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn source(&self) -> &Arc<str> {
        &self.source
    }

    /// Where calls like this one are counted.
    pub(crate) fn series(&self) -> Series {
        let (direction, protocol) = (self.direction, self.protocol);
        let found = || {
            self.journal
                .series(direction, protocol, &self.source, &self.target)
        };
        self.series.clone().unwrap_or_else(found)
    }

    /// Where the Service that is called has been found.
    pub(crate) fn leads_to(&mut self, target: &Arc<str>) {
        self.target = Arc::clone(target);
        self.series = None;
    }

    /// A series that the connection keeps for calls like this one.
    pub(crate) fn counts_in(&mut self, series: &Series) {
        self.series = Some(series.clone());
    }

    pub(crate) fn asks(&mut self, method: &Method, path: &str, fields: &HeaderMap) {
        self.method = Some(method.clone());
        self.trace = self.journal.trace(fields);
        let is_told = self.journal.is_observed() || self.trace.is_recorded();
        self.path = is_told.then(|| path.to_owned());
    }

    /// Tells the next hop of the trace that the call belongs to.
    pub(crate) fn lead(&self, fields: &mut HeaderMap) {
        self.trace.lead(fields);
    }

    /// From here on a later configuration can end it.
    pub(crate) fn permitted(&mut self, permit: Permit) -> Arc<Stream> {
        self.rule = Some(Arc::clone(permit.rule()));
        self.decision = Some(*permit.decision());
        self.enter(permit.into_ticket())
    }

    /// From here on its limits of time count.
    pub(crate) fn enter(&mut self, ticket: Ticket) -> Arc<Stream> {
        let stream = Arc::clone(ticket.stream());
        self.ticket = Some(ticket);
        stream
    }

    /// Its place among the live streams, once it has one.
    pub(crate) fn stream(&self) -> Option<&Arc<Stream>> {
        self.ticket.as_ref().map(Ticket::stream)
    }

    pub(crate) fn denied(&mut self, denied: &Denied) {
        self.decision.clone_from(&denied.decision);
        self.fail(denied.reason, &denied.detail);
    }

    /// What the proxy on the other side said.
    pub(crate) fn heard(&mut self, words: PeerWords) {
        self.heard = words.decision;
        if let Some(reason) = words.reason {
            self.fail(reason, "said by the other proxy");
        }
    }

    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.fail(failure.reason, &failure.detail);
    }

    /// The first failure is the one that is remembered.
    pub(crate) fn fail(&mut self, reason: Reason, detail: &str) {
        if self.reason.is_none() {
            self.reason = Some(reason);
            self.detail = Some(detail.to_owned());
        }
    }

    /// Counts the stream on its connection until the call ends.
    pub(crate) fn hold(&mut self, lease: Option<Lease>) {
        self.lease = lease;
    }

    /// Is part of the load of an endpoint until the call ends.
    pub(crate) fn loads(&mut self, carried: Option<Carried>) {
        self.carried = carried;
    }

    /// The first attempt to reach the upstream begins.
    pub(crate) fn attempts(&mut self, now: Instant) {
        self.upstream.get_or_insert((now, None));
    }

    /// Counts within the limits of a port until the call ends.
    pub(crate) fn holds(&mut self, entry: Option<Entry>) {
        self.entry = entry;
    }

    pub(crate) fn retried(&mut self) {
        self.retries += 1;
    }

    /// The caller is answered with this.
    pub(crate) fn answered(&mut self, status: StatusCode, now: Instant) {
        self.status = Some(status);
        if let Some((_, answered)) = &mut self.upstream {
            answered.get_or_insert(now);
        }
    }

    pub(crate) fn decision(&self) -> Option<&DecisionId> {
        self.decision.as_ref()
    }

    /// The last byte was passed on.
    pub(crate) fn complete(&mut self) {
        self.finished = true;
    }

    /// The last byte was passed on; its trailers had this gRPC status.
    pub(crate) fn delivered(&mut self, grpc_status: Option<u8>) {
        self.complete();
        if let Some(carried) = self.carried.take() {
            carried.delivered(grpc_status);
        }
    }

    /// The other side broke its answer off.
    pub(crate) fn broken(&mut self, reason: Reason, detail: &str) {
        let ended = self.lease.as_ref().and_then(Lease::ended_by);
        let reason = ended.unwrap_or(reason);
        self.fail(reason, detail);
        if let Some(carried) = self.carried.take() {
            carried.broken(reason);
        }
    }

    /// Whether nothing more of it can be ended: what is left is to tell the caller.
    pub(crate) fn is_complete(&self) -> bool {
        self.finished
    }

    /// It turned out to be something that proxies say to each other.
    pub(crate) fn is_no_call(&mut self) {
        self.untold = true;
    }

    fn outcome(&self) -> Outcome {
        let stream = self.ticket.as_ref().map(Ticket::stream);
        Outcome {
            reason: self.reason,
            status: self.status.map(|it| it.as_u16()),
            duration: self.started.elapsed(),
            bytes_in: stream.map_or(0, |stream| stream.bytes_in()),
            bytes_out: stream.map_or(0, |stream| stream.bytes_out()),
            retries: self.retries,
        }
    }

    fn record(&mut self, outcome: &Outcome) -> CallRecord {
        let judged = self
            .ticket
            .as_ref()
            .and_then(|it| it.stream().judged_path());
        let upstream = self
            .upstream
            .and_then(|(began, ended)| Some(ended? - began));
        let heard = || self.heard.as_ref()?.to_str().ok()?.parse().ok();
        CallRecord {
            at: self.at,
            direction: self.direction,
            source: Arc::clone(&self.source),
            target: Arc::clone(&self.target),
            protocol: self.protocol,
            path: judged.map(str::to_owned).or_else(|| self.path.take()),
            method: self.method.take(),
            status: outcome.status,
            verdict: Verdict::of(outcome.reason),
            rule: self.rule.as_ref().map(ToString::to_string),
            reason: outcome.reason,
            detail: self.detail.take(),
            decision_id: self.decision.take().or_else(heard),
            trace: self.trace.take_link(),
            duration: outcome.duration,
            upstream_duration: upstream,
            bytes_in: outcome.bytes_in,
            bytes_out: outcome.bytes_out,
            retries: outcome.retries,
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.untold {
            return;
        }
        if !self.finished && self.reason.is_none() {
            let ended = self.ticket.as_ref().and_then(|it| it.stream().reason());
            self.reason = Some(ended.unwrap_or(Reason::CallerReset));
        }
        let outcome = self.outcome();
        self.journal.count(&self.series(), &outcome);
        if self.journal.is_observed() || self.trace.is_recorded() {
            let record = self.record(&outcome);
            self.journal.tell(record);
        }
    }
}
