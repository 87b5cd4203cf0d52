//! Connections that `countersign redirect` led here: what programs connect to, whatever it was,
//! and what others connect to past the mesh.
//!
//! Invariant: an outgoing connection is carried only to the Service that its address stands for or,
//! where that is none's, to a host that an External leads to, and only for an allowed user; an
//! incoming one is never carried at all. What is no HTTP is closed at once: there is no way to tell
//! it why, and the record says so.

use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use http::request::Parts;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::accepting::accept_each;
use super::body::Upload;
use super::call::Call;
use super::failure::Failure;
use super::http_server::{Answer, Handler, Interims, Serving, Wire, serve};
use super::io::Io;
use super::mesh::Inbound;
use super::outbound::{Outbound, To};
use super::outbound_http::UNKNOWN;
use super::prefix::detect;
use super::refusal::{Manner, refuse};
use super::routing::Asked;
use super::silence::unless_silent;
use crate::failure::Reason;
use crate::guard::caller::NotLocal;
use crate::head;
use crate::record::{Direction, NetworkProtocol};
use crate::service_port::ServicePort;
use crate::state::is_http;
use crate::transparent::{Intent, original_destination};

const PLAINTEXT: &str = "this port is reached through the mesh only, by callers with an identity";

/// Somebody who came past the mesh to an HTTP port of ours.
#[derive(Debug)]
struct Plaintext {
    inbound: Rc<Inbound>,
    target: ServicePort,
    wire: Wire,
}

impl Outbound {
    /// Accepts what was redirected here, until the proxy drains.
    pub(crate) async fn accept_redirected(self: Rc<Self>, listener: TcpListener) {
        let connection = |stream| Rc::clone(&self).redirected(stream);
        accept_each(&listener, &self.limits, &self.tasks, pending(), connection).await;
    }

    async fn redirected(self: Rc<Self>, stream: TcpStream) {
        let state = self.router.state();
        let original = match original(&stream) {
            Ok(original) => original,
            Err(failure) => {
                return self.begin(NetworkProtocol::Tcp, &UNKNOWN).failed(&failure);
            }
        };
        let intent = match Intent::of(&state.addresses, original) {
            Ok(intent) => intent,
            // Nothing is waited for where nothing can lead out.
            Err(error) if state.externals.is_empty() => {
                let mut call = self.begin(NetworkProtocol::Tcp, &UNKNOWN);
                return call.fail(Reason::NoRoute, &error.to_string());
            }
            Err(_) => {
                let refused = self.redirected_caller(&stream, original).err();
                return self
                    .connection(Io::Tcp(stream), BytesMut::new(), refused, To::Outside)
                    .await;
            }
        };
        let caller = self.redirected_caller(&stream, original);
        let target = state.targets.get(intent.destination());
        if target.is_some_and(|target| is_http(target.protocol)) {
            let refused = caller.err();
            return self
                .connection(
                    Io::Tcp(stream),
                    BytesMut::new(),
                    refused,
                    To::Service(intent),
                )
                .await;
        }
        let asked = Asked::Number(intent.destination().clone());
        self.reach(stream, asked, caller).await;
    }

    /// The program's own socket knows nothing of the redirect: its peer is where it wanted to go.
    fn redirected_caller(&self, stream: &TcpStream, original: SocketAddr) -> Result<u32, NotLocal> {
        let peer = stream.peer_addr().map_err(NotLocal::Unknown)?;
        self.guard.check(peer, original)
    }
}

impl Inbound {
    /// Accepts what was redirected here, until the proxy drains, and refuses it.
    pub(crate) async fn accept_redirected(self: Rc<Self>, listener: TcpListener) {
        let connection = |stream| Rc::clone(&self).plaintext(stream);
        accept_each(&listener, &self.limits, &self.tasks, pending(), connection).await;
    }

    async fn plaintext(self: Rc<Self>, stream: TcpStream) {
        let tcp = NetworkProtocol::Tcp;
        let original = match original(&stream) {
            Ok(original) => original,
            Err(failure) => return self.past_the_mesh("unknown", tcp).failed(&failure),
        };
        let state = self.gate.state();
        let served = state.served.iter();
        let mut served = served.filter(|(_, it)| it.application_port() == Some(original.port()));
        let (target, detail) = match served.next() {
            Some((target, served)) if is_http(served.protocol) => {
                let target = target.clone();
                return self.refuse_http(Io::Tcp(stream), target).await;
            }
            Some((target, _)) => (target.to_string(), PLAINTEXT.to_owned()),
            None => (
                "unknown".to_owned(),
                format!("{original} is no port of a Service: {PLAINTEXT}"),
            ),
        };
        self.past_the_mesh(&target, tcp)
            .fail(Reason::PlaintextRefused, &detail);
    }

    async fn refuse_http(self: Rc<Self>, mut io: Io, target: ServicePort) {
        let _open = self.journal.connection(Direction::Inbound);
        let leave = self.connections.enter(None, None);
        let first = timeout(
            self.limits.header_read.duration(),
            detect(&mut io, BytesMut::new()),
        );
        let first = Box::pin(unless_silent(&leave, first)).await;
        let Some(Ok(Ok((wire, received)))) = first else {
            return;
        };
        let handler = Rc::new(Plaintext {
            inbound: Rc::clone(&self),
            target,
            wire,
        });
        let serving = Serving {
            limits: &self.limits,
            tasks: &self.tasks,
            leave,
        };
        serve(io, received, wire, handler, serving).await;
    }

    /// A call of nobody that the mesh knows.
    fn past_the_mesh(&self, target: &str, protocol: NetworkProtocol) -> Box<Call> {
        let ends = (Arc::from(""), Arc::from(target));
        let now = self.clock.now();
        Call::begin(&self.journal, Direction::Inbound, now, protocol, ends)
    }
}

impl Handler for Plaintext {
    type Begun = Box<Answer>;

    fn begin(&self, head: Parts) -> Box<Answer> {
        let target = self.target.to_string();
        let mut call = self.inbound.past_the_mesh(&target, self.wire.protocol());
        call.asks(&head.method, head.uri.path(), &head.headers);
        let manner = Manner::of(head::is_grpc(&head.headers));
        Box::new(refuse(call, Reason::PlaintextRefused, PLAINTEXT, manner))
    }

    async fn finish(&self, refused: Box<Answer>, _: Upload, _: &Interims) -> Answer {
        *refused
    }
}

fn original(stream: &TcpStream) -> Result<SocketAddr, Failure> {
    let found = stream.local_addr().map_err(|error| error.to_string());
    found
        .and_then(|local| original_destination(stream, local).map_err(|error| error.to_string()))
        .map_err(|error| Failure::new(Reason::NoRoute, error))
}
