//! The gRPC service `Issuance`, for one connection of one live agent.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use identity::SpiffeId;
use proto::agent::v1 as wire;
use proto::agent::v1::issuance_server::Issuance;
use runtime::Clock;
use tonic::{Request, Response, Status};

use super::admitted::AdmittedAgents;
use super::assignments::Directory;
use super::authorize::{Authorized, Authorizer};
use super::refusal::{IssueError, NotAuthorized};
use super::sign::{BETWEEN_YIELDS, Issued, Issuer};
use crate::config::Limits;
use crate::peer::AgentPeer;
use crate::status::unix_millis;
use crate::store::Store;

/// Requests in one call.
pub(super) const LARGEST_BATCH: usize = 64;

/// What every connection's calls share.
pub(crate) struct IssueDesk {
    directory: Directory,
    issuer: Issuer,
    admitted: AdmittedAgents,
    store: Store,
    by_agent: DefaultKeyedRateLimiter<SpiffeId>,
    total: DefaultDirectRateLimiter,
    limiter_clock: DefaultClock,
    clock: Clock,
}

/// Calls of one agent's connection. It cannot be made without a live agent.
#[derive(Debug, Clone)]
pub(crate) struct IssueCalls {
    desk: Arc<IssueDesk>,
    agent: AgentPeer,
}

impl IssueDesk {
    pub(crate) fn new(
        directory: Directory,
        issuer: Issuer,
        admitted: AdmittedAgents,
        store: Store,
        limits: &Limits,
        clock: Clock,
    ) -> Self {
        Self {
            directory,
            issuer,
            admitted,
            store,
            by_agent: RateLimiter::keyed(quota(limits.issue_per_agent_per_second)),
            total: RateLimiter::direct(quota(limits.issue_per_second)),
            limiter_clock: DefaultClock::default(),
            clock,
        }
    }

    /// Forgets agents that have been quiet.
    pub(crate) fn forget_quiet(&self) {
        self.by_agent.retain_recent();
    }

    fn check_rate(&self, agent: &SpiffeId, count: usize) -> Result<(), IssueError> {
        let Some(count) = u32::try_from(count).ok().and_then(NonZeroU32::new) else {
            return Ok(());
        };
        let now = self.limiter_clock.now();
        // The agent is judged first: one that is over its rate uses up nothing of the total.
        match self.by_agent.check_key_n(agent, count) {
            Ok(Ok(())) => {}
            Ok(Err(busy)) => return Err(IssueError::Limited(busy.wait_time_from(now))),
            // More in one call than the rate ever allows.
            Err(_) => return Err(IssueError::TooMany(count.get() as usize)),
        }
        match self.total.check_n(count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(busy)) => Err(IssueError::AllLimited(busy.wait_time_from(now))),
            Err(_) => Err(IssueError::TooMany(count.get() as usize)),
        }
    }
}

fn quota(rate: NonZeroU32) -> Quota {
    let twice = rate.saturating_mul(NonZeroU32::MIN.saturating_add(1));
    Quota::per_second(rate).allow_burst(twice)
}

impl IssueCalls {
    pub(crate) fn new(desk: Arc<IssueDesk>, agent: AgentPeer) -> Self {
        Self { desk, agent }
    }

    async fn issue_batch(
        &self,
        requests: Vec<wire::CertificateRequest>,
    ) -> Result<Vec<wire::IssueResult>, IssueError> {
        if requests.len() > LARGEST_BATCH {
            return Err(IssueError::TooMany(requests.len()));
        }
        self.check_agent()?;
        self.desk
            .check_rate(self.agent.spiffe_id(), requests.len())?;
        let (authorized, mut refusals) = self.authorize(&requests).await;
        let mut issued = self.desk.issuer.issue(authorized).await?.into_iter();
        // Who was forgotten or banned while it was recorded gets none of it.
        self.check_agent()?;
        let mut results = Vec::with_capacity(requests.len());
        for request in 0..requests.len() {
            let result = match refusals.remove(&request) {
                Some(refused) => wire::issue_result::Result::Refusal(refused.into()),
                None => {
                    let issued = issued.next().expect("what was not refused was issued");
                    self.note_own(&issued).await?;
                    wire::issue_result::Result::Svid(issued.into_wire())
                }
            };
            results.push(wire::IssueResult {
                result: Some(result),
            });
        }
        Ok(results)
    }

    fn check_agent(&self) -> Result<(), IssueError> {
        if self.agent.not_after() < self.desk.clock.now() {
            return Err(IssueError::Expired);
        }
        self.desk.admitted.require(self.agent.spiffe_id())
    }

    async fn authorize(
        &self,
        requests: &[wire::CertificateRequest],
    ) -> (Vec<Authorized>, BTreeMap<usize, NotAuthorized>) {
        let authorizer = Authorizer::new(&self.agent, &self.desk.directory);
        let mut authorized = Vec::with_capacity(requests.len());
        let mut refusals = BTreeMap::new();
        for (index, request) in requests.iter().enumerate() {
            if index % BETWEEN_YIELDS == BETWEEN_YIELDS - 1 {
                tokio::task::yield_now().await;
            }
            match authorizer.authorize(&request.spiffe_id, &request.csr) {
                Ok(one) => authorized.push(one),
                Err(refused) => {
                    let not_held = match refused {
                        NotAuthorized::NotThisAgents => authorizer.why_not(&request.spiffe_id),
                        _ => None,
                    };
                    tracing::warn!(
                        agent = %self.agent.spiffe_id(),
                        code = refused.code(),
                        reason = %refused,
                        entry = not_held.map(|why| why.to_string()),
                        "an SVID was refused"
                    );
                    refusals.insert(index, refused);
                }
            }
        }
        (authorized, refusals)
    }

    /// An agent that was forgotten or banned while it renewed does not get its SVID.
    async fn note_own(&self, issued: &Issued) -> Result<(), IssueError> {
        if issued.spiffe_id() != self.agent.spiffe_id() {
            return Ok(());
        }
        if self.desk.issuer.is_away() {
            // What the spool holds is noted when it is shipped.
            return self.check_agent();
        }
        let known = self
            .desk
            .store
            .renew_agent(issued.spiffe_id(), issued.serial(), issued.not_after())
            .await?;
        if known {
            return Ok(());
        }
        self.check_agent()?;
        Err(IssueError::Forgotten)
    }
}

impl std::fmt::Debug for IssueDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssueDesk").finish_non_exhaustive()
    }
}

#[tonic::async_trait]
impl Issuance for IssueCalls {
    async fn issue(
        &self,
        request: Request<wire::IssueRequest>,
    ) -> Result<Response<wire::IssueResponse>, Status> {
        let results = self
            .issue_batch(request.into_inner().requests)
            .await
            .map_err(|error| error.to_status())?;
        Ok(Response::new(wire::IssueResponse {
            results,
            ca_time_unix_ms: unix_millis(self.desk.clock.now()),
        }))
    }
}
