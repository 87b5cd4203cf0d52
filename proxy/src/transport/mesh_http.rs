//! Requests from other proxies: each judged by itself, then passed to the application.

use std::rc::Rc;
use std::sync::Arc;

use http::header::HeaderValue;
use http::request::Parts;
use http::uri::Authority;

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
use crate::telemetry::Series;

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
        }
    }

    fn begin(&self) -> Call {
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

    async fn pass_on(
        &self,
        head: &RequestHead,
        upload: Upload,
        permit: Permit,
        mut call: Call,
        manner: Manner,
        interims: &Interims,
    ) -> Answer {
        let state = self.inbound.gate.state();
        let Some(served) = state.served.get(&*self.target) else {
            let detail = "this workload no longer serves the port";
            return refuse(call, Reason::NoRoute, detail, manner);
        };
        let Some(authority) = head.authority().or(self.own_name.as_ref()) else {
            return refuse(
                call,
                Reason::BadRequest,
                "the request names no host",
                manner,
            );
        };
        let entry = match self.limits.enter(&served.traffic) {
            Ok(entry) => entry,
            Err(failure) => return refuse_for(call, &failure, manner),
        };
        call.holds(entry);
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
        let stream = call.permitted(permit);
        call.attempts();
        let applications = &self.inbound.applications;
        let sent = applications.send(served, &request, upload, &stream, interims);
        let answered = match unless_ended(&stream, sent).await {
            Ok(sent) => sent.map_err(|attempt| attempt.failure),
            Err(reason) => Err(Failure::new(
                reason,
                "ended before the application answered",
            )),
        };
        match answered {
            Ok(reply) => answer(reply, call),
            Err(failure) => refuse(call, failure.reason, &failure.detail, manner),
        }
    }
}

impl Handler for MeshHttp {
    async fn handle(&self, parts: Parts, upload: Upload, interims: &Interims) -> Answer {
        let manner = Manner::of(head::is_grpc(&parts.headers));
        let mut call = self.begin();
        if parts.headers.contains_key(HEALTH) {
            return Box::pin(self.check(parts, upload, call)).await;
        }
        call.asks(&parts.method, parts.uri.path(), &parts.headers);
        let checked = RequestHead::check(parts.method, &parts.uri, parts.version, parts.headers);
        let mut head = match checked {
            Ok(head) => head,
            Err(error) => return refuse(call, error.reason(), &error.to_string(), manner),
        };
        // What the application gets: the proven identity.
        head.set(IDENTITY, self.peer.identity().clone());
        call.lead(head.fields_mut());
        if self.wire == Wire::Http2 {
            head.join_cookies();
        }
        let head = Arc::new(head);
        let permit = match self.inbound.gate.request(&self.peer, &self.target, &head) {
            Ok(permit) => permit,
            Err(denied) => {
                call.denied(&denied);
                return refuse(call, denied.reason, &denied.detail, manner);
            }
        };
        self.pass_on(&head, upload, permit, call, manner, interims)
            .await
    }
}

fn answer(reply: Reply, mut call: Call) -> Answer {
    call.answered(reply.status);
    call.hold(reply.lease);
    let mut fields = reply.fields;
    // What an application says in the proxy's name is not believed.
    drop(head::clean_response(&mut fields));
    let decision = call.decision().map(ToString::to_string);
    if let Some(Ok(decision)) = decision.map(HeaderValue::try_from) {
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
