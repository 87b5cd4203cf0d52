//! Requests from other proxies: each judged by itself, then passed to the application.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::Service;
use policy::Protocol;

use super::application::Permitted;
use super::body::{Download, Upload};
use super::call::Call;
use super::failure::Failure;
use super::http_server::Wire;
use super::mesh::Inbound;
use super::refusal::{Manner, refuse};
use crate::admit::{Peer, Permit};
use crate::failure::Reason;
use crate::head::{self, DECISION, RequestHead, fields};
use crate::record::Direction;
use crate::service_port::ServicePort;
use crate::state::Served;
use crate::telemetry::Series;

/// The requests of one mesh connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct MeshHttp {
    connection: Arc<Connection>,
}

#[derive(Debug)]
struct Connection {
    inbound: Inbound,
    peer: Peer,
    target: ServicePort,
    wire: Wire,
    /// Who calls whom on this connection, as records have it.
    ends: (Arc<str>, Arc<str>),
    series: Series,
}

type Answer = Result<Response<Download>, Infallible>;

impl MeshHttp {
    pub(crate) fn new(inbound: Inbound, peer: Peer, target: ServicePort, wire: Wire) -> Self {
        let ends = (peer.spiffe_id().shared_text(), target.to_string().into());
        let protocol = wire.protocol();
        let series = inbound
            .journal
            .series(Direction::Inbound, protocol, &ends.0, &ends.1);
        Self {
            connection: Arc::new(Connection {
                inbound,
                peer,
                target,
                wire,
                ends,
                series,
            }),
        }
    }
}

impl Service<Request<Incoming>> for MeshHttp {
    type Response = Response<Download>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let connection = Arc::clone(&self.connection);
        Box::pin(async move { Ok(connection.handle(request).await) })
    }
}

impl Connection {
    async fn handle(&self, request: Request<Incoming>) -> Response<Download> {
        let (parts, body) = request.into_parts();
        let manner = Manner::of(head::is_grpc(&parts.headers));
        let mut call = self.begin();
        call.asks(&parts.method, parts.uri.path(), &parts.headers);
        let checked = RequestHead::check(parts.method, &parts.uri, parts.version, parts.headers);
        let head = match checked {
            Ok(head) => head,
            Err(error) => return refuse(call, error.reason(), &error.to_string(), manner),
        };
        let permit = match self.inbound.gate.request(&self.peer, &self.target, &head) {
            Ok(permit) => permit,
            Err(denied) => {
                call.denied(&denied);
                return refuse(call, denied.reason, &denied.detail, manner);
            }
        };
        self.pass_on(&head, body, permit, call, manner).await
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
        body: Incoming,
        permit: Permit,
        mut call: Call,
        manner: Manner,
    ) -> Response<Download> {
        let Some(served) = self.inbound.gate.state().served.get(&self.target).cloned() else {
            let detail = "this workload no longer serves the port";
            return refuse(call, Reason::NoRoute, detail, manner);
        };
        let upload = Upload::new(body, Arc::clone(permit.stream()));
        let request = match self.request(head, &permit, &served, upload) {
            Ok(mut request) => {
                call.lead(request.headers_mut());
                Permitted::new(&permit, request)
            }
            Err(failure) => return refuse(call, failure.reason, &failure.detail, manner),
        };
        let decision = HeaderValue::from_str(&permit.decision().to_string()).ok();
        let stream = call.permitted(permit);
        call.attempts();
        let answered = tokio::select! {
            () = stream.ended() => {
                let reason = stream.reason().unwrap_or(Reason::Deadline);
                Err(Failure::new(reason, "ended before the application answered"))
            }
            answered = self.inbound.applications.send(&served, request) => answered,
        };
        match answered {
            Ok(response) => {
                call.answered(response.status());
                let (mut parts, body) = response.into_parts();
                // What an application says in the proxy's name is not believed.
                drop(head::clean_response(&mut parts.headers));
                if let Some(decision) = decision {
                    parts.headers.insert(DECISION, decision);
                }
                Response::from_parts(parts, Download::relayed(body, stream, call))
            }
            Err(failure) => refuse(call, failure.reason, &failure.detail, manner),
        }
    }

    /// The request that the application gets: the judged path, the proven identity.
    fn request(
        &self,
        head: &RequestHead,
        permit: &Permit,
        served: &Served,
        upload: Upload,
    ) -> Result<Request<Upload>, Failure> {
        let path = match head.target().query() {
            Some(query) => format!("{}?{query}", permit.path().as_str()),
            None => permit.path().as_str().to_owned(),
        };
        let authority = head.authority().map_or_else(
            || {
                let service = &self.target.service;
                format!(
                    "{}.{}.{}",
                    service.name,
                    service.namespace,
                    crate::route::ZONE
                )
            },
            ToString::to_string,
        );
        let mut request = Request::new(upload);
        *request.method_mut() = head.method().clone();
        *request.headers_mut() = head.fields().clone();
        let peer = &self.peer;
        let id = peer.spiffe_id().as_str();
        head::set_identity(request.headers_mut(), peer.leaf_sha256(), id);
        if speaks_http2(served.protocol) {
            *request.version_mut() = Version::HTTP_2;
            *request.uri_mut() = absolute(&authority, &path)?;
            if head.accepts_trailers() {
                let trailers = HeaderValue::from_static("trailers");
                request.headers_mut().insert(header::TE, trailers);
            }
        } else {
            *request.uri_mut() = Uri::from(path_and_query(&path)?);
            fields::join_cookies(request.headers_mut());
            let host = HeaderValue::from_str(&authority).map_err(bad_request)?;
            request.headers_mut().insert(header::HOST, host);
        }
        Ok(request)
    }
}

fn speaks_http2(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Http2 | Protocol::Grpc => true,
        Protocol::Http | Protocol::Tcp => false,
    }
}

/// What HTTP/2 makes its pseudo-header fields from.
pub(crate) fn absolute(authority: &str, path: &str) -> Result<Uri, Failure> {
    Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(path_and_query(path)?)
        .build()
        .map_err(bad_request)
}

fn path_and_query(path: &str) -> Result<PathAndQuery, Failure> {
    PathAndQuery::try_from(path).map_err(bad_request)
}

fn bad_request(error: impl Into<http::Error>) -> Failure {
    Failure::new(Reason::BadRequest, error.into().to_string())
}
