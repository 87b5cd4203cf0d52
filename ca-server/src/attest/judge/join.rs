//! Judges a join token, by redeeming it.

use identity::AgentId;
use policy::resource::AgentSelectors;

use super::{Attested, Circumstances, Proof};
use crate::attest::evidence::UnverifiedJoin;
use crate::attest::possession::ProvenKey;
use crate::attest::refusal::Refusal;
use crate::store::Store;

impl UnverifiedJoin {
    pub(super) async fn verify(
        self,
        key: ProvenKey,
        store: &Store,
        here: Circumstances<'_>,
    ) -> Result<Attested, Refusal> {
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
            Proof::JoinTokenRepeated
        } else {
            Proof::JoinToken
        };
        Ok(Attested {
            agent,
            key,
            by,
            selectors: AgentSelectors::none(),
        })
    }
}
