//! The feed's connection: to the agent's Unix socket, or to an agent in this process.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use proto::mesh::v1::mesh_feed_client::MeshFeedClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Where the agent is. Lost connections are made again.
#[derive(Clone)]
pub enum FeedSource {
    /// Its feed socket.
    Socket(PathBuf),
    /// In this process: what `Agent::feed_connector` gives.
    InProcess(Arc<dyn Fn() -> io::Result<UnixStream> + Send + Sync>),
}

impl FeedSource {
    /// The agent of this process, by what connects to it.
    pub fn in_process(
        connect: impl Fn() -> io::Result<UnixStream> + Send + Sync + 'static,
    ) -> Self {
        Self::InProcess(Arc::new(connect))
    }
}

impl fmt::Debug for FeedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => f.debug_tuple("Socket").field(path).finish(),
            Self::InProcess(_) => f.write_str("InProcess"),
        }
    }
}

/// Makes connections.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    source: FeedSource,
}

impl Connector {
    pub(crate) fn new(source: FeedSource) -> Self {
        Self { source }
    }

    /// # Errors
    /// If nobody accepts.
    pub(crate) async fn client(&self) -> Result<MeshFeedClient<Channel>, tonic::transport::Error> {
        let this = self.clone();
        let channel = Endpoint::from_static("http://feed.invalid")
            .connect_with_connector(service_fn(move |_| {
                let this = this.clone();
                async move { this.stream().await.map(TokioIo::new) }
            }))
            .await?;
        Ok(MeshFeedClient::new(channel))
    }

    async fn stream(&self) -> io::Result<UnixStream> {
        match &self.source {
            FeedSource::Socket(path) => UnixStream::connect(path).await,
            FeedSource::InProcess(connect) => connect(),
        }
    }
}
