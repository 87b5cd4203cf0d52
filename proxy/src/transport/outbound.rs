//! The workload's way out: an HTTP port on loopback, and the same on a Unix socket.
//!
//! Invariant: a call leaves with the workload's identity only if the kernel says that an allowed
//! user made it.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use mtls::Credentials;
use runtime::Clock;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;

use super::accepting::accept_each;
use super::call::Call;
use super::external::Externals;
use super::http_server::{Serving, serve};
use super::io::Io;
use super::outbound_http::{LocalHttp, UNKNOWN};
use super::peers::Peers;
use super::prefix::detect;
use super::routing::Router;
use super::silence::unless_silent;
use super::steering::Steering;
use crate::config::Limits;
use crate::failure::Reason;
use crate::guard::caller::{CallerGuard, NotLocal};
use crate::guard::sources::Sources;
use crate::live::Shard;
use crate::record::{Direction, NetworkProtocol};
use crate::telemetry::Journal;
use crate::transparent::Intent;
use crate::worker::leaving::Connections;
use crate::worker::tasks::Tasks;

/// What TLS begins with, and HTTP cannot (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Everything that a worker's outgoing calls need.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) router: Router,
    pub(crate) peers: Peers,
    pub(crate) externals: Externals,
    pub(crate) steering: Steering,
    /// Each mirrored request on its way holds one.
    pub(crate) copies: Rc<()>,
    pub(crate) live: Shard,
    pub(crate) credentials: Credentials,
    pub(crate) journal: Journal,
    pub(crate) guard: CallerGuard,
    /// Who connects to our Gateways.
    pub(crate) outsiders: Sources,
    pub(crate) tasks: Tasks,
    pub(crate) connections: Connections,
    pub(crate) limits: Arc<Limits>,
    pub(crate) clock: Clock,
}

/// What the kernel said of a connection's end.
#[derive(Debug)]
pub(super) enum To {
    /// Nothing: the Host says it.
    Anything,
    Service(Intent),
    /// An address of no Service.
    Outside,
}

impl Outbound {
    /// Accepts on loopback until the proxy drains.
    pub(crate) async fn accept_tcp(self: Rc<Self>, listener: TcpListener) {
        let connection = |stream| {
            let this = Rc::clone(&self);
            let refused = this.caller(&stream).err();
            this.connection(Io::Tcp(stream), BytesMut::new(), refused, To::Anything)
        };
        accept_each(&listener, &self.limits, &self.tasks, pending(), connection).await;
    }

    /// Accepts on a Unix socket until the proxy drains.
    pub(crate) async fn accept_unix(self: Rc<Self>, listener: UnixListener) {
        let connection = |stream| {
            let this = Rc::clone(&self);
            let refused = this.unix_caller(&stream).err();
            this.connection(Io::Unix(stream), BytesMut::new(), refused, To::Anything)
        };
        accept_each(&listener, &self.limits, &self.tasks, pending(), connection).await;
    }

    /// Who is at the other end of a loopback connection.
    pub(crate) fn caller(&self, stream: &TcpStream) -> Result<u32, NotLocal> {
        let ends = || {
            Ok::<(SocketAddr, SocketAddr), io::Error>((stream.peer_addr()?, stream.local_addr()?))
        };
        let (peer, local) = ends().map_err(NotLocal::Unknown)?;
        self.guard.check(peer, local)
    }

    /// A call that begins now, in the name of our workload.
    pub(crate) fn begin(&self, protocol: NetworkProtocol, target: &Arc<str>) -> Box<Call> {
        let ends = (self.source(), Arc::clone(target));
        let now = self.clock.now();
        Call::begin(&self.journal, Direction::Outbound, now, protocol, ends)
    }

    /// Our own SPIFFE ID, for records.
    fn source(&self) -> Arc<str> {
        let current = self.credentials.current();
        current.map_or_else(|| Arc::from(""), |it| it.svid().spiffe_id().shared_text())
    }

    fn unix_caller(&self, stream: &UnixStream) -> Result<u32, NotLocal> {
        let peer = stream.peer_cred().map_err(NotLocal::Unknown)?;
        self.guard.check_uid(peer.uid())
    }

    /// `received` was read from `io` before.
    pub(super) async fn connection(
        self: Rc<Self>,
        mut io: Io,
        received: BytesMut,
        refused: Option<NotLocal>,
        to: To,
    ) {
        let _open = self.journal.connection(Direction::Outbound);
        let leave = self.connections.enter(None, None);
        let first = timeout(
            self.limits.header_read.duration(),
            detect(&mut io, received),
        );
        // On the heap, or a connection's task would have room for it as long as it lives.
        let first = Box::pin(unless_silent(&leave, first)).await;
        let Some(Ok(Ok((wire, received)))) = first else {
            return;
        };
        if matches!(to, To::Outside) && received.first() == Some(&TLS_HANDSHAKE) {
            let detail = "the program speaks TLS itself: an External carries plain HTTP, and \
                          originates TLS";
            let mut call = self.begin(NetworkProtocol::Tcp, &UNKNOWN);
            return call.fail(Reason::NoRoute, detail);
        }
        let handler = Rc::new(LocalHttp::new(Rc::clone(&self), wire, refused, to));
        let serving = Serving {
            limits: &self.limits,
            tasks: &self.tasks,
            leave,
        };
        serve(io, received, wire, handler, serving).await;
    }
}
