//! The feed's connection: the agent's Unix socket, or a stream that was handed over.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::rt::TokioIo;
use proto::mesh::v1::mesh_feed_client::MeshFeedClient;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Where the agent is.
#[derive(Debug)]
pub enum FeedSource {
    /// Its feed socket; lost connections are made again.
    Socket(PathBuf),
    /// A connected stream, as from `Agent::feed_connection`; it cannot be made again.
    Connected(UnixStream),
}

/// Makes connections as long as the source can.
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    source: Arc<Mutex<Source>>,
    /// The connection over a stream that was handed over: a refused subscription must not end it.
    kept: Arc<OnceCell<Channel>>,
}

#[derive(Debug)]
enum Source {
    Socket(PathBuf),
    Once(Option<UnixStream>),
}

impl Connector {
    pub(crate) fn new(source: FeedSource) -> Self {
        let source = match source {
            FeedSource::Socket(path) => Source::Socket(path),
            FeedSource::Connected(stream) => Source::Once(Some(stream)),
        };
        Self {
            source: Arc::new(Mutex::new(source)),
            kept: Arc::default(),
        }
    }

    /// # Errors
    /// If nobody accepts, or the one stream was used up.
    pub(crate) async fn client(&self) -> Result<MeshFeedClient<Channel>, tonic::transport::Error> {
        let channel = if self.is_once() {
            self.kept.get_or_try_init(|| self.connect()).await?.clone()
        } else {
            self.connect().await?
        };
        Ok(MeshFeedClient::new(channel))
    }

    async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let this = self.clone();
        Endpoint::from_static("http://feed.invalid")
            .connect_with_connector(service_fn(move |_| {
                let this = this.clone();
                async move { this.stream().await.map(TokioIo::new) }
            }))
            .await
    }

    fn is_once(&self) -> bool {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*source, Source::Once(_))
    }

    async fn stream(&self) -> io::Result<UnixStream> {
        let path = match &mut *self.source.lock().unwrap_or_else(PoisonError::into_inner) {
            Source::Socket(path) => path.clone(),
            Source::Once(stream) => {
                return stream.take().ok_or_else(|| {
                    io::Error::new(io::ErrorKind::NotConnected, "the feed's stream has ended")
                });
            }
        };
        UnixStream::connect(path).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn handed_over_stream_serves_more_than_one_subscription() {
        let (ours, _agents) = UnixStream::pair().unwrap();
        let connector = Connector::new(FeedSource::Connected(ours));
        connector.client().await.unwrap();
        assert!(connector.client().await.is_ok());
    }
}
