//! Mesh listeners: mutual TLS in, the gate, the application.
//!
//! Invariant: the target is the listener. Nothing that a caller sends selects it, and a caller
//! without a proven identity does not get past the handshake.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use mtls::{Credentials, HandshakeError, Refusal, ServerTls};
use runtime::Clock;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::accepting::{accept_each, place_of};
use super::application::Applications;
use super::call::Call;
use super::http_server::{Serving, Wire, serve};
use super::io::Io;
use super::mesh_http::{Checkups, MeshHttp};
use super::port_guard::PortGuard;
use super::relay::relay;
use super::silence::unless_silent;
use crate::admit::{Gate, Peer};
use crate::config::Limits;
use crate::failure::Reason;
use crate::guard::sources::{Source, SourcePlace, Sources};
use crate::record::{Direction, NetworkProtocol};
use crate::service_port::ServicePort;
use crate::sightings::Sightings;
use crate::state::is_http;
use crate::telemetry::Journal;
use crate::traffic::shared::Shared;
use crate::worker::leaving::{Connections, Leave};
use crate::worker::tasks::Tasks;

const ALPN_HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Everything that a worker's mesh connections need.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) gate: Gate,
    pub(crate) credentials: Credentials,
    pub(crate) applications: Applications,
    pub(crate) journal: Journal,
    pub(crate) tasks: Tasks,
    pub(crate) connections: Connections,
    pub(crate) limits: Arc<Limits>,
    pub(crate) clock: Clock,
    pub(crate) shared: Shared,
    pub(crate) checkups: Checkups,
    pub(crate) sources: Sources,
    pub(crate) sightings: Sightings,
}

impl Inbound {
    /// Accepts for one Service's port until `closed`, or until the proxy drains.
    pub(crate) async fn accept(
        self: Rc<Self>,
        listener: TcpListener,
        target: ServicePort,
        closed: CancellationToken,
    ) {
        let target = Arc::new(target);
        let ended = closed.cancelled();
        let connection =
            |stream| Rc::clone(&self).connection(stream, Arc::clone(&target), closed.clone());
        accept_each(&listener, &self.limits, &self.tasks, ended, connection).await;
    }

    async fn connection(
        self: Rc<Self>,
        stream: TcpStream,
        target: Arc<ServicePort>,
        closed: CancellationToken,
    ) {
        let Some(is_http) = self.speaks_http(&target) else {
            return;
        };
        let Some(_place) = place_of(&stream, &self.sources, &self.journal) else {
            return;
        };
        let _open = self.journal.connection(Direction::Inbound);
        let alpn: &[&[u8]] = if is_http { &ALPN_HTTP } else { &[] };
        // On the heap, or a connection's task would have room for it as long as it lives.
        let leave = self.connections.enter(None, Some(closed.clone()));
        // Before the handshake: what is shown in it is this or newer.
        let root = self.credentials.current().and_then(|it| it.root());
        let shaken = unless_silent(&leave, self.handshake(stream, alpn, &target));
        let Some(Some((tls, peer, _place))) = Box::pin(shaken).await else {
            return;
        };
        drop(leave);
        if !is_http {
            return Box::pin(self.tcp(tls, peer, target)).await;
        }
        let wire = match tls.alpn() {
            Some(b"h2") => Wire::Http2,
            _ => Wire::Http1,
        };
        let retire_at = self.retire_at(&peer);
        let leave = self
            .connections
            .enter_under(root, Some(retire_at), Some(closed));
        // A request on it asks once more whether the peer is vouched for.
        let leave = leave.with(self.gate.bind(&peer));
        let handler = Rc::new(MeshHttp::new(Rc::clone(&self), peer, target, wire));
        self.http(tls, wire, handler, leave).await;
    }

    /// Nothing of a port that is not served.
    fn speaks_http(&self, target: &ServicePort) -> Option<bool> {
        let state = self.gate.state();
        Some(is_http(state.served.get(target)?.protocol))
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        alpn: &[&[u8]],
        target: &ServicePort,
    ) -> Option<(Box<ServerTls<TcpStream>>, Peer, SourcePlace)> {
        let began = Instant::now();
        let ended = |reason| {
            let took = began.elapsed();
            self.journal.handshake(Direction::Inbound, reason, took);
        };
        let Ok(config) = self.credentials.server_config(alpn) else {
            ended(Some(Reason::NotReady));
            return None;
        };
        let limit = self.limits.handshake.duration();
        let tls = match timeout(limit, mtls::accept(stream, config)).await {
            Ok(Ok(tls)) => Box::new(tls),
            Ok(Err(error)) => {
                ended(Some(self.refused(error, target)));
                return None;
            }
            Err(_) => {
                ended(Some(Reason::Deadline));
                return None;
            }
        };
        let peer = tls.peer()?;
        self.sightings.note(peer);
        let peer = Peer::of(peer);
        let place = self
            .sources
            .enter(Source::Identity(peer.spiffe_id().clone()));
        ended(place.is_none().then_some(Reason::BulkheadFull));
        Some((tls, peer, place?))
    }

    /// Who is revoked has a name, and is told of like any caller that is denied.
    fn refused(&self, error: HandshakeError, target: &ServicePort) -> Reason {
        let HandshakeError::Refused(Refusal::Revoked { peer, by }) = error else {
            let error = runtime::exit::one_line(&error);
            tracing::debug!(error, "mesh handshake failed");
            return Reason::TlsHandshake;
        };
        let ends = (peer.shared_text(), target.to_string().into());
        let (now, tcp) = (self.clock.now(), NetworkProtocol::Tcp);
        let mut call = Call::begin(&self.journal, Direction::Inbound, now, tcp, ends);
        call.denied(&self.gate.revoked(&peer, target, by));
        Reason::Revoked
    }

    async fn http(
        &self,
        tls: Box<ServerTls<TcpStream>>,
        wire: Wire,
        handler: Rc<MeshHttp>,
        leave: Leave,
    ) {
        let serving = Serving {
            limits: &self.limits,
            tasks: &self.tasks,
            leave,
        };
        serve(Io::Accepted(tls), BytesMut::new(), wire, handler, serving).await;
    }

    async fn tcp(&self, tls: Box<ServerTls<TcpStream>>, peer: Peer, target: Arc<ServicePort>) {
        let (peer, target) = (&peer, &target);
        let ends = (peer.spiffe_id().shared_text(), target.to_string().into());
        let now = self.clock.now();
        let tcp = NetworkProtocol::Tcp;
        let mut call = Call::begin(&self.journal, Direction::Inbound, now, tcp, ends);
        let permit = match self.gate.connection(peer, target, call.started()) {
            Ok(permit) => permit,
            Err(denied) => return call.denied(&denied),
        };
        let Some(served) = self.gate.state().served.get(&**target).cloned() else {
            return call.fail(Reason::NoRoute, "this workload no longer serves the port");
        };
        let limits = PortGuard::new(&self.shared, target, peer.spiffe_id());
        let entry = match limits.enter(&served.traffic) {
            Ok(entry) => entry,
            Err(failure) => return call.failed(&failure),
        };
        call.holds(entry);
        match self
            .applications
            .connect(&permit, &served.application)
            .await
        {
            Ok(application) => {
                let stream = call.permitted(permit);
                relay(tls, application, &stream, &mut call).await;
            }
            Err(failure) => call.failed(&failure),
        }
    }

    /// After nine tenths of the time that both leaves have left. Not by a share of a leaf's whole
    /// life: a certificate begins before it is issued, and one that is short and half spent would
    /// be turned away at once.
    fn retire_at(&self, peer: &Peer) -> OffsetDateTime {
        let now = self.clock.now();
        let current = self.credentials.current();
        let own = current.map(|current| current.svid().svid().validity().not_after());
        let end = own.map_or_else(|| peer.not_after(), |own| own.min(peer.not_after()));
        now + (end - now) * 0.9
    }
}
