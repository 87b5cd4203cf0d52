//! The workload's way out: an HTTP port on loopback, and the same on a Unix socket.
//!
//! Invariant: a call leaves with the workload's identity only if the kernel says that an allowed
//! user made it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::Service;
use mtls::Credentials;
use runtime::Clock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::body::Download;
use super::call::Call;
use super::http_server::{Wire, serve};
use super::mesh::{ACCEPT_PAUSE, accept};
use super::peers::Peers;
use super::prefix::detect;
use super::routing::Router;
use super::tasks::Tasks;
use crate::config::Limits;
use crate::guard::caller::{CallerGuard, NotLocal};
use crate::live::Live;
use crate::record::{Direction, NetworkProtocol};
use crate::telemetry::Journal;

/// Everything that an outgoing call needs. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    pub(crate) router: Router,
    pub(crate) peers: Peers,
    pub(crate) live: Live,
    pub(crate) credentials: Credentials,
    pub(crate) journal: Journal,
    pub(crate) guard: CallerGuard,
    pub(crate) tasks: Tasks,
    pub(crate) limits: Arc<Limits>,
    pub(crate) clock: Clock,
}

/// The requests of one local connection. Cheap to clone.
#[derive(Clone, Debug)]
struct LocalHttp {
    outbound: Outbound,
    wire: Wire,
    /// Why nobody may call over this connection, if so.
    refused: Option<Arc<NotLocal>>,
}

impl Outbound {
    /// Accepts on loopback until the proxy drains.
    pub(crate) async fn accept_tcp(self, listener: TcpListener) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(self.limits.connections));
        let draining = self.tasks.shutdown().clone();
        loop {
            let (stream, place) = tokio::select! {
                () = draining.draining() => return Ok(()),
                accepted = accept(&listener, &room) => accepted,
            };
            let this = self.clone();
            self.tasks.spawn(async move {
                let _place = place;
                let refused = this.caller(&stream).err();
                this.connection(stream, refused).await;
            });
        }
    }

    /// Accepts on a Unix socket until the proxy drains.
    pub(crate) async fn accept_unix(self, listener: UnixListener) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(self.limits.connections));
        let draining = self.tasks.shutdown().clone();
        loop {
            let place = Arc::clone(&room).acquire_owned().await.ok();
            let accepted = tokio::select! {
                () = draining.draining() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let this = self.clone();
            self.tasks.spawn(async move {
                let _place = place;
                let refused = this.unix_caller(&stream).err();
                this.connection(stream, refused).await;
            });
        }
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
    pub(crate) fn begin(&self, protocol: NetworkProtocol, target: &Arc<str>) -> Call {
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

    async fn connection<S>(self, stream: S, refused: Option<NotLocal>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _open = self.journal.connection(Direction::Outbound);
        let first = timeout(self.limits.header_read.duration(), detect(stream));
        let Ok(Ok((wire, stream))) = first.await else {
            return;
        };
        let (limits, tasks) = (Arc::clone(&self.limits), self.tasks.clone());
        let draining = tasks.shutdown().clone();
        let service = LocalHttp {
            outbound: self,
            wire,
            refused: refused.map(Arc::new),
        };
        let leave = async move { draining.draining().await };
        serve(stream, wire, service, &limits, &tasks, leave).await;
    }
}

impl Service<Request<Incoming>> for LocalHttp {
    type Response = Response<Download>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Download>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let refused = this.refused.as_deref();
            Ok(this.outbound.handle(request, this.wire, refused).await)
        })
    }
}
