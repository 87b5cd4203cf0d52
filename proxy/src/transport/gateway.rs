//! Listeners of Gateways: TLS that proves a host name to callers who have no identity, the routes
//! of that host, and from there the way of every call of our workload.
//!
//! Invariant: a caller outside is told why it is refused, in one word of the vocabulary, and
//! nothing of the mesh's inside; what it says of its way here is dropped. A connection is for the
//! host that its handshake named, and for no other.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use http::request::Parts;
use http::uri::{Scheme, Uri};
use http::{StatusCode, Version};
use mtls::ServerTls;
use policy::Request;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::accepting::{accept_each, place_of};
use super::body::Upload;
use super::carry::asked_path;
use super::failure::Failure;
use super::http_server::{Answer, Handler, Interims, Serving, Wire, serve};
use super::io::Io;
use super::outbound::Outbound;
use super::outbound_http::UNKNOWN;
use super::refusal::{Manner, for_outside, refuse_for};
use super::routing;
use super::silence::unless_silent;
use super::steering::Course;
use crate::admit::JudgedFields;
use crate::failure::Reason;
use crate::gateway::{Front, forwarded};
use crate::head::{self, RequestHead};
use crate::record::Direction;

/// A connection is asked to leave after this, however busy: callers come back by way of DNS, and
/// places that nobody uses come free.
const LONGEST: Duration = Duration::from_secs(3600);

/// The requests of one connection from outside.
#[derive(Debug)]
struct Outsider {
    outbound: Rc<Outbound>,
    front: Arc<ArcSwap<Front>>,
    /// The host that the handshake named.
    host: String,
    client: IpAddr,
    wire: Wire,
}

impl Outbound {
    /// Accepts for one port of Gateways until `closed`, or until the proxy drains.
    pub(crate) async fn accept_gateway(
        self: Rc<Self>,
        listener: TcpListener,
        front: Arc<ArcSwap<Front>>,
        closed: CancellationToken,
    ) {
        let ended = closed.cancelled();
        let connection =
            |stream| Rc::clone(&self).outsider(stream, Arc::clone(&front), closed.clone());
        accept_each(&listener, &self.limits, &self.tasks, ended, connection).await;
    }

    async fn outsider(
        self: Rc<Self>,
        stream: TcpStream,
        front: Arc<ArcSwap<Front>>,
        closed: CancellationToken,
    ) {
        let Some(_place) = place_of(&stream, &self.outsiders, &self.journal) else {
            return;
        };
        let _open = self.journal.connection(Direction::Inbound);
        let Ok(client) = stream.peer_addr().map(|it: SocketAddr| it.ip()) else {
            return;
        };
        // On the heap, or a connection's task would have room for it as long as it lives.
        let leave = self.connections.enter(None, Some(closed.clone()));
        let shaken = unless_silent(&leave, self.show_certificate(stream, &front));
        let Some(Some(tls)) = Box::pin(shaken).await else {
            return;
        };
        drop(leave);
        let Some(host) = tls.server_name().map(str::to_ascii_lowercase) else {
            return;
        };
        let wire = match tls.alpn() {
            Some(b"h2") => Wire::Http2,
            _ => Wire::Http1,
        };
        let handler = Rc::new(Outsider {
            outbound: Rc::clone(&self),
            front,
            host,
            client,
            wire,
        });
        let retire_at = self.clock.now() + LONGEST;
        let serving = Serving {
            limits: &self.limits,
            tasks: &self.tasks,
            leave: self.connections.enter(Some(retire_at), Some(closed)),
        };
        serve(Io::Accepted(tls), BytesMut::new(), wire, handler, serving).await;
    }

    async fn show_certificate(
        &self,
        stream: TcpStream,
        front: &ArcSwap<Front>,
    ) -> Option<Box<ServerTls<TcpStream>>> {
        let began = Instant::now();
        let config = front.load().tls.clone();
        let shaken = match config {
            Some(config) => {
                let limit = self.limits.handshake.duration();
                match timeout(limit, mtls::accept(stream, config)).await {
                    Ok(Ok(tls)) => Ok(Box::new(tls)),
                    Ok(Err(error)) => {
                        let error = runtime::exit::one_line(&error);
                        tracing::debug!(error, "handshake of a caller outside failed");
                        Err(Reason::TlsHandshake)
                    }
                    Err(_) => Err(Reason::Deadline),
                }
            }
            None => Err(Reason::NotReady),
        };
        let reason = shaken.as_ref().err().copied();
        self.journal
            .handshake(Direction::Inbound, reason, began.elapsed());
        shaken.ok()
    }
}

impl Outsider {
    async fn answer(
        &self,
        mut parts: Box<Parts>,
        upload: Upload,
        interims: &Interims,
        manner: Manner,
    ) -> Answer {
        let outbound = &self.outbound;
        let mut call = outbound.begin(self.wire.protocol(), &UNKNOWN);
        call.asks(&parts.method, parts.uri.path(), &parts.headers);
        if parts.version < Version::HTTP_2 {
            parts.uri = over_tls(std::mem::take(&mut parts.uri));
        }
        let parts = *parts;
        let checked = RequestHead::check(parts.method, &parts.uri, parts.version, parts.headers);
        let mut head = match checked {
            Ok(head) => Box::new(head),
            Err(error) => {
                let failure = Failure::new(error.reason(), error.to_string());
                return refuse_for(call, &failure, manner);
            }
        };
        forwarded::replace(head.fields_mut(), self.client);
        match self.course(&head).await {
            Ok(course) => {
                call.leads_to(&course.target.label);
                call.lead(head.fields_mut());
                outbound
                    .deliver(course, head, upload, call, manner, interims)
                    .await
            }
            Err(failure) => refuse_for(call, &failure, manner),
        }
    }

    async fn course(&self, head: &RequestHead) -> Result<Course, Failure> {
        let host = self.host_of(head)?;
        let path = asked_path(head)?;
        let front = self.front.load_full();
        let to = front.doors(&host).and_then(|doors| {
            doors.find(&Request::Http {
                method: head.method().as_str(),
                path: &path,
                headers: &JudgedFields(head),
            })
        });
        let to = to.ok_or_else(|| {
            let path = head.target().path();
            not_found(format!(
                "no route of {host} matches {} {path}",
                head.method()
            ))
        })?;
        let asked = routing::Asked::Name(to.clone());
        let target = self.outbound.router.resolve(&asked).await?;
        self.outbound.steering.course(target, Instant::now())
    }

    /// The host that the request is for, which is the one that the handshake named: a certificate
    /// for many hosts is no leave to reach them all over one connection (RFC 9110 section 7.4).
    fn host_of(&self, head: &RequestHead) -> Result<String, Failure> {
        let Some(authority) = head.authority() else {
            return Ok(self.host.clone());
        };
        let host = authority.host().to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        if host == self.host {
            return Ok(self.host.clone());
        }
        if self.front.load().doors(host).is_some() {
            let detail = format!("{host} on a connection for {}", self.host);
            let failure = Failure::new(Reason::NoRoute, detail);
            return Err(failure.with_status(StatusCode::MISDIRECTED_REQUEST));
        }
        Err(not_found(format!(
            "no Gateway of this proxy has host {host}"
        )))
    }
}

impl Handler for Outsider {
    type Begun = Box<Parts>;

    fn begin(&self, parts: Parts) -> Box<Parts> {
        Box::new(parts)
    }

    async fn finish(&self, parts: Box<Parts>, upload: Upload, interims: &Interims) -> Answer {
        let manner = Manner::of(head::is_grpc(&parts.headers));
        let answer = self.answer(parts, upload, interims, manner).await;
        for_outside(answer, manner)
    }
}

/// HTTP/1 names the scheme in the absolute form only, where this one is right.
fn over_tls(uri: Uri) -> Uri {
    if uri.scheme() != Some(&Scheme::HTTPS) {
        return uri;
    }
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    Uri::from_parts(parts).unwrap_or(uri)
}

fn not_found(detail: String) -> Failure {
    Failure::new(Reason::NoRoute, detail).with_status(StatusCode::NOT_FOUND)
}
