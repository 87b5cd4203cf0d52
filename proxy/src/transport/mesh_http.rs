//! Requests from other proxies: each judged by itself, then passed to the application.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use http::header::HeaderValue;
use http::request::Parts;
use http::uri::Authority;
use policy::DecisionId;
use tokio::time::Instant;

use super::application::Permitted;
use super::body::Upload;
use super::call::Call;
use super::exchange::unless_ended;
use super::failure::Failure;
use super::hop::Reply;
use super::http_server::{Answer, Handler, Interims, Wire};
use super::http1_client::Line;
use super::mesh::Inbound;
use super::port_guard::PortGuard;
use super::refusal::{Manner, refuse, refuse_for};
use crate::admit::{Peer, Permit};
use crate::failure::Reason;
use crate::head::{self, DECISION, HEALTH, IDENTITY, RequestHead};
use crate::record::Direction;
use crate::service_port::ServicePort;
use crate::state::{MeshState, Served};
use crate::telemetry::Series;
use crate::traffic::callers::Entry;

mod check;

pub(crate) use check::Checkups;

/// The requests of one mesh connection.
#[derive(Debug)]
pub(crate) struct MeshHttp {
    inbound: Rc<Inbound>,
    peer: Peer,
    target: Arc<ServicePort>,
    wire: Wire,
    limits: PortGuard,
    /// What a request without Host is for.
    own_name: Option<Authority>,
    /// Who calls whom on this connection, as records have it.
    ends: (Arc<str>, Arc<str>),
    series: Series,
    said: RefCell<Option<(DecisionId, HeaderValue)>>,
}

/// A request that may be passed on.
pub(crate) struct Judged {
    call: Box<Call>,
    head: Arc<RequestHead>,
    permit: Permit,
    manner: Manner,
}

/// What a request came to.
pub(crate) enum Begun {
    Call(Judged),
    /// It asks only whether the application works.
    Check(Box<Parts>),
    Refused(Box<Answer>),
}

impl MeshHttp {
    pub(crate) fn new(
        inbound: Rc<Inbound>,
        peer: Peer,
        target: Arc<ServicePort>,
        wire: Wire,
    ) -> Self {
        let service = &target.service;
        let zone = crate::route::ZONE;
        let own_name = format!("{}.{}.{zone}", service.name, service.namespace);
        let ends = (peer.spiffe_id().shared_text(), target.to_string().into());
        let protocol = wire.protocol();
        let series = inbound
            .journal
            .series(Direction::Inbound, protocol, &ends.0, &ends.1);
        Self {
            limits: PortGuard::new(&inbound.shared, &target, peer.spiffe_id()),
            inbound,
            ends,
            series,
            peer,
            own_name: Authority::try_from(own_name).ok(),
            target,
            wire,
            said: RefCell::default(),
        }
    }

    fn call(&self) -> Box<Call> {
        let inbound = &self.inbound;
        let mut call = Call::begin(
            &inbound.journal,
            Direction::Inbound,
            inbound.clock.now(),
            self.wire.protocol(),
            self.ends.clone(),
        );
        call.counts_in(&self.series);
        call
    }

    /// Reads a request and judges it.
    fn judge(&self, parts: Parts) -> Result<Judged, Box<Answer>> {
        let manner = Manner::of(head::is_grpc(&parts.headers));
        let mut call = self.call();
        call.asks(&parts.method, parts.uri.path(), &parts.headers);
        let checked = RequestHead::check(parts.method, &parts.uri, parts.version, parts.headers);
        let mut head = match checked {
            Ok(head) => head,
            Err(error) => {
                let detail = error.to_string();
                return Err(refuse(call, error.reason(), &detail, manner).into());
            }
        };
        // What the application gets: the proven identity.
        head.set(IDENTITY, self.peer.identity().clone());
        call.lead(head.fields_mut());
        if self.wire == Wire::Http2 {
            head.join_cookies();
        }
        let head = Arc::new(head);
        let gate = &self.inbound.gate;
        match gate.request(&self.peer, &self.target, &head, call.started()) {
            Ok(permit) => Ok(Judged {
                call,
                head,
                permit,
                manner,
            }),
            Err(denied) => {
                call.denied(&denied);
                Err(refuse(call, denied.reason, &denied.detail, manner).into())
            }
        }
    }

    async fn pass_on(&self, judged: Judged, upload: Upload, interims: &Interims) -> Answer {
        let (mut call, head, permit) = (judged.call, judged.head, judged.permit);
        let state = self.inbound.gate.state();
        let admitted = self.admit(&state, &head);
        let (served, authority) = match admitted {
            Ok((served, authority, entry)) => {
                call.holds(entry);
                (served, authority)
            }
            Err(failure) => return refuse_for(call, &failure, judged.manner),
        };
        let path = permit.path().clone();
        let line = Line {
            method: head.method(),
            path: path.as_str(),
            query: head.target().query(),
            authority,
            fields: head.fields(),
            upgrade: head.upgrade(),
        };
        let request = Permitted::new(&permit, line, head.accepts_trailers());
        call.attempts(call.started());
        let stream = call.permitted(permit);
        let answered = {
            let applications = &self.inbound.applications;
            let sent = pin!(applications.send(served, &request, upload, &stream, interims));
            unless_ended(&stream, sent).await
        };
        let failure = match answered {
            Ok(Ok(reply)) => return self.answer(reply, call),
            Ok(Err(attempt)) => attempt.failure,
            Err(reason) => Failure::cut_off(reason, "ended before the application answered"),
        };
        refuse_for(call, &failure, judged.manner)
    }

    fn answer(&self, reply: Reply, mut call: Box<Call>) -> Answer {
        call.answered(reply.status, Instant::now());
        call.hold(reply.lease);
        let mut fields = reply.fields;
        // What an application says in the proxy's name is not believed.
        drop(head::clean_response(&mut fields));
        if let Some(decision) = call.decision().and_then(|it| self.say(it)) {
            fields.insert(DECISION, decision);
        }
        Answer {
            status: reply.status,
            fields,
            body: reply.body,
            upload: reply.upload,
            call,
        }
    }

    /// A decision as the other proxy is told of it: most often the last one again.
    fn say(&self, decision: &DecisionId) -> Option<HeaderValue> {
        let mut said = self.said.borrow_mut();
        if let Some((last, value)) = &*said
            && last == decision
        {
            return Some(value.clone());
        }
        let value = HeaderValue::try_from(decision.to_string()).ok()?;
        *said = Some((*decision, value.clone()));
        Some(value)
    }

    /// What a permitted request needs beside its permit: that the port is served, a host, and room
    /// within the port's limits.
    fn admit<'a>(
        &'a self,
        state: &'a MeshState,
        head: &'a RequestHead,
    ) -> Result<(&'a Served, &'a Authority, Option<Entry>), Failure> {
        let served = state.served.get(&*self.target).ok_or_else(|| {
            Failure::new(Reason::NoRoute, "this workload no longer serves the port")
        })?;
        let authority = head.authority().or(self.own_name.as_ref());
        let authority = authority
            .ok_or_else(|| Failure::new(Reason::BadRequest, "the request names no host"))?;
        let entry = self.limits.enter(&served.traffic)?;
        Ok((served, authority, entry))
    }
}

impl Handler for MeshHttp {
    type Begun = Begun;

    fn begin(&self, parts: Parts) -> Begun {
        if parts.headers.contains_key(HEALTH) {
            return Begun::Check(Box::new(parts));
        }
        self.judge(parts).map_or_else(Begun::Refused, Begun::Call)
    }

    async fn finish(&self, begun: Begun, upload: Upload, interims: &Interims) -> Answer {
        match begun {
            Begun::Call(judged) => self.pass_on(judged, upload, interims).await,
            Begun::Check(parts) => Box::pin(self.check(*parts, upload)).await,
            Begun::Refused(answer) => *answer,
        }
    }
}
