//! The gRPC service `ConfigurationWatch`, for one connection of one live agent.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use proto::agent::v1 as wire;
use proto::agent::v1::configuration_watch_server::ConfigurationWatch;
use runtime::{Clock, Shutdown};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::endpoints::EndpointBoard;
use super::presence::Presence;
use super::session::WatchSession;
use crate::config::{Lifetimes, Limits};
use crate::issue::{AdmittedAgents, Directory};
use crate::log::Sightings;
use crate::metrics::Metrics;
use crate::peer::AgentPeer;
use crate::recovery::Recovery;
use crate::revocation::ToldLists;

/// Messages that wait for an agent that reads slowly.
const OUTGOING: usize = 16;

/// What every stream shares.
#[derive(Debug)]
pub(crate) struct WatchDesk {
    pub(crate) directory: Directory,
    pub(crate) presence: Presence,
    pub(crate) board: EndpointBoard,
    pub(crate) admitted: AdmittedAgents,
    pub(crate) replica: String,
    /// `host:port` of every replica.
    pub(crate) replicas: Vec<String>,
    pub(crate) lists: watch::Receiver<Arc<ToldLists>>,
    pub(crate) recovery: Recovery,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    /// Where it is held against the log what proxies have seen.
    pub(crate) sightings: Sightings,
    pub(crate) clock: Clock,
    pub(crate) shutdown: Shutdown,
    /// Owns the streams' tasks.
    pub(crate) streams: TaskTracker,
}

/// Calls of one agent's connection. It cannot be made without a live agent.
#[derive(Debug, Clone)]
pub(crate) struct WatchCalls {
    desk: Arc<WatchDesk>,
    agent: AgentPeer,
}

impl WatchCalls {
    pub(crate) fn new(desk: Arc<WatchDesk>, agent: AgentPeer) -> Self {
        Self { desk, agent }
    }
}

#[tonic::async_trait]
impl ConfigurationWatch for WatchCalls {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<wire::CaMessage, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<wire::AgentMessage>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        let session = WatchSession::new(Arc::clone(&self.desk), self.agent.clone(), outgoing);
        self.desk.streams.spawn(session.run(request.into_inner()));
        let messages = ReceiverStream::new(messages).map(|message| *message);
        Ok(Response::new(Box::pin(messages)))
    }
}
