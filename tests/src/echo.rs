//! A gRPC application with a unary and a streaming method. Its messages are the agent protocol's,
//! since those are at hand; what they mean there does not matter here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proto::agent::v1::agent_message::Message;
use proto::agent::v1::ca_message;
use proto::agent::v1::configuration_watch_server::{ConfigurationWatch, ConfigurationWatchServer};
use proto::agent::v1::issuance_server::{Issuance, IssuanceServer};
use proto::agent::v1::{AgentMessage, CaMessage, Greeting, IssueRequest, IssueResponse};
use tokio::net::TcpStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// Path prefix of the unary method's service.
pub const UNARY: &str = "/countersign.agent.v1.Issuance";
/// Path prefix of the streaming method's service.
pub const STREAMING: &str = "/countersign.agent.v1.ConfigurationWatch";

/// Counts its unary calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Echo {
    calls: Arc<AtomicUsize>,
    /// It answers every unary call with UNAVAILABLE.
    is_ill: bool,
}

impl Echo {
    pub(crate) fn ill() -> Self {
        Self {
            is_ill: true,
            ..Self::default()
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

pub(crate) async fn serve(
    echo: Echo,
    incoming: impl Stream<Item = io::Result<TcpStream>> + Send + Unpin + 'static,
) {
    let served = Server::builder()
        .add_service(IssuanceServer::new(echo.clone()))
        .add_service(ConfigurationWatchServer::new(echo))
        .serve_with_incoming(incoming)
        .await;
    served.expect("it serves until it is dropped");
}

#[tonic::async_trait]
impl Issuance for Echo {
    /// Answers with the number of requests.
    async fn issue(
        &self,
        request: Request<IssueRequest>,
    ) -> Result<Response<IssueResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if self.is_ill {
            return Err(Status::unavailable("ill"));
        }
        let count = request.into_inner().requests.len();
        let count = i64::try_from(count).map_err(|_| Status::out_of_range("too many"))?;
        Ok(Response::new(IssueResponse {
            results: Vec::new(),
            ca_time_unix_ms: count,
        }))
    }
}

#[tonic::async_trait]
impl ConfigurationWatch for Echo {
    type WatchStream = std::pin::Pin<Box<dyn Stream<Item = Result<CaMessage, Status>> + Send>>;

    /// Greets whoever says `Hello`, in the name of its product, each time.
    async fn watch(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let answers = request.into_inner().map(|message| match message?.message {
            Some(Message::Hello(hello)) => Ok(greeting(hello.product)),
            _ => Err(Status::invalid_argument("say hello")),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

fn greeting(replica: String) -> CaMessage {
    let greeting = Greeting {
        replica,
        ..Greeting::default()
    };
    CaMessage {
        message: Some(ca_message::Message::Greeting(greeting)),
    }
}
