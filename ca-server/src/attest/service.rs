//! The gRPC service `Attestation`, for one connection: it knows from where and over which channel
//! its calls come.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use identity::{AgentId, SpiffeId};
use policy::resource::AgentSelectors;
use proto::agent::v1 as wire;
use proto::agent::v1::attestation_server::Attestation;
use runtime::Clock;
use time::OffsetDateTime;
use tonic::{Request, Response, Status};

use super::attestors::Attestors;
use super::evidence::{UnverifiedAttestation, UnverifiedReturn};
use super::judge::{Attested, Circumstances, Proof};
use super::limits::AttestLimits;
use super::possession::ChannelBinding;
use super::refusal::Refusal;
use crate::authority::Authority;
use crate::issue::{AdmittedAgents, Authorized, Issued, Issuer, Standing};
use crate::metrics::Metrics;
use crate::recovery::Recovery;
use crate::registry::Registry;
use crate::revocation::RevokedPeers;
use crate::status::unix_millis;
use crate::store::{AgentRow, Store};

/// What every connection's calls share.
#[derive(Debug)]
pub(crate) struct AttestDesk {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) attestors: Attestors,
    pub(crate) authority: Authority,
    pub(crate) recovery: Recovery,
    pub(crate) issuer: Issuer,
    pub(crate) admitted: AdmittedAgents,
    pub(crate) revoked: RevokedPeers,
    pub(crate) limits: AttestLimits,
    pub(crate) reattest_within: Duration,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
}

/// Calls of one connection.
#[derive(Debug, Clone)]
pub(crate) struct AttestCalls {
    desk: Arc<AttestDesk>,
    channel: ChannelBinding,
    from: IpAddr,
}

impl AttestCalls {
    pub(crate) fn new(desk: Arc<AttestDesk>, channel: ChannelBinding, from: IpAddr) -> Self {
        Self {
            desk,
            channel,
            from,
        }
    }

    async fn join(&self, request: wire::AttestRequest) -> Result<wire::AttestResponse, Refusal> {
        self.desk.limits.admit(self.from)?;
        self.desk.require_whole_store()?;
        let attestation = UnverifiedAttestation::try_from(request)?;
        let attested = attestation
            .verify(&self.desk.store, &self.desk.attestors, self.here())
            .await?;
        self.desk.admit(attested).await
    }

    async fn come_back(
        &self,
        request: wire::ReattestRequest,
    ) -> Result<wire::AttestResponse, Refusal> {
        self.desk.limits.admit(self.from)?;
        self.desk.require_whole_store()?;
        let comeback = UnverifiedReturn::try_from(request)?;
        let attested = comeback
            .verify(
                &self.desk.store,
                self.desk.authority.roots().bundles(),
                &self.desk.revoked.list(),
                self.desk.reattest_within,
                self.here(),
            )
            .await?;
        self.desk.admit(attested).await
    }

    fn here(&self) -> Circumstances<'_> {
        Circumstances {
            channel: &self.channel,
            from: self.from,
            now: self.desk.clock.now(),
        }
    }

    fn answer<T>(&self, result: Result<T, Refusal>) -> Result<Response<T>, Status> {
        result.map(Response::new).map_err(|refusal| {
            self.desk.metrics.attestation(refusal.code());
            tracing::warn!(
                from = %self.from,
                code = refusal.code(),
                reason = %refusal,
                "attestation refused"
            );
            refusal.into_status()
        })
    }
}

impl AttestDesk {
    /// An agent that attested to another replica is known here from its first connection on.
    pub(crate) async fn recall(&self, agent: &SpiffeId) {
        if let Err(error) = self.admitted.look_up(agent, &self.store).await {
            tracing::warn!(
                %agent,
                error = %runtime::exit::one_line(&error),
                "whether an agent attested to another replica cannot be told"
            );
        }
    }

    /// What a store has lost may be a ban.
    fn require_whole_store(&self) -> Result<(), Refusal> {
        match self.registry.behind() {
            Some(behind) => Err(Refusal::Behind(Box::new(behind))),
            None => Ok(()),
        }
    }

    async fn admit(&self, attested: Attested) -> Result<wire::AttestResponse, Refusal> {
        let agent = attested.agent().clone();
        if self.admitted.standing(agent.spiffe_id()) == Standing::Banned {
            return Err(Refusal::Banned);
        }
        self.limits.admit_agent(agent.spiffe_id())?;
        let (by, selectors) = (attested.by(), attested.selectors().clone());
        let authorized = Authorized::first_of_agent(attested);
        let issued = self.issuer.issue_one(authorized).await?;
        let now = self.clock.now();
        let said = selectors.to_string();
        self.record(&agent, (by, selectors), &issued, now).await?;
        self.metrics.attestation(by.as_str());
        tracing::info!(
            agent = %agent,
            serial = %issued.serial(),
            by = by.as_str(),
            selectors = said,
            "agent attested"
        );
        Ok(wire::AttestResponse {
            svid: Some(issued.into_wire()),
            bundle: Some(self.authority.wire_bundle()),
            ca_time_unix_ms: unix_millis(now),
            recovery_key: self.recovery.wire_key(),
        })
    }

    /// A fresh proof makes an agent known. An expired SVID only continues one that is: it must not bring
    /// back an agent that was forgotten since it was judged. An agent is admitted before its row is
    /// written, so that forgetting in between leaves it refused, never admitted without a row; and
    /// once more after it, so that nothing that was read meanwhile outlives what it proved.
    async fn record(
        &self,
        agent: &AgentId,
        (by, selectors): (Proof, AgentSelectors),
        issued: &Issued,
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let (id, serial, not_after) = (agent.spiffe_id(), issued.serial(), issued.not_after());
        if by == Proof::ExpiredSvid {
            let known = self.admitted.look_up(id, &self.store).await?
                && self.store.renew_agent(id, serial, not_after).await?;
            return if known {
                Ok(())
            } else {
                Err(Refusal::Forgotten)
            };
        }
        let _turn = self.admitted.turn(id).await;
        self.admitted.admit(agent, selectors.clone());
        let row = AgentRow {
            spiffe_id: id.clone(),
            attested_at: now,
            serial,
            not_after,
            selectors: selectors.clone(),
        };
        if !self.store.record_agent(row).await? {
            return Err(Refusal::Banned);
        }
        self.admitted.remember(id, selectors);
        Ok(())
    }
}

#[tonic::async_trait]
impl Attestation for AttestCalls {
    async fn attest(
        &self,
        request: Request<wire::AttestRequest>,
    ) -> Result<Response<wire::AttestResponse>, Status> {
        self.answer(self.join(request.into_inner()).await)
    }

    async fn reattest(
        &self,
        request: Request<wire::ReattestRequest>,
    ) -> Result<Response<wire::AttestResponse>, Status> {
        self.answer(self.come_back(request.into_inner()).await)
    }

    async fn recover(
        &self,
        _request: Request<wire::RecoverRequest>,
    ) -> Result<Response<wire::RecoverResponse>, Status> {
        let admitted = self.desk.limits.admit(self.from);
        let answer = admitted.map(|()| wire::RecoverResponse {
            bundle_update: self.desk.recovery.wire_update(),
        });
        self.answer(answer)
    }
}
