//! One attempt of a call, or several at once: an endpoint is picked, the request is sent, and
//! what came of it is told to the balancer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crypto::random::Random;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use policy::Balance;
use tokio::time::{Instant, sleep_until, timeout};

use super::body::{Frame, Incoming, Source, Upload};
use super::failure::Failure;
use super::hop::{Attempt, Reply, Seen};
use super::http_server::Interims;
use super::outbound::Outbound;
use super::steering::{CalledPort, Picked};
use crate::failure::Reason;
use crate::head::{REASON, RequestHead};
use crate::live::Stream;
use crate::state::Target;
use crate::traffic::balancer::{Tried, hash_of};
use crate::traffic::hedge::Hedges;
use crate::traffic::outcome::{self, Ending, Health};

/// Of a request's body, so much is kept for another attempt.
const MOST_KEPT: usize = 64 * 1024;

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
    target: &'a Arc<Target>,
    port: Rc<CalledPort>,
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
    /// For another attempt.
    pub(super) body: Body,
}

impl<'a> Effort<'a> {
    pub(super) fn new(
        outbound: &'a Outbound,
        target: &'a Arc<Target>,
        per_try: Option<Duration>,
        head: &'a RequestHead,
        stream: &'a Arc<Stream>,
        interims: &'a Interims,
    ) -> Self {
        let hash = match &target.traffic.balance {
            Balance::Hash(header) => head.fields().get(header.as_str()),
            _ => None,
        };
        Self {
            port: outbound.steering.port(target, Instant::now()),
            outbound,
            target,
            tried: RefCell::default(),
            hash: hash.map(|value| hash_of(value.as_bytes())),
            per_try,
            head,
            stream,
            interims,
        }
    }

    pub(super) fn port(&self) -> Rc<CalledPort> {
        Rc::clone(&self.port)
    }

    pub(super) fn head(&self) -> &'a RequestHead {
        self.head
    }

    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut dyn Random) -> T) -> T {
        self.outbound.steering.draw(draw)
    }

    /// Whether there is an endpoint that the call has not tried.
    pub(super) fn has_others(&self) -> bool {
        self.port.has_untried(&self.tried.borrow())
    }

    /// Makes an attempt, and more beside it when hedges are due; the first good answer wins.
    ///
    /// # Errors
    /// If there is no endpoint.
    pub(super) async fn race(
        &self,
        mut hedges: Hedges<'_>,
        mut body: Body,
    ) -> Result<Outcome, Failure> {
        if self.port.is_unsettled() {
            let most = self.outbound.limits.want.duration();
            self.outbound
                .steering
                .settle(&self.port, self.target, most)
                .await;
        }
        let first = self.attempt(self.pick()?, body.take());
        if hedges.due().is_none() {
            return Ok(first.await.or_body(body));
        }
        let mut racing = FuturesUnordered::new();
        racing.push(first);
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
                    if hedges.begin(Instant::now()) && let Ok(picked) = self.pick() {
                        racing.push(self.attempt(picked, body.take()));
                    }
                }
            }
        }
    }

    fn pick(&self) -> Result<Picked, Failure> {
        let mut tried = self.tried.borrow_mut();
        let steering = &self.outbound.steering;
        let picked = steering.pick(&self.port, &tried, self.hash, Instant::now())?;
        picked.remember(&mut tried);
        Ok(picked)
    }

    async fn attempt(&self, picked: Picked, upload: Upload) -> Outcome {
        let sent = self.outbound.peers.send(
            self.target,
            picked.endpoint(),
            self.head,
            upload,
            self.stream,
            self.interims,
        );
        let sent = match self.per_try {
            Some(limit) => timeout(limit, sent).await.map_err(|_| limit),
            None => Ok(sent.await),
        };
        let outcome = match sent {
            Ok(Ok(reply)) => Outcome::answered(reply),
            Ok(Err(attempt)) => Outcome::failed(attempt),
            Err(limit) => Outcome::timed_out(limit),
        };
        picked.end(outcome.ending.health(), Instant::now());
        outcome
    }
}

impl Outcome {
    fn answered(reply: Reply) -> Self {
        let text = |name: &str| reply.fields.get(name)?.to_str().ok();
        let ending = Ending::Answered {
            status: reply.status,
            grpc_status: text("grpc-status").and_then(|it| it.parse().ok()),
            reason: text(REASON.as_str()).and_then(|it| it.parse().ok()),
            retry_after: outcome::retry_after(&reply.fields),
        };
        Self {
            result: Ok(reply),
            ending,
            body: Body::Gone,
        }
    }

    fn failed(attempt: Attempt) -> Self {
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
            body,
        }
    }

    fn timed_out(limit: Duration) -> Self {
        let detail = format!("no answer within the Route's {limit:?} for one try");
        Self {
            result: Err(Failure::new(Reason::Deadline, detail)),
            ending: Ending::TimedOut,
            body: Body::Gone,
        }
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
            return Ok(Self::of(upload));
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
            Self::Nothing => Upload::new(Incoming::Empty, None),
            Self::Whole(bytes) => {
                Upload::new(Incoming::words(bytes.clone()), Some(bytes.len() as u64))
            }
            Self::Once(_) | Self::Gone => match std::mem::replace(self, Self::Gone) {
                Self::Once(upload) => upload,
                _ => Upload::new(Incoming::Empty, None),
            },
        }
    }
}
