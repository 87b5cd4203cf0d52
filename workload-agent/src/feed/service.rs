//! The feed's gRPC service, on its socket and on socket pairs made in this process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{BoxStream, StreamExt, select, unfold};
use identity::QualifiedName;
use proto::mesh::v1 as mesh;
use proto::mesh::v1::mesh_feed_server::{MeshFeed, MeshFeedServer};
use runtime::{Clock, Shutdown};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::peer::{FeedPeer, NotAProxy, ProxyMap};
use super::roster::Roster;
use super::subscription::Subscription;
use crate::ca::Heard;
use crate::caller::Caller;
use crate::config::Application;
use crate::holdings::Holdings;
use crate::peer_stream::PeerStream;
use crate::socket::Socket;
use crate::view::View;

const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(5);
/// A workload may have been registered a moment ago.
const ASSIGNED_WITHIN: Duration = Duration::from_secs(5);
const PENDING_PAIRS: usize = 64;

/// What subscriptions read from and report to. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct FeedParts {
    pub(crate) clock: Clock,
    pub(crate) view: watch::Receiver<Option<Arc<View>>>,
    pub(crate) holdings: watch::Receiver<Arc<Holdings>>,
    pub(crate) heard: Heard,
    pub(crate) roster: Roster,
    pub(crate) applications: Arc<Vec<Application>>,
    pub(crate) shutdown: Shutdown,
}

/// The service.
#[derive(Clone, Debug)]
pub(crate) struct FeedDesk {
    parts: FeedParts,
    proxies: ProxyMap,
}

/// Makes feeds for proxies in this process. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct InProcess(mpsc::Sender<FeedStream>);

/// Where the feed is served.
#[derive(Debug)]
pub(crate) struct FeedListener {
    pub(crate) socket: Option<Socket>,
    pairs: mpsc::Receiver<FeedStream>,
}

type FeedStream = PeerStream<FeedPeer>;

impl FeedListener {
    pub(crate) fn new(socket: Option<Socket>) -> (Self, InProcess) {
        let (sender, pairs) = mpsc::channel(PENDING_PAIRS);
        (Self { socket, pairs }, InProcess(sender))
    }
}

impl InProcess {
    /// The client's half of a new connection.
    pub(crate) fn connect(&self, workload: &QualifiedName) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        let stream = FeedStream {
            inner: ours,
            peer: FeedPeer::InProcess(workload.clone()),
            _place: None,
        };
        let sent = self.0.try_send(stream);
        sent.map_err(|_| {
            io::Error::other("the agent is stopping, or too many feeds are being opened")
        })?;
        Ok(theirs)
    }
}

impl FeedDesk {
    pub(crate) fn new(parts: FeedParts, proxies: ProxyMap) -> Self {
        Self { parts, proxies }
    }

    /// Serves until the shutdown begins; open feeds end with it.
    pub(crate) async fn serve(self, listener: FeedListener) -> Result<(), tonic::transport::Error> {
        let FeedListener { socket, pairs } = listener;
        let draining = self.parts.shutdown.clone();
        let pairs = ReceiverStream::new(pairs).map(Ok);
        let (listener, _file) = socket.map(|socket| (socket.listener, socket.file)).unzip();
        let incoming: BoxStream<'static, io::Result<FeedStream>> = match listener {
            Some(listener) => select(unfold(listener, accept), pairs).boxed(),
            None => pairs.boxed(),
        };
        Server::builder()
            .max_concurrent_streams(Some(8))
            .add_service(MeshFeedServer::new(self))
            .serve_with_incoming_shutdown(incoming, async move { draining.draining().await })
            .await
    }

    fn admit(&self, peer: &FeedPeer, hello: &mesh::Subscribe) -> Result<QualifiedName, Status> {
        let theirs = hello.version.unwrap_or_default();
        if !mesh::PROTOCOL.interoperates_with(theirs) {
            return Err(Status::failed_precondition(format!(
                "version: this agent speaks {}.{}, the proxy {}.{}; upgrade the older of the two",
                mesh::PROTOCOL.major,
                mesh::PROTOCOL.minor,
                theirs.major,
                theirs.minor
            )));
        }
        let asked = Some(hello.workload.as_str()).filter(|name| !name.is_empty());
        let asked = asked
            .map(str::parse)
            .transpose()
            .map_err(|error| Status::invalid_argument(format!("workload: {error}")))?;
        self.proxies.admit(peer, asked.as_ref()).map_err(|error| {
            tracing::warn!(%error, "feed refused");
            error.into()
        })
    }
}

#[tonic::async_trait]
impl MeshFeed for FeedDesk {
    type SubscribeStream = BoxStream<'static, Result<mesh::FeedMessage, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<mesh::ProxyMessage>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let peer = request.extensions().get::<FeedPeer>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the connection has no peer"))?;
        let mut inbound = request.into_inner();
        let hello = first(&mut inbound).await?;
        let workload = self.admit(&peer, &hello)?;
        self.assigned(&workload).await?;
        let pid = match &peer {
            FeedPeer::InProcess(_) => None,
            FeedPeer::Process(caller) => u32::try_from(caller.process.pid()).ok(),
        };
        let seat = self
            .parts
            .roster
            .enter(&workload, pid, &hello)
            .map_err(|full| Status::resource_exhausted(full.to_string()))?;
        tracing::info!(%workload, product = hello.product, "proxy subscribed");
        let subscription = Subscription::new(
            self.parts.clone(),
            self.proxies.clone(),
            peer,
            workload,
            seat,
            inbound,
        );
        Ok(Response::new(subscription.messages().boxed()))
    }
}

impl FeedDesk {
    async fn assigned(&self, workload: &QualifiedName) -> Result<(), Status> {
        let mut view = self.parts.view.clone();
        let assigned = view.wait_for(|view| {
            view.as_ref()
                .is_some_and(|view| view.assignment_of(workload).is_some())
        });
        match timeout(ASSIGNED_WITHIN, assigned).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Status::unavailable(format!(
                "{workload} is not assigned to this agent; name the agent in the Workload's `agents`"
            ))),
        }
    }
}

impl From<NotAProxy> for Status {
    fn from(error: NotAProxy) -> Self {
        match error {
            NotAProxy::Ambiguous => Self::invalid_argument(error.to_string()),
            NotAProxy::NoEntry { .. } | NotAProxy::OtherWorkload(_) | NotAProxy::Unreadable(_) => {
                Self::permission_denied(error.to_string())
            }
        }
    }
}

async fn first(inbound: &mut Streaming<mesh::ProxyMessage>) -> Result<mesh::Subscribe, Status> {
    let message = timeout(SUBSCRIBE_WITHIN, inbound.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no `subscribe` came"))??;
    match message.and_then(|message| message.message) {
        Some(mesh::proxy_message::Message::Subscribe(hello)) => Ok(hello),
        _ => Err(Status::invalid_argument(
            "message: the first must be `subscribe`",
        )),
    }
}

/// Accepts until the end of time; callers that cannot be identified are turned away.
async fn accept(listener: UnixListener) -> Option<(io::Result<FeedStream>, UnixListener)> {
    loop {
        match listener
            .accept()
            .await
            .map(|(stream, _)| (Caller::of(&stream), stream))
        {
            Ok((Ok(caller), inner)) => {
                let peer = FeedPeer::Process(Arc::new(caller));
                let stream = FeedStream {
                    inner,
                    peer,
                    _place: None,
                };
                return Some((Ok(stream), listener));
            }
            Ok((Err(error), _)) => tracing::warn!(%error, "feed connection refused"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the feed socket");
                // Out of descriptors: accepting again at once would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
