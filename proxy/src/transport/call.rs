//! One call from its first byte to its last, and the record that it leaves.
//!
//! Invariant: every call leaves exactly one record, when it ends, however it ends.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::failure::Failure;
use super::peers::Lease;
use crate::admit::{Denied, Permit};
use crate::failure::Reason;
use crate::head::PeerWords;
use crate::live::{Stream, Ticket};
use crate::record::{CallRecord, Direction, Verdict};
use crate::telemetry::Journal;

/// A call in progress. Dropping it writes its record.
#[derive(Debug)]
pub(crate) struct Call {
    journal: Journal,
    started: Instant,
    ticket: Option<Ticket>,
    lease: Option<Lease>,
    record: CallRecord,
    finished: bool,
}

impl Call {
    /// A call that nobody has judged or sent anywhere yet.
    pub(crate) fn begin(
        journal: &Journal,
        direction: Direction,
        at: OffsetDateTime,
        protocol: &'static str,
    ) -> Self {
        let record = CallRecord {
            at,
            direction,
            source: String::new(),
            target: String::new(),
            method: None,
            path: None,
            status: None,
            verdict: Verdict::Failed,
            rule: None,
            reason: None,
            detail: None,
            decision_id: None,
            duration: Duration::ZERO,
            bytes_in: 0,
            bytes_out: 0,
            protocol,
            retries: 0,
        };
        Self {
            journal: journal.clone(),
            started: Instant::now(),
            ticket: None,
            lease: None,
            record,
            finished: false,
        }
    }

    pub(crate) fn between(&mut self, source: String, target: String) {
        self.record.source = source;
        self.record.target = target;
    }

    pub(crate) fn asks(&mut self, method: &Method, path: &str) {
        self.record.method = Some(method.as_str().to_owned());
        self.record.path = Some(path.to_owned());
    }

    /// From here on a later configuration can end it.
    pub(crate) fn permitted(&mut self, permit: Permit) -> Arc<Stream> {
        if self.record.path.is_some() {
            self.record.path = Some(permit.path().as_str().to_owned());
        }
        self.record.rule = Some(permit.rule().to_owned());
        self.record.decision_id = Some(permit.decision().to_string());
        self.enter(permit.into_ticket())
    }

    /// From here on its limits of time count.
    pub(crate) fn enter(&mut self, ticket: Ticket) -> Arc<Stream> {
        let stream = Arc::clone(ticket.stream());
        self.ticket = Some(ticket);
        stream
    }

    pub(crate) fn denied(&mut self, denied: &Denied) {
        self.record.decision_id = denied.decision.as_ref().map(ToString::to_string);
        self.fail(denied.reason, &denied.detail);
    }

    /// What the proxy on the other side said.
    pub(crate) fn heard(&mut self, words: PeerWords) {
        self.record.decision_id = words.decision.or_else(|| self.record.decision_id.take());
        if let Some(reason) = words.reason {
            self.fail(reason, "said by the other proxy");
        }
    }

    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.fail(failure.reason, &failure.detail);
    }

    /// The first failure is the one that is remembered.
    pub(crate) fn fail(&mut self, reason: Reason, detail: &str) {
        if self.record.reason.is_none() {
            self.record.reason = Some(reason);
            self.record.detail = Some(detail.to_owned());
        }
    }

    /// Counts the stream on its connection until the call ends.
    pub(crate) fn hold(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    pub(crate) fn retried(&mut self) {
        self.record.retries += 1;
    }

    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.record.status = Some(status.as_u16());
    }

    pub(crate) fn decision_id(&self) -> Option<&str> {
        self.record.decision_id.as_deref()
    }

    /// The last byte was passed on.
    pub(crate) fn complete(&mut self) {
        self.finished = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let stream = self.ticket.as_ref().map(Ticket::stream);
        if !self.finished && self.record.reason.is_none() {
            let ended = stream.and_then(|stream| stream.reason());
            self.record.reason = Some(ended.unwrap_or(Reason::CallerReset));
        }
        self.record.verdict = Verdict::of(self.record.reason);
        self.record.duration = self.started.elapsed();
        self.record.bytes_in = stream.map_or(0, |stream| stream.bytes_in());
        self.record.bytes_out = stream.map_or(0, |stream| stream.bytes_out());
        self.journal.write(&self.record);
    }
}
