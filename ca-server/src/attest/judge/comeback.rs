//! Judges an expired SVID that came back. Only agents that joined by a token come back this way:
//! every other proof can be shown afresh.

use std::time::Duration;

use identity::AgentId;
use identity::x509::{BundleSet, Denied, DenyList, ExpiredSvid, SvidError, UnverifiedChain};
use policy::resource::AgentSelectors;
use time::OffsetDateTime;

use super::{Attested, Circumstances, Proof};
use crate::attest::JOIN_TOKEN;
use crate::attest::evidence::UnverifiedReturn;
use crate::attest::possession::Purpose;
use crate::attest::refusal::Refusal;
use crate::store::Store;

impl UnverifiedReturn {
    pub(in crate::attest) async fn verify(
        self,
        store: &Store,
        bundles: &BundleSet,
        denied: &DenyList,
        within: Duration,
        here: Circumstances<'_>,
    ) -> Result<Attested, Refusal> {
        let key = self
            .possession
            .verify(here.channel)
            .map_err(|_| Refusal::Possession)?;
        let expired = judge(self.chain, store, bundles, (here.now, within)).await?;
        let statement = here.channel.statement(Purpose::Reattest, key.public_key());
        expired
            .public_key()
            .verify(&statement, &self.signature)
            .map_err(|_| Refusal::Possession)?;
        // Of the leaves of a revoked authority those that are recorded are ours.
        match denied.refuses_expired(&expired) {
            None | Some(Denied::Authority(_)) => {}
            Some(_) if store.is_banned(expired.spiffe_id()).await? => return Err(Refusal::Banned),
            Some(by) => return Err(Refusal::Revoked(by)),
        }
        let id = expired.spiffe_id();
        let agent = AgentId::try_from(id.clone())
            .ok()
            .filter(|_| id.trust_domain() == store.trust_domain())
            .ok_or_else(|| Refusal::NotAnAgent(id.to_string()))?;
        if agent.attestor() != JOIN_TOKEN {
            return Err(Refusal::FreshProofNeeded(agent.attestor().to_owned()));
        }
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
            by: Proof::ExpiredSvid,
            selectors: AgentSelectors::none(),
        })
    }
}

/// Below a root that was removed meanwhile no path leads up any more: then a leaf that is on record
/// is one of ours, as whoever has stolen that root could not have made it.
async fn judge(
    chain: UnverifiedChain,
    store: &Store,
    bundles: &BundleSet,
    (now, within): (OffsetDateTime, Duration),
) -> Result<ExpiredSvid, Refusal> {
    let refused = match chain.clone().verify_expired(bundles, now, within) {
        Ok(expired) => return Ok(expired),
        Err(refused @ (SvidError::Path { .. } | SvidError::NoValidRoot { .. })) => refused,
        Err(refused) => return Err(Refusal::Svid(refused)),
    };
    let leaf = chain.unvouched(now, within).map_err(Refusal::Svid)?;
    let (id, serial, digest) = (leaf.spiffe_id(), leaf.serial(), leaf.leaf_digest());
    match store.is_recorded(id, serial, digest).await? {
        true => Ok(leaf.recorded()),
        false => Err(Refusal::Svid(refused)),
    }
}
