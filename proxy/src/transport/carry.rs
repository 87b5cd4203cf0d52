//! A call of our workload on its way, as the Route of its target has it: the rule it follows, its
//! header changes and faults, its backend, its attempts.
//!
//! Invariant: what an upstream may have seen is sent again only by leave of a rule, and never once
//! a response is on its way to the caller. The attempts of one call stay with one backend.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use policy::{CanonicalPath, Request, RequestPath};
use tokio::time::{Instant, sleep, timeout_at};

use super::attempt::{Body, Effort};
use super::body::Upload;
use super::call::Call;
use super::failure::Failure;
use super::hop::Reply;
use super::http_server::Interims;
use super::outbound::Outbound;
use super::routing;
use super::steering::Course;
use crate::admit::JudgedFields;
use crate::failure::Reason;
use crate::head::{RequestHead, RequestTarget};
use crate::live::Stream;
use crate::service_port::ServicePort;
use crate::traffic::hedge::Hedges;
use crate::traffic::plan::{Plan, Rule};
use crate::traffic::retry::{Left, Next, Retries};

/// A call, and the way that its Route gives it.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) course: Course,
    pub(super) head: Box<RequestHead>,
}

impl Outbound {
    /// Carries a call to its answer, or to its last failure.
    pub(super) async fn carry(
        self: &Rc<Self>,
        way: &Way,
        upload: Upload,
        stream: &Arc<Stream>,
        call: &mut Call,
        interims: &Interims,
    ) -> Result<Reply, Failure> {
        let rule = match &way.course.plan {
            Some(plan) => follow(plan, &way.head)?,
            None => None,
        };
        let now = call.started();
        if let Some(rule) = rule {
            let by_rule = self.by_rule(rule, way, upload, stream, call, interims);
            // On the heap, so that a call without a Route has no room for it.
            return Box::pin(by_rule).await;
        }
        self.steering.refresh(&way.course, now);
        let effort = Effort::new(self, &way.course, None, &way.head, stream, interims);
        attempts(&effort, None, Body::of(upload), call, now).await
    }

    async fn by_rule(
        self: &Rc<Self>,
        rule: &Rule,
        way: &Way,
        upload: Upload,
        stream: &Arc<Stream>,
        call: &mut Call,
        interims: &Interims,
    ) -> Result<Reply, Failure> {
        let mut head = way.head.clone();
        head.change(&rule.headers);
        let timeout = rule.timeout;
        // What goes on after a 101 is no request that could be answered late.
        let (whole, head_only) = match head.upgrade() {
            None => (timeout.request, None),
            Some(_) => (None, timeout.request),
        };
        stream.limit(whole, timeout.idle);
        let sent = self.try_rule(rule, &way.course, &head, upload, stream, call, interims);
        let Some(limit) = head_only else {
            return sent.await;
        };
        let until = Instant::now() + limit;
        timeout_at(until, sent).await.unwrap_or_else(|_| {
            let detail = format!("no answer within the Route's {limit:?}");
            Err(Failure::new(Reason::Deadline, detail))
        })
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of one call")]
    async fn try_rule(
        self: &Rc<Self>,
        rule: &Rule,
        course: &Course,
        head: &RequestHead,
        upload: Upload,
        stream: &Arc<Stream>,
        call: &mut Call,
        interims: &Interims,
    ) -> Result<Reply, Failure> {
        let injected = self.steering.draw(|random| rule.fault.draw(random));
        if let Some(delay) = injected.delay {
            sleep(delay).await;
        }
        if let Some(status) = injected.abort {
            let failure = Failure::new(Reason::FaultInjected, "the Route's fault struck");
            return Err(failure.with_status(status));
        }
        let backend = self.steering.draw(|random| rule.backends.draw(random));
        let backend = self.backend(course, backend).await?;
        let body = if rule.retry.is_some() || rule.hedge.is_some() || rule.mirror.is_some() {
            Body::whole(upload).await?
        } else {
            Body::of(upload)
        };
        let mirror = rule.mirror.as_ref().filter(|_| head.upgrade().is_none());
        let to = mirror.and_then(|it| self.steering.draw(|random| it.draw(random)));
        if let Some((to, copy)) = to.zip(body.copy()) {
            self.mirror(to.clone(), head.clone(), copy);
        }
        let effort = Effort::new(self, &backend, rule.timeout.per_try, head, stream, interims);
        attempts(&effort, Some(rule), body, call, Instant::now()).await
    }

    async fn backend(&self, course: &Course, backend: &ServicePort) -> Result<Course, Failure> {
        if *backend == course.target.name {
            self.steering.refresh(course, Instant::now());
            return Ok(course.clone());
        }
        let asked = routing::Asked::Name(backend.clone());
        let target = self.router.resolve(&asked).await?;
        // Its own Route, if it has one, is for those who call it by its name.
        Ok(self.steering.straight(target, Instant::now()))
    }
}

/// The rule that a call follows; `None` where none matches, so that it goes to the Service.
fn follow<'a>(plan: &'a Plan, head: &RequestHead) -> Result<Option<&'a Rule>, Failure> {
    let path = asked_path(head)?;
    Ok(plan.rules.find(&Request::Http {
        method: head.method().as_str(),
        path: &path,
        headers: &JudgedFields(head),
    }))
}

/// The path that rules are compared with.
pub(super) fn asked_path(head: &RequestHead) -> Result<RequestPath, Failure> {
    match head.target() {
        RequestTarget::Asterisk => Ok(RequestPath::Asterisk),
        RequestTarget::Path(path) => CanonicalPath::parse(path.path())
            .map(RequestPath::Canonical)
            .map_err(|error| Failure::new(Reason::PathAmbiguous, error.to_string())),
    }
}

/// Attempt after attempt, as long as the outcome may be bettered.
async fn attempts(
    effort: &Effort<'_>,
    rule: Option<&Rule>,
    mut body: Body,
    call: &mut Call,
    mut now: Instant,
) -> Result<Reply, Failure> {
    let port = effort.port();
    let budget = &port.callee.budget;
    let head = effort.head();
    let policy = rule.and_then(|rule| Some((rule.retry.as_ref()?, budget)));
    let mut retries = Retries::new(policy, (head.method(), head.target().path()), now);
    call.attempts(now);
    loop {
        let rule = rule.filter(|_| head.upgrade().is_none());
        let hedge = rule.and_then(|rule| Some((rule.hedge.as_ref()?, budget, rule.budget)));
        let hedges = Hedges::new(hedge, head.method(), body.is_replayable(), now);
        let outcome = effort.race(hedges, body, now).await?;
        if let Ok(reply) = &outcome.result {
            call.answered(reply.status, outcome.ended);
        }
        let left = Left {
            body: outcome.is_replayable(),
            others: effort.has_others(),
        };
        now = outcome.ended;
        let next = effort.draw(|random| retries.after(&outcome.ending, left, now, random));
        match next {
            Next::Finish(_) => return outcome.result,
            Next::Again(pause) => {
                call.retried();
                body = outcome.into_body();
                if pause > Duration::ZERO {
                    sleep(pause).await;
                    now = Instant::now();
                }
            }
        }
    }
}
