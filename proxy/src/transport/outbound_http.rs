//! Requests of our workload: to a Service by its Host, to an endpoint by turn, to a proven
//! server.
//!
//! Sent again without asking only if the upstream cannot have seen it: the connection could not
//! be made, or the server promises that it did nothing.

use std::sync::{Arc, LazyLock};

use http::header::{self, HeaderValue};
use http::{Request, Response, Version};
use hyper::body::{Body, Incoming};

use super::body::{Download, Upload};
use super::call::Call;
use super::failure::Failure;
use super::http_server::Wire;
use super::mesh_http::absolute;
use super::outbound::Outbound;
use super::peers::{Attempt, Lease};
use super::refusal::{Manner, refuse};
use super::routing::Asked;
use crate::failure::Reason;
use crate::guard::caller::NotLocal;
use crate::head::{self, DECISION, REASON, RequestHead};
use crate::live::Stream;
use crate::route::Destination;
use crate::state::{Target, is_http};

/// More endpoints than this are not tried for one call.
const MOST_ATTEMPTS: usize = 3;

/// The target of a call that names no Service.
static UNKNOWN: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from("unknown"));

impl Outbound {
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        wire: Wire,
        refused: Option<&NotLocal>,
    ) -> Response<Download> {
        let (parts, body) = request.into_parts();
        let manner = Manner::of(head::is_grpc(&parts.headers));
        let mut call = self.begin(wire.protocol(), &UNKNOWN);
        call.asks(&parts.method, parts.uri.path(), &parts.headers);
        if let Some(refused) = refused {
            return refuse(call, Reason::CallerNotLocal, &refused.to_string(), manner);
        }
        let checked = RequestHead::check(parts.method, &parts.uri, parts.version, parts.headers);
        let head = match checked {
            Ok(head) => head,
            Err(error) => return refuse(call, error.reason(), &error.to_string(), manner),
        };
        let target = match self.target(&head).await {
            Ok(target) => target,
            Err(failure) => return refuse(call, failure.reason, &failure.detail, manner),
        };
        call.leads_to(&target.label);
        let stream = call.enter(self.live.enter_unjudged());
        let sent = tokio::select! {
            () = stream.ended() => {
                let reason = stream.reason().unwrap_or(Reason::Deadline);
                Err(Failure::new(reason, "no answer in time"))
            }
            sent = self.send(&target, &head, body, &stream, &mut call) => sent,
        };
        match sent {
            Ok((response, lease)) => answer(response, lease, stream, call),
            Err(failure) => refuse(call, failure.reason, &failure.detail, manner),
        }
    }

    async fn target(&self, head: &RequestHead) -> Result<Arc<Target>, Failure> {
        let destination = Destination::of(head.authority())
            .map_err(|error| Failure::new(Reason::NoRoute, error.to_string()))?;
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

    async fn send(
        &self,
        target: &Target,
        head: &RequestHead,
        body: Incoming,
        stream: &Arc<Stream>,
        call: &mut Call,
    ) -> Result<(Response<Incoming>, Lease), Failure> {
        let has_body = !body.is_end_stream();
        let mut request = outgoing(head, Upload::new(body, Arc::clone(stream)))?;
        call.lead(request.headers_mut());
        let mut failure = Failure::new(Reason::NoEndpoints, "no endpoint to try");
        let mut endpoints = target.balancer.attempts().take(MOST_ATTEMPTS);
        let mut next = endpoints.next();
        let mut turned_away = false;
        call.attempts();
        while let Some(endpoint) = next.take() {
            match self.peers.send(target, &endpoint, request).await {
                Ok(answered) => return Ok(answered),
                Err(Attempt::Unsent(unsent, why)) => {
                    request = *unsent;
                    failure = why;
                }
                Err(Attempt::Unprocessed(why)) if !has_body => {
                    request = outgoing(head, Upload::empty(Arc::clone(stream)))?;
                    call.lead(request.headers_mut());
                    failure = why;
                    // A server that leaves a connection takes the call on the next one.
                    next = (!turned_away).then_some(endpoint);
                    turned_away = true;
                }
                Err(Attempt::Unprocessed(why) | Attempt::Broken(why)) => return Err(why),
            }
            next = next.or_else(|| endpoints.next());
            if next.is_some() {
                call.retried();
            }
        }
        Err(failure)
    }
}

/// The request as the other proxy gets it: path and query untouched, for it to judge.
fn outgoing(head: &RequestHead, upload: Upload) -> Result<Request<Upload>, Failure> {
    let authority = head
        .authority()
        .map(http::uri::Authority::as_str)
        .unwrap_or_default();
    let target = match head.target().query() {
        Some(query) => format!("{}?{query}", head.target().path()),
        None => head.target().path().to_owned(),
    };
    let mut request = Request::new(upload);
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = head.method().clone();
    *request.uri_mut() = absolute(authority, &target)?;
    *request.headers_mut() = head.fields().clone();
    if head.accepts_trailers() {
        let trailers = HeaderValue::from_static("trailers");
        request.headers_mut().insert(header::TE, trailers);
    }
    Ok(request)
}

fn answer(
    response: Response<Incoming>,
    lease: Lease,
    stream: Arc<Stream>,
    mut call: Call,
) -> Response<Download> {
    call.answered(response.status());
    call.hold(lease);
    let (mut parts, body) = response.into_parts();
    let words = head::clean_response(&mut parts.headers);
    if let Some(reason) = words.reason {
        parts
            .headers
            .insert(REASON, HeaderValue::from_static(reason.code()));
    }
    if let Some(Ok(decision)) = words.decision.as_deref().map(HeaderValue::from_str) {
        parts.headers.insert(DECISION, decision);
    }
    call.heard(words);
    parts.version = Version::HTTP_11;
    Response::from_parts(parts, Download::relayed(body, stream, call))
}
