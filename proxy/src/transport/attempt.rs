//! One attempt of a call, or several at once: an endpoint is picked, the request is sent, and
//! what came of it is told to the balancer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crypto::random::Random;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use policy::{Balance, Protocol};
use tokio::time::{Instant, sleep_until, timeout};

use super::admission::Admission;
use super::body::{Frame, Incoming, Source, Upload};
use super::failure::Failure;
use super::hop::{Attempt, Reply, Seen, is_turned_away};
use super::http_server::Interims;
use super::outbound::Outbound;
use super::pipe::Pipe;
use super::steering::{CalledPort, Course, Picked};
use crate::failure::Reason;
use crate::head::{self, REASON, RequestHead};
use crate::live::Stream;
use crate::traffic::balancer::{Tried, hash_of};
use crate::traffic::hedge::Hedges;
use crate::traffic::outcome::{self, Ending, Health};

/// Of a request's body, so much is kept for another attempt.
const MOST_KEPT: usize = 64 * 1024;

/// As many attempts as are made without asking: the last of them waits.
const PATIENT_AFTER: usize = 3;

/// A request's body, and how often it can be sent.
#[derive(Debug)]
pub(super) enum Body {
    Nothing,
    /// As often as need be.
    Whole(Bytes),
    /// Once, and again if the attempt gives it back.
    Once(Upload),
    Gone,
}

/// What the attempts of one call have in common.
#[derive(Debug)]
pub(super) struct Effort<'a> {
    outbound: &'a Outbound,
    course: &'a Course,
    tried: RefCell<Tried>,
    hash: Option<u64>,
    per_try: Option<Duration>,
    head: &'a RequestHead,
    stream: &'a Arc<Stream>,
    interims: &'a Interims,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) result: Result<Reply, Failure>,
    pub(super) ending: Ending,
    pub(super) ended: Instant,
    /// For another attempt.
    pub(super) body: Body,
}

impl<'a> Effort<'a> {
    pub(super) fn new(
        outbound: &'a Outbound,
        course: &'a Course,
        per_try: Option<Duration>,
        head: &'a RequestHead,
        stream: &'a Arc<Stream>,
        interims: &'a Interims,
    ) -> Self {
        let hash = match &course.target.traffic.balance {
            Balance::Hash(header) => head.fields().get(header.as_str()),
            _ => None,
        };
        Self {
            outbound,
            course,
            tried: RefCell::default(),
            hash: hash.map(|value| hash_of(value.as_bytes())),
            per_try,
            head,
            stream,
            interims,
        }
    }

    pub(super) fn port(&self) -> &'a CalledPort {
        &self.course.port
    }

    pub(super) fn head(&self) -> &'a RequestHead {
        self.head
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut dyn Random) -> T) -> T {
        self.outbound.steering.draw(draw)
    }

    /// Whether there is an endpoint that the call has not tried.
    pub(super) fn has_others(&self) -> bool {
        self.course.port.has_untried(&self.tried.borrow())
    }

    /// Makes an attempt, and more beside it when hedges are due; the first good answer wins.
    ///
    /// # Errors
    /// If there is no endpoint.
    pub(super) async fn race(
        &self,
        hedges: Hedges<'_>,
        mut body: Body,
        now: Instant,
    ) -> Result<Outcome, Failure> {
        if self.course.port.is_unsettled() {
            // On the heap, so that a call whose endpoints are known has no room for it.
            Box::pin(self.settle()).await;
        }
        if hedges.due().is_none() {
            let upload = body.take();
            return Ok(self.attempt(self.pick(now)?, upload).await.or_body(body));
        }
        // On the heap, so that a call without hedges has no room for them.
        Box::pin(self.race_hedges(hedges, body, now)).await
    }

    async fn settle(&self) {
        let most = self.outbound.limits.want.duration();
        let steering = &self.outbound.steering;
        steering
            .settle(&self.course.port, &self.course.target, most)
            .await;
    }

    async fn race_hedges(
        &self,
        mut hedges: Hedges<'_>,
        mut body: Body,
        now: Instant,
    ) -> Result<Outcome, Failure> {
        let mut racing = FuturesUnordered::new();
        racing.push(self.attempt(self.pick(now)?, body.take()));
        loop {
            let due = hedges.due();
            let at = due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                Some(outcome) = racing.next() => {
                    let good = !matches!(outcome.ending.health(), Health::Bad | Health::Busy(_));
                    if good || racing.is_empty() {
                        return Ok(outcome.or_body(body));
                    }
                }
                () = sleep_until(at), if due.is_some() => {
                    let now = Instant::now();
                    if hedges.begin(now) && let Ok(picked) = self.pick(now) {
                        racing.push(self.attempt(picked, body.take()));
                    }
                }
            }
        }
    }

    /// A call that may yet try elsewhere does not wait where it cannot be carried at once.
    fn admission(&self) -> Admission<'_> {
        let bulkhead = self.course.target.traffic.bulkhead.as_ref();
        let limited = bulkhead.is_some_and(|it| it.connections.is_some());
        let patient =
            limited && (self.tried.borrow().count() >= PATIENT_AFTER || !self.has_others());
        let wait = self.outbound.limits.connect.duration();
        Admission::new(&self.course.port.callee, &self.course.target, patient, wait)
    }

    fn pick(&self, now: Instant) -> Result<Picked, Failure> {
        let mut tried = self.tried.borrow_mut();
        let steering = &self.outbound.steering;
        let picked = steering.pick(&self.course.port, &tried, self.hash, now)?;
        picked.remember(&mut tried);
        Ok(picked)
    }

    async fn attempt(&self, picked: Picked, upload: Upload) -> Outcome {
        let sent = {
            let admission = self.admission();
            let sent = pin!(self.outbound.peers.send(
                picked.endpoint(),
                &admission,
                self.head,
                upload,
                self.stream,
                self.interims,
            ));
            match self.per_try {
                Some(limit) => timeout(limit, sent).await.map_err(|_| limit),
                None => Ok(sent.await),
            }
        };
        let ended = Instant::now();
        let outcome = match sent {
            Ok(Ok(reply)) => return self.answered(picked, reply, ended),
            Ok(Err(attempt)) => Outcome::failed(attempt, ended),
            Err(limit) => Outcome::timed_out(limit, ended),
        };
        picked.end(outcome.ending.health(), ended);
        outcome
    }

    fn answered(&self, picked: Picked, reply: Reply, ended: Instant) -> Outcome {
        let mut outcome = Outcome::answered(reply, ended);
        let grpc = self.course.target.protocol == Protocol::Grpc;
        let undecided = grpc && outcome.ending.is_undecided();
        let health = (!undecided).then(|| outcome.ending.health());
        if let Ok(reply) = &mut outcome.result {
            reply.carried = picked.answered(health, ended);
        }
        outcome
    }
}

impl Outcome {
    fn answered(reply: Reply, ended: Instant) -> Self {
        if is_turned_away(reply.status, &reply.fields) {
            return Self {
                result: Ok(reply),
                ending: Ending::Unprocessed(Reason::PeerExpired),
                ended,
                body: Body::Gone,
            };
        }
        let text = |name: &str| reply.fields.get(name)?.to_str().ok();
        let ending = Ending::Answered {
            status: reply.status,
            grpc_status: head::grpc_status(&reply.fields),
            reason: text(REASON.as_str()).and_then(|it| it.parse().ok()),
            retry_after: outcome::retry_after(&reply.fields),
        };
        Self {
            result: Ok(reply),
            ending,
            ended,
            body: Body::Gone,
        }
    }

    fn failed(attempt: Attempt, ended: Instant) -> Self {
        let reason = attempt.failure.reason;
        let ending = match attempt.seen {
            Seen::Nothing => Ending::Unsent(reason),
            Seen::Unprocessed => Ending::Unprocessed(reason),
            Seen::Unknown | Seen::Processed => Ending::Broken(reason),
            Seen::Caller => Ending::Abandoned,
        };
        let body = if attempt.upload.can_begin() {
            Body::Once(attempt.upload.rewind())
        } else {
            Body::Gone
        };
        Self {
            result: Err(attempt.failure),
            ending,
            ended,
            body,
        }
    }

    fn timed_out(limit: Duration, ended: Instant) -> Self {
        let detail = format!("no answer within the Route's {limit:?} for one try");
        Self {
            result: Err(Failure::new(Reason::Deadline, detail)),
            ending: Ending::TimedOut,
            ended,
            body: Body::Gone,
        }
    }

    /// Whether the request can be sent again whole.
    pub(super) fn is_replayable(&self) -> bool {
        self.body.is_replayable() || self.sent().is_some_and(|it| it.source().can_begin())
    }

    /// The request's body, for another attempt in the place of this one.
    pub(super) fn into_body(self) -> Body {
        match self.result {
            Ok(Reply {
                upload: Some(sent), ..
            }) if !self.body.is_replayable() => Body::Once(sent.into_source().rewind()),
            _ => self.body,
        }
    }

    /// What the answer has come before, or what was kept until it came.
    fn sent(&self) -> Option<&Pipe<Upload>> {
        self.result.as_ref().ok()?.upload.as_deref()
    }

    /// A body that can be sent as often as need be is there whatever became of the attempt.
    fn or_body(mut self, body: Body) -> Self {
        if matches!(body, Body::Nothing | Body::Whole(_)) {
            self.body = body;
        }
        self
    }
}

impl Body {
    /// Of a body, as much as may be sent again is kept while it is sent.
    pub(super) fn of(mut upload: Upload) -> Self {
        if upload.is_nothing() {
            return Self::Nothing;
        }
        upload.keep(MOST_KEPT);
        Self::Once(upload)
    }

    /// Reads a body that is declared to be short, so that it can be sent as often as need be.
    ///
    /// # Errors
    /// If the caller breaks it off.
    pub(super) async fn whole(mut upload: Upload) -> Result<Self, Failure> {
        let short = |length| length <= MOST_KEPT as u64;
        if upload.is_nothing() || !upload.length().is_some_and(short) {
            let mut body = Self::of(upload);
            if let Self::Once(upload) = &mut body {
                upload.keep_until_answered();
            }
            return Ok(body);
        }
        let mut whole = BytesMut::new();
        while let Some(frame) = poll_fn(|context| upload.poll_frame(context)).await {
            match frame {
                Ok(Frame::Data(data)) => {
                    upload.release(data.len());
                    whole.extend_from_slice(&data);
                }
                // A request of a declared length has none that anybody waits for.
                Ok(Frame::Trailers(_)) => {}
                Err(fault) => return Err(Failure::new(Reason::CallerReset, fault.to_string())),
            }
        }
        Ok(Self::Whole(whole.freeze()))
    }

    pub(super) fn is_replayable(&self) -> bool {
        match self {
            Self::Nothing | Self::Whole(_) => true,
            Self::Once(upload) => upload.can_begin(),
            Self::Gone => false,
        }
    }

    /// The same, for a mirror.
    pub(super) fn copy(&self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Nothing),
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Once(_) | Self::Gone => None,
        }
    }

    /// For one attempt.
    pub(super) fn take(&mut self) -> Upload {
        match self {
            Self::Nothing => Upload::nothing(),
            Self::Whole(bytes) => {
                Upload::new(Incoming::words(bytes.clone()), Some(bytes.len() as u64))
            }
            Self::Once(_) | Self::Gone => match std::mem::replace(self, Self::Gone) {
                Self::Once(upload) => upload,
                _ => Upload::nothing(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;

    fn refused(reason: Reason) -> Outcome {
        let said = (REASON, HeaderValue::from_static(reason.code()));
        let reply = Reply {
            status: reason.status(),
            fields: HeaderMap::from_iter([said]),
            body: Incoming::Empty,
            upload: None,
            lease: None,
            carried: None,
        };
        Outcome::answered(reply, Instant::now()).or_body(Body::Nothing)
    }

    #[test]
    fn what_a_server_refuses_for_the_certificate_of_the_connection_it_has_not_processed() {
        let denied = refused(Reason::PolicyDenied);
        assert!(matches!(denied.ending, Ending::Answered { .. }));
        let outcome = refused(Reason::PeerExpired);
        let unprocessed = Ending::Unprocessed(Reason::PeerExpired);
        assert_eq!(outcome.ending, unprocessed);
        assert_eq!(unprocessed.health(), Health::Unknown);
        assert!(
            outcome.is_replayable()
                && outcome
                    .result
                    .is_ok_and(|it| it.status == StatusCode::MISDIRECTED_REQUEST)
        );
    }
}
