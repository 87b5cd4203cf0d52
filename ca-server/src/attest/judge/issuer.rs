//! Judges a token of an issuer, and binds it to the key that showed it.

use super::{Attested, Circumstances, Proof};
use crate::attest::evidence::UnverifiedToken;
use crate::attest::issuers::{Introduced, Issuers};
use crate::attest::possession::ProvenKey;
use crate::attest::refusal::Refusal;
use crate::store::{ShownToken, Store};

impl UnverifiedToken {
    pub(super) async fn verify(
        self,
        key: ProvenKey,
        issuers: &Issuers,
        store: &Store,
        here: Circumstances<'_>,
    ) -> Result<Attested, Refusal> {
        let judged = issuers.judge(&self.0, store.trust_domain(), here.now).await;
        let Introduced {
            agent,
            selectors,
            jwt,
        } = judged?;
        let shown = ShownToken {
            token: jwt.digest(),
            key: key.public_key().fingerprint(),
            expires_at: jwt.expires_at(),
        };
        if !store.bind_issuers_token(shown).await? {
            return Err(Refusal::TokenOfAnotherKey);
        }
        Ok(Attested {
            agent,
            key,
            by: Proof::Token,
            selectors,
        })
    }
}
