//! Judges evidence. `Attested` has no other constructor than the checks below.

mod comeback;
mod host;
mod issuer;
mod join;

use std::net::IpAddr;

use crypto::signing::PublicKey;
use identity::AgentId;
use policy::resource::AgentSelectors;
use time::OffsetDateTime;

use super::attestors::Attestors;
use super::evidence::{UnverifiedAttestation, UnverifiedEvidence};
use super::possession::{ChannelBinding, ProvenKey};
use super::refusal::Refusal;
use crate::store::Store;

/// By what an agent proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    JoinToken,
    /// The lost reply of a join, asked for again with the same key.
    JoinTokenRepeated,
    ExpiredSvid,
    Host,
    /// Of an issuer.
    Token,
}

impl Proof {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::JoinToken => "join-token",
            Self::JoinTokenRepeated => "join-token-repeated",
            Self::ExpiredSvid => "expired-svid",
            Self::Host => "x509pop",
            Self::Token => "jwt",
        }
    }
}

/// Evidence that an agent with this ID holds this key, and may have its first SVID; and what its
/// attestor says of it, by which entries of the registry may name it.
#[derive(Debug)]
pub(crate) struct Attested {
    agent: AgentId,
    key: ProvenKey,
    by: Proof,
    selectors: AgentSelectors,
}

impl Attested {
    pub(crate) fn agent(&self) -> &AgentId {
        &self.agent
    }

    pub(crate) fn by(&self) -> Proof {
        self.by
    }

    /// Nothing by an expired SVID, which says nothing new.
    pub(crate) fn selectors(&self) -> &AgentSelectors {
        &self.selectors
    }

    pub(crate) fn into_parts(self) -> (AgentId, PublicKey) {
        (self.agent, self.key.into_public_key())
    }
}

/// Where and when evidence was shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'a> {
    pub(super) channel: &'a ChannelBinding,
    pub(super) from: IpAddr,
    pub(super) now: OffsetDateTime,
}

impl UnverifiedAttestation {
    /// The key is proven before the evidence is touched, so a token is only ever bound to a live
    /// key.
    pub(super) async fn verify(
        self,
        store: &Store,
        attestors: &Attestors,
        here: Circumstances<'_>,
    ) -> Result<Attested, Refusal> {
        let key = self
            .possession
            .verify(here.channel)
            .map_err(|_| Refusal::Possession)?;
        match self.evidence {
            UnverifiedEvidence::JoinToken(join) => join.verify(key, store, here).await,
            UnverifiedEvidence::Host(host) => host.verify(key, attestors.host()?, here),
            UnverifiedEvidence::Token(token) => {
                token.verify(key, attestors.issuers()?, store, here).await
            }
        }
    }
}
