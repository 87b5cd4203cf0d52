//! Asks endpoints whether they work, and tells all workers: one prober for the whole process.
//!
//! Invariant: asked are only endpoints of ports that our workload has called and that declare
//! `health`; at most [`MOST_AT_ONCE`] at a time. What our own side is to blame for says nothing
//! of an endpoint.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use policy::HealthCheck;
use tokio::time::{Instant, sleep_until, timeout};

use super::admission::Admission;
use super::body::Upload;
use super::failure::Failure;
use super::hop::{Attempt, Reply};
use super::http_server::Interims;
use super::outbound::Outbound;
use crate::failure::Reason;
use crate::head::{HEALTH, REASON, RequestHead};
use crate::state::Target;
use crate::traffic::checks::{Checks, Subject};

/// Checks on their way at once.
const MOST_AT_ONCE: usize = 16;

const CHECK: HeaderValue = HeaderValue::from_static("check");

/// What came of a check: whether the endpoint is well, and why not; none if nothing was learnt.
type Found = Option<Result<(), String>>;

impl Outbound {
    /// Asks until the proxy drains.
    pub(crate) async fn probe(self: Rc<Self>) {
        let draining = self.tasks.shutdown().clone();
        tokio::select! {
            () = draining.draining() => {}
            () = self.probe_all() => {}
        }
    }

    async fn probe_all(&self) {
        let (mut states, mut called) = (self.router.subscribe(), self.steering.called());
        let mut moves = self.steering.moves();
        let mut checks = Checks::default();
        let mut asking = FuturesUnordered::new();
        self.follow(&mut checks);
        loop {
            let (now, room) = (Instant::now(), MOST_AT_ONCE - asking.len());
            let due = self.steering.draw(|random| checks.begin(room, now, random));
            asking.extend(due.into_iter().map(|subject| self.ask(subject)));
            let next = checks.next_due();
            let room = asking.len() < MOST_AT_ONCE;
            tokio::select! {
                Some((subject, found)) = asking.next() => self.note(&mut checks, &subject, found),
                Ok(()) = states.changed() => self.follow(&mut checks),
                Ok(()) = called.changed() => self.follow(&mut checks),
                Ok(()) = moves.changed() => self.follow(&mut checks),
                () = sleep_until(next.unwrap_or(now)), if room && next.is_some() => {}
                else => return,
            }
        }
    }

    /// Takes up what is called and declares `health` now, and forgets the rest.
    fn follow(&self, checks: &mut Checks) {
        let state = self.router.state();
        let mut subjects = Vec::new();
        for (port, callee) in self.steering.all_called() {
            let target = state.target_named(&port);
            let checked = target.and_then(|it| Some((it, it.traffic.health.as_ref()?)));
            let Some((target, health)) = checked else {
                callee.health.retain(|_| false);
                continue;
            };
            let places = self.steering.places(target);
            let endpoints = || places.iter().map(|(endpoint, _)| endpoint);
            callee
                .health
                .retain(|known| endpoints().any(|endpoint| endpoint == known));
            subjects.extend(endpoints().cloned().map(|endpoint| {
                let port = port.clone();
                (Subject { port, endpoint }, health.every)
            }));
        }
        let now = Instant::now();
        self.steering
            .draw(|random| checks.follow(subjects, now, random));
    }

    fn note(&self, checks: &mut Checks, subject: &Subject, found: Found) {
        let why = found.as_ref().and_then(|it| it.as_ref().err()).cloned();
        let success = found.map(|it| it.is_ok());
        let Some(healthy) = checks.end(subject, success) else {
            return;
        };
        let Subject { port, endpoint } = subject;
        match why {
            Some(why) => {
                tracing::warn!(target = %port, %endpoint, why, "an endpoint is unhealthy");
            }
            None => tracing::info!(target = %port, %endpoint, "an endpoint is healthy again"),
        }
        self.steering.callee(port).health.set(endpoint, healthy);
    }

    async fn ask(&self, subject: Subject) -> (Subject, Found) {
        let state = self.router.state();
        let target = state.target_named(&subject.port).map(Arc::clone);
        let asked = target.and_then(|it| Some((it.traffic.health.clone()?, it)));
        let Some((health, target)) = asked else {
            return (subject, None);
        };
        let sent = self.send_check(&target, &subject, &health);
        let found = match timeout(health.timeout, sent).await {
            Ok(Ok(reply)) => of_reply(&reply),
            Ok(Err(attempt)) => of_failure(attempt.failure),
            Err(_) => Some(Err(format!("no answer within {:?}", health.timeout))),
        };
        (subject, found)
    }

    async fn send_check(
        &self,
        target: &Target,
        subject: &Subject,
        health: &HealthCheck,
    ) -> Result<Reply, Attempt> {
        let nothing = Upload::nothing();
        let head = match check_head(target, health) {
            Ok(head) => head,
            Err(failure) => return Err(Attempt::unsent(failure, nothing)),
        };
        let ticket = self.live.enter_unjudged(Instant::now());
        let interims = Interims::default();
        let callee = self.steering.callee(&subject.port);
        // Without a place nothing is learnt, and calls come first.
        let admission = Admission::new(&callee, target, false, Duration::ZERO);
        self.peers
            .send(
                &subject.endpoint,
                &admission,
                &head,
                nothing,
                ticket.stream(),
                &interims,
            )
            .await
    }
}

fn check_head(target: &Target, health: &HealthCheck) -> Result<RequestHead, Failure> {
    let service = &target.name.service;
    let zone = crate::route::ZONE;
    let path = health.path.as_str();
    let invalid = |error: String| Failure::new(Reason::BadRequest, error);
    let uri = format!("http://{}.{}.{zone}{path}", service.name, service.namespace);
    let uri: Uri = uri
        .parse()
        .map_err(|error: http::uri::InvalidUri| invalid(error.to_string()))?;
    let checked = RequestHead::check(Method::GET, &uri, Version::HTTP_2, HeaderMap::new());
    let mut head = checked.map_err(|error| invalid(error.to_string()))?;
    head.set(HEALTH, CHECK);
    Ok(head)
}

fn of_reply(reply: &Reply) -> Found {
    let reason = reply.fields.get(REASON).and_then(|it| it.to_str().ok());
    match reason.and_then(|text| text.parse::<Reason>().ok()) {
        Some(reason) => of_failure(Failure::new(reason, "said by the other proxy")),
        None if reply.status.is_success() => Some(Ok(())),
        None => Some(Err(status(reply.status))),
    }
}

fn of_failure(failure: Failure) -> Found {
    match failure.reason {
        // Of our own making, or of whoever declares who may ask.
        Reason::NotReady | Reason::BulkheadFull | Reason::CallerReset | Reason::BadRequest => None,
        Reason::PolicyDenied | Reason::PathAmbiguous | Reason::PeerExpired => {
            let Failure { reason, detail, .. } = failure;
            tracing::debug!(%reason, detail, "a health check says nothing");
            None
        }
        reason => Some(Err(format!("{reason}: {}", failure.detail))),
    }
}

fn status(status: StatusCode) -> String {
    format!("the application answers {}", status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_fault_of_the_endpoint_says_nothing_of_it() {
        for reason in [Reason::NotReady, Reason::PolicyDenied, Reason::CallerReset] {
            assert_eq!(of_failure(Failure::new(reason, "")), None);
        }
        for reason in [
            Reason::ConnectFailed,
            Reason::TlsIdentityMismatch,
            Reason::Deadline,
        ] {
            assert!(of_failure(Failure::new(reason, "")).is_some_and(|it| it.is_err()));
        }
    }
}
