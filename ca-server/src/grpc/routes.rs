//! The services of one connection, and the way of a request to them.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use identity::x509::Denied;
use proto::agent::v1::attestation_server::{AttestationServer, SERVICE_NAME as ATTESTATION};
use proto::agent::v1::configuration_watch_server::{
    ConfigurationWatchServer, SERVICE_NAME as WATCH,
};
use proto::agent::v1::issuance_server::{IssuanceServer, SERVICE_NAME as ISSUANCE};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;

use crate::attest::{AttestCalls, AttestDesk, ChannelBinding};
use crate::issue::{IssueCalls, IssueDesk};
use crate::metrics::Metrics;
use crate::peer::{AgentPeer, NotAnAgent};
use crate::status;
use crate::watch::{WatchCalls, WatchDesk};

const LARGEST_ATTEST: usize = 64 * 1024;
const LARGEST_ISSUE: usize = 1024 * 1024;
const LARGEST_WATCH: usize = 4 * 1024 * 1024;

/// What the connections share; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Desks {
    pub(crate) attest: Arc<AttestDesk>,
    pub(crate) issue: Arc<IssueDesk>,
    pub(crate) watch: Arc<WatchDesk>,
    pub(crate) metrics: Metrics,
}

/// Who is at the other end.
#[derive(Debug)]
pub(super) enum Caller {
    Anonymous,
    Agent(AgentPeer),
    Other(NotAnAgent),
    /// Whoever it is, the deny-list names it.
    Revoked(Denied),
}

/// The services that this caller has.
#[derive(Clone)]
pub(super) struct Routes {
    attestation: AttestationServer<AttestCalls>,
    agents: Result<AgentRoutes, Closed>,
    metrics: Metrics,
}

#[derive(Clone)]
struct AgentRoutes {
    issuance: IssuanceServer<IssueCalls>,
    watch: ConfigurationWatchServer<WatchCalls>,
}

/// Why the agents' services are not here.
#[derive(Clone)]
struct Closed {
    status: Code,
    code: &'static str,
    message: String,
}

impl Routes {
    pub(super) fn of(desks: &Desks, caller: Caller, channel: ChannelBinding, from: IpAddr) -> Self {
        let calls = AttestCalls::new(Arc::clone(&desks.attest), channel, from);
        let agents = match caller {
            Caller::Agent(agent) => Ok(AgentRoutes::of(desks, agent)),
            Caller::Other(error) => Err(Closed {
                status: Code::PermissionDenied,
                code: "not-an-agent",
                message: error.to_string(),
            }),
            Caller::Revoked(by) => Err(Closed {
                status: Code::PermissionDenied,
                code: "svid-revoked",
                message: format!("this SVID is revoked, by {by}; attest again"),
            }),
            Caller::Anonymous => Err(Closed {
                status: Code::Unauthenticated,
                code: "no-client-certificate",
                message: "an agent's SVID is needed as client certificate; attest first".to_owned(),
            }),
        };
        Self {
            attestation: AttestationServer::new(calls).max_decoding_message_size(LARGEST_ATTEST),
            agents,
            metrics: desks.metrics.clone(),
        }
    }

    pub(super) async fn serve(mut self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path();
        let service = path.trim_start_matches('/').split('/').next();
        match (service, &mut self.agents) {
            (Some(ATTESTATION), _) => {
                self.metrics.agent_request("attestation");
                answer(self.attestation.call(request)).await
            }
            (Some(ISSUANCE), Ok(agents)) => {
                self.metrics.agent_request("issuance");
                answer(agents.issuance.call(request)).await
            }
            (Some(WATCH), Ok(agents)) => {
                self.metrics.agent_request("watch");
                answer(agents.watch.call(request)).await
            }
            (Some(ISSUANCE | WATCH), Err(closed)) => {
                status::refused(closed.status, closed.code, &closed.message).into_http()
            }
            _ => Status::unimplemented("no such service").into_http(),
        }
    }
}

impl AgentRoutes {
    fn of(desks: &Desks, agent: AgentPeer) -> Self {
        let issue = IssueCalls::new(Arc::clone(&desks.issue), agent.clone());
        let watch = WatchCalls::new(Arc::clone(&desks.watch), agent);
        Self {
            issuance: IssuanceServer::new(issue).max_decoding_message_size(LARGEST_ISSUE),
            watch: ConfigurationWatchServer::new(watch).max_decoding_message_size(LARGEST_WATCH),
        }
    }
}

async fn answer(
    call: impl Future<Output = Result<Response<Body>, std::convert::Infallible>>,
) -> Response<Body> {
    match call.await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
