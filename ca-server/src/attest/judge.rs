//! Judges evidence. `Attested` has no other constructor than the two checks below.

use std::net::IpAddr;

use crypto::signing::PublicKey;
use identity::AgentId;
use identity::x509::BundleSet;
use time::OffsetDateTime;

use super::evidence::{UnverifiedJoin, UnverifiedReturn};
use super::possession::{ChannelBinding, ProvenKey, Purpose};
use super::refusal::Refusal;
use crate::store::Store;

/// By what an agent proved itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attestor {
    JoinToken,
    /// The lost reply of a join, asked for again with the same key.
    JoinTokenRepeated,
    ExpiredSvid,
}

impl Attestor {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::JoinToken => "join-token",
            Self::JoinTokenRepeated => "join-token-repeated",
            Self::ExpiredSvid => "expired-svid",
        }
    }
}

/// Evidence that an agent with this ID holds this key, and may have its first SVID.
#[derive(Debug)]
pub(crate) struct Attested {
    agent: AgentId,
    key: ProvenKey,
    by: Attestor,
}

impl Attested {
    pub(crate) fn agent(&self) -> &AgentId {
        &self.agent
    }

    pub(crate) fn by(&self) -> Attestor {
        self.by
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

impl UnverifiedJoin {
    /// The key is proven before the token is touched, so a token is only ever bound to a live key.
    pub(super) async fn verify(
        self,
        store: &Store,
        here: Circumstances<'_>,
    ) -> Result<Attested, Refusal> {
        let key = self
            .possession
            .verify(here.channel)
            .map_err(|_| Refusal::Possession)?;
        let redeemed = store
            .redeem(
                &self.token_id,
                self.secret_sha256,
                key.public_key().fingerprint(),
                here.from,
                here.now,
            )
            .await?;
        let agent = AgentId::try_from(redeemed.agent_id().clone())
            .map_err(|_| Refusal::NotAnAgent(redeemed.agent_id().to_string()))?;
        let by = if redeemed.repeated() {
            Attestor::JoinTokenRepeated
        } else {
            Attestor::JoinToken
        };
        Ok(Attested { agent, key, by })
    }
}

impl UnverifiedReturn {
    pub(super) async fn verify(
        self,
        store: &Store,
        bundles: &BundleSet,
        within: std::time::Duration,
        here: Circumstances<'_>,
    ) -> Result<Attested, Refusal> {
        let key = self
            .possession
            .verify(here.channel)
            .map_err(|_| Refusal::Possession)?;
        let expired = self
            .chain
            .verify_expired(bundles, here.now, within)
            .map_err(Refusal::Svid)?;
        let statement = here.channel.statement(Purpose::Reattest, key.public_key());
        expired
            .public_key()
            .verify(&statement, &self.signature)
            .map_err(|_| Refusal::Possession)?;
        let id = expired.spiffe_id();
        let agent = AgentId::try_from(id.clone())
            .ok()
            .filter(|_| id.trust_domain() == store.trust_domain())
            .ok_or_else(|| Refusal::NotAnAgent(id.to_string()))?;
        if store.agent(id).await?.is_none() {
            return Err(Refusal::Forgotten);
        }
        // An intermediate that has ended could still sign a leaf that looks like this one.
        let (serial, digest) = (expired.serial(), expired.leaf_digest());
        if !store.is_recorded(id, serial, digest).await? {
            tracing::error!(
                alarm = "svid-not-recorded",
                agent = %id,
                %serial,
                from = %here.from,
                "an expired SVID that verifies was never issued here: who signed it?"
            );
            return Err(Refusal::NotRecorded);
        }
        if store.newer_serial_seen(id, expired.serial()).await? {
            tracing::error!(
                alarm = "newer-serial-seen",
                agent = %id,
                serial = %expired.serial(),
                from = %here.from,
                "an expired SVID came back though a newer one of its agent is in use"
            );
            return Err(Refusal::NewerSerialSeen);
        }
        Ok(Attested {
            agent,
            key,
            by: Attestor::ExpiredSvid,
        })
    }
}
