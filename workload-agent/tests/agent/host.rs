//! A host with one agent, and the programs that call it.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use identity::JoinToken;
use proto::mesh::v1::mesh_feed_client::MeshFeedClient;
use proto::mesh::v1::{self as mesh, feed_message, proxy_message};
use proto::spiffe as wire;
use proto::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use runtime::Clock;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use workload_agent::{Agent, AgentStatus, Config};

const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Host {
    directory: TempDir,
    clock: Clock,
}

/// A proxy's end of the feed.
pub(crate) struct Proxy {
    pub(crate) say: mpsc::Sender<mesh::ProxyMessage>,
    pub(crate) feed: Streaming<mesh::FeedMessage>,
}

impl Host {
    pub(crate) fn new(clock: Clock) -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, clock }
    }

    pub(crate) fn write_token(&self, token: &JoinToken) {
        let path = self.directory.path().join("join-token");
        runtime::files::write_private(path, token.to_string().as_bytes()).unwrap();
    }

    /// As if the agent had ended before it could cache one.
    pub(crate) fn forget_configuration(&self) {
        let path = self.directory.path().join("agent/configuration.sealed");
        drop(std::fs::remove_file(path));
    }

    /// This test's process is the workload.
    pub(crate) async fn start(&self) -> Agent {
        let agent = self.start_without_workload().await;
        agent
            .spawned(&"shop/orders".parse().unwrap(), std::process::id())
            .unwrap();
        agent
    }

    pub(crate) async fn start_without_workload(&self) -> Agent {
        let config = Config::for_directory(self.directory.path());
        Agent::start(config, self.clock.clone()).await.unwrap()
    }
}

pub(crate) async fn until<T: Clone>(
    receiver: &mut watch::Receiver<T>,
    what: &str,
    is_so: impl FnMut(&T) -> bool,
) -> T {
    match timeout(DEADLINE, receiver.wait_for(is_so)).await {
        Ok(value) => value.unwrap().clone(),
        Err(_) => panic!("{what} did not come about"),
    }
}

/// Waits for the workload's certificate.
pub(crate) async fn ready(agent: &Agent) -> AgentStatus {
    until(&mut agent.status(), "a certificate", |status| {
        status.identities.len() == 2
    })
    .await
}

pub(crate) async fn workload_client(agent: &Agent) -> SpiffeWorkloadApiClient<Channel> {
    let path = agent.workload_api_socket().to_owned();
    SpiffeWorkloadApiClient::new(channel(move || UnixStream::connect(path.clone())).await)
}

pub(crate) async fn fetch(agent: &Agent) -> Result<Streaming<wire::X509svidResponse>, Status> {
    let mut request = Request::new(wire::X509svidRequest {});
    let header = MetadataValue::from_static("true");
    request.metadata_mut().insert("workload.spiffe.io", header);
    let response = workload_client(agent).await.fetch_x509svid(request).await?;
    Ok(response.into_inner())
}

pub(crate) async fn next<M>(stream: &mut Streaming<M>) -> M {
    timeout(DEADLINE, stream.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

impl Proxy {
    pub(crate) async fn subscribe(agent: &Agent, workload: &str) -> Result<Self, Status> {
        let stream = agent.feed_connector(&"shop/orders".parse().unwrap())().unwrap();
        let mut stream = Some(stream);
        let channel = channel(move || std::future::ready(Ok(stream.take().unwrap()))).await;
        let (say, said) = mpsc::channel(8);
        let hello = proxy_message::Message::Subscribe(mesh::Subscribe {
            version: Some(mesh::PROTOCOL),
            workload: workload.to_owned(),
            product: "test".to_owned(),
            engine_version: 1,
        });
        say.send(mesh::ProxyMessage {
            message: Some(hello),
        })
        .await
        .unwrap();
        let response = MeshFeedClient::new(channel)
            .subscribe(ReceiverStream::new(said))
            .await?;
        Ok(Self {
            say,
            feed: response.into_inner(),
        })
    }

    pub(crate) async fn say(&self, message: proxy_message::Message) {
        self.say
            .send(mesh::ProxyMessage {
                message: Some(message),
            })
            .await
            .unwrap();
    }

    /// The next message that `pick` takes; others are passed over.
    pub(crate) async fn until<T>(
        &mut self,
        pick: impl Fn(feed_message::Message) -> Option<T>,
    ) -> T {
        loop {
            if let Some(found) = next(&mut self.feed).await.message.and_then(&pick) {
                return found;
            }
        }
    }
}

async fn channel<F, C>(mut connect: C) -> Channel
where
    F: Future<Output = std::io::Result<UnixStream>> + Send + 'static,
    C: FnMut() -> F + Send + 'static,
{
    Endpoint::from_static("http://local")
        .connect_with_connector(tower::service_fn(move |_| {
            let connecting = connect();
            async move { connecting.await.map(TokioIo::new) }
        }))
        .await
        .unwrap()
}
