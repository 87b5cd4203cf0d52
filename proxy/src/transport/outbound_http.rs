//! Requests of our workload: to a Service by its Host, on the way that its Route gives them, to a
//! proven server.

use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use http::Method;
use http::header::HeaderValue;
use http::request::Parts;

use super::body::Upload;
use super::call::Call;
use super::exchange::unless_ended;
use super::failure::Failure;
use super::hop::Reply;
use super::http_server::{Answer, Interims, Wire};
use super::outbound::Outbound;
use super::refusal::{Manner, refuse, refuse_for};
use super::routing::Asked;
use crate::failure::Reason;
use crate::guard::caller::NotLocal;
use crate::head::{self, DECISION, REASON, RequestHead};
use crate::route::Destination;
use crate::state::{Target, is_http};
use crate::transparent::Intent;

/// The target of a call that names no Service.
pub(super) static UNKNOWN: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("unknown"));

/// What is known of a connection before its requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection<'a> {
    pub(super) wire: Wire,
    /// Why nobody may call over it, if so.
    pub(super) refused: Option<&'a NotLocal>,
    /// What it is for, where the kernel said it.
    pub(super) intent: Option<&'a Intent>,
}

impl Outbound {
    pub(super) async fn handle(
        self: &Rc<Self>,
        parts: Parts,
        upload: Upload,
        connection: Connection<'_>,
        interims: &Interims,
    ) -> Answer {
        let manner = Manner::of(head::is_grpc(&parts.headers));
        let mut call = self.begin(connection.wire.protocol(), &UNKNOWN);
        call.asks(&parts.method, parts.uri.path(), &parts.headers);
        if let Some(refused) = connection.refused {
            return refuse(call, Reason::CallerNotLocal, &refused.to_string(), manner);
        }
        if parts.method == Method::CONNECT {
            return self.tunnel(parts, upload, connection, call).await;
        }
        let checked = RequestHead::check(parts.method, &parts.uri, parts.version, parts.headers);
        let head = match checked {
            Ok(head) => head,
            Err(error) => return refuse(call, error.reason(), &error.to_string(), manner),
        };
        let target = match self.target(&head, connection.intent).await {
            Ok(target) => target,
            Err(failure) => return refuse(call, failure.reason, &failure.detail, manner),
        };
        self.deliver(target, head, upload, call, manner, interims)
            .await
    }

    /// Carries a request that may be made to its target, and answers it.
    pub(super) async fn deliver(
        self: &Rc<Self>,
        target: Arc<Target>,
        mut head: RequestHead,
        upload: Upload,
        mut call: Call,
        manner: Manner,
        interims: &Interims,
    ) -> Answer {
        call.leads_to(&target.label);
        call.lead(head.fields_mut());
        let way = match self.way(target, head) {
            Ok(way) => way,
            Err(failure) => return refuse_for(call, &failure, manner),
        };
        let stream = call.enter(self.live.enter_unjudged());
        let sent = self.carry(way, upload, &stream, &mut call, interims);
        let sent = match unless_ended(&stream, sent).await {
            Ok(sent) => sent,
            Err(reason) => Err(Failure::new(reason, "no answer in time")),
        };
        match sent {
            Ok(reply) => answer(reply, call),
            Err(failure) => refuse_for(call, &failure, manner),
        }
    }

    async fn target(
        &self,
        head: &RequestHead,
        intent: Option<&Intent>,
    ) -> Result<Arc<Target>, Failure> {
        let destination = destination(head, intent)?;
        let target = self.router.resolve(&Asked::Number(destination)).await?;
        if is_http(target.protocol) {
            return Ok(target);
        }
        Err(Failure::new(
            Reason::NoRoute,
            format!(
                "{} speaks no HTTP; `[[reach]]` opens a local port for it",
                target.name
            ),
        ))
    }
}

/// What the connection is for, which the Host must not contradict; without that, what the Host
/// says.
fn destination(head: &RequestHead, intent: Option<&Intent>) -> Result<Destination, Failure> {
    let no_route = |error: String| Failure::new(Reason::NoRoute, error);
    let authority = head.authority();
    let Some(intent) = intent else {
        return Destination::of(authority).map_err(|error| no_route(error.to_string()));
    };
    match intent.agrees(authority) {
        Ok(()) => Ok(intent.destination().clone()),
        Err(error) => Err(no_route(error.to_string())),
    }
}

fn answer(reply: Reply, mut call: Call) -> Answer {
    call.answered(reply.status);
    call.hold(reply.lease);
    let mut fields = reply.fields;
    let words = head::clean_response(&mut fields);
    if let Some(reason) = words.reason {
        fields.insert(REASON, HeaderValue::from_static(reason.code()));
    }
    if let Some(decision) = &words.decision {
        fields.insert(DECISION, decision.clone());
    }
    call.heard(&words);
    Answer {
        status: reply.status,
        fields,
        body: reply.body,
        upload: reply.upload,
        call,
    }
}
