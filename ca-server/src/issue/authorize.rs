//! What may be signed: an identity that the registry gives to the agent that asks, for a key whose
//! possession was proven. An [`Authorized`] is made here only, and signs once.

use std::sync::Arc;

use crypto::signing::{PublicKey, verify_csr};
use identity::x509::Denied;
use identity::{DnsName, SpiffeId};

use super::assignments::{Assignments, Directory, NotHeld};
use super::refusal::NotAuthorized;
use super::sign::Life;
use crate::attest::Attested;
use crate::peer::AgentPeer;

/// A permission to sign one certificate; whoever signs takes it whole.
#[derive(Debug)]
pub(crate) struct Authorized(Grant);

/// What the certificate will say; all of it from the registry, but for the key.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) spiffe_id: SpiffeId,
    /// The agent that asked; the same ID for its own SVID.
    pub(super) through: SpiffeId,
    pub(super) public_key: PublicKey,
    pub(super) life: Life,
    pub(super) dns_names: Vec<DnsName>,
    /// Of who is known already; it may go on while the store is away.
    pub(super) renewal: bool,
}

/// Judges the requests of one call by one state of the registry.
#[derive(Debug)]
pub(crate) struct Authorizer<'a> {
    agent: &'a AgentPeer,
    assignments: Arc<Assignments>,
}

impl Authorized {
    /// The first SVID of an agent that has just attested.
    pub(crate) fn first_of_agent(attested: Attested) -> Self {
        let (agent, public_key) = attested.into_parts();
        let spiffe_id = SpiffeId::from(agent);
        Self(Grant {
            through: spiffe_id.clone(),
            spiffe_id,
            public_key,
            life: Life::Agent,
            dns_names: Vec::new(),
            renewal: false,
        })
    }

    /// This replica's own serving leaf.
    pub(super) fn own_of_replica(id: SpiffeId, public_key: PublicKey) -> Self {
        Self(Grant {
            through: id.clone(),
            spiffe_id: id,
            public_key,
            life: Life::Agent,
            dns_names: Vec::new(),
            renewal: true,
        })
    }

    pub(super) fn is_renewal(&self) -> bool {
        self.0.renewal
    }

    pub(super) fn into_grant(self) -> Grant {
        self.0
    }
}

impl<'a> Authorizer<'a> {
    pub(super) fn new(agent: &'a AgentPeer, directory: &Directory) -> Self {
        Self {
            agent,
            assignments: directory.current(),
        }
    }

    /// For whoever reads the log; agents are told of no entries but their own.
    pub(super) fn why_not(&self, id: &str) -> Option<NotHeld> {
        let id = id.parse().ok()?;
        self.assignments
            .why_not_identity(self.agent.spiffe_id(), &id)
    }

    /// The identity is judged before the request's signature, which is what costs.
    pub(super) fn authorize(&self, id: &str, csr: &[u8]) -> Result<Authorized, NotAuthorized> {
        let spiffe_id: SpiffeId = id.parse()?;
        let denied = self.assignments.snapshot().denials();
        if denied.list().contains(&Denied::Identity(spiffe_id.clone())) {
            return Err(NotAuthorized::Revoked);
        }
        let own = self.agent.spiffe_id();
        let (life, dns_names) = if spiffe_id == *own {
            (Life::Agent, Vec::new())
        } else {
            let entry = self
                .assignments
                .assigned(&spiffe_id, own)
                .ok_or(NotAuthorized::NotThisAgents)?;
            let life = entry.ttl.map_or(Life::Workload, Life::Entry);
            let dns_names = entry.dns_names.iter().map(|name| name.parse());
            (life, dns_names.collect::<Result<_, _>>()?)
        };
        let public_key = verify_csr(csr)?;
        Ok(Authorized(Grant {
            spiffe_id,
            through: own.clone(),
            public_key,
            life,
            dns_names,
            renewal: true,
        }))
    }
}
