//! Copies of requests, for a Service that is tried out. Nobody waits for them, and their answers
//! are thrown away.
//!
//! Copied are requests without a body, and those whose declared length is small; others are not.

use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::attempt::{Body, Effort};
use super::body::{Frame, Source};
use super::http_server::Interims;
use super::outbound::Outbound;
use super::routing::Asked;
use crate::head::{self, RequestHead};
use crate::service_port::ServicePort;
use crate::traffic::hedge::Hedges;

/// More copies than this are not on their way at once, for each worker.
const MOST_COPIES: usize = 64;

/// A copy is given up after this long.
const LONGEST: Duration = Duration::from_secs(30);

impl Outbound {
    /// Sends a copy on its way, unless too many are.
    pub(super) fn mirror(self: &Rc<Self>, to: ServicePort, head: RequestHead, body: Body) {
        let this = Rc::clone(self);
        if Rc::strong_count(&self.copies) > MOST_COPIES {
            return;
        }
        let place = Rc::clone(&self.copies);
        self.tasks.spawn(async move {
            let _place = place;
            if timeout(LONGEST, this.send_copy(&to, &head, body))
                .await
                .is_err()
            {
                tracing::debug!(%to, "a mirrored request took too long");
            }
        });
    }

    async fn send_copy(&self, to: &ServicePort, head: &RequestHead, body: Body) {
        let target = match self.router.resolve(&Asked::Name(to.clone())).await {
            Ok(target) => target,
            Err(failure) => return tracing::debug!(%to, detail = failure.detail, "no mirror"),
        };
        let ticket = self.live.enter_unjudged(Instant::now());
        let interims = Interims::default();
        let course = self.steering.straight(target, Instant::now());
        let effort = Effort::new(self, &course, None, head, ticket.stream(), &interims);
        let hedges = Hedges::new(None, head.method(), false, Instant::now());
        let Ok(outcome) = effort.race(hedges, body, Instant::now()).await else {
            return;
        };
        let Ok(mut reply) = outcome.result else {
            return;
        };
        // Read to its end, so that the mirror is judged by whole answers.
        let mut grpc_status = None;
        let broken = loop {
            match poll_fn(|context| reply.body.poll_frame(context)).await {
                Some(Ok(Frame::Data(data))) => reply.body.release(data.len()),
                Some(Ok(Frame::Trailers(trailers))) => grpc_status = head::grpc_status(&trailers),
                Some(Err(fault)) => break Some(fault.reason()),
                None => break None,
            }
        };
        match (reply.carried, broken) {
            (Some(carried), None) => carried.delivered(grpc_status),
            (Some(carried), Some(reason)) => carried.broken(reason),
            (None, _) => {}
        }
    }
}
