//! The attestors of `[[attest.jwt]]`: whose tokens are believed, about whom.
//!
//! Invariant: a token is judged by the keys of the issuer that it names, and its agent's ID holds the
//! attestor of that issuer. Where two issuers have one name (clusters often do), each is asked.

use std::collections::BTreeMap;

use identity::jwt::{Expectations, JwtError, UnverifiedJwt, VerifiedJwt};
use identity::{AgentId, TrustDomain};
use policy::resource::AgentSelectors;
use runtime::Clock;
use time::OffsetDateTime;

use super::issuer_keys::{IssuerKeys, IssuerKeysError};
use super::refusal::Refusal;
use crate::config::{ClaimPointer, ClaimTemplate, JwtIssuerConfig, OneOf, TokenSelectors};

/// What is configured.
#[derive(Debug, Default)]
pub(crate) struct Issuers(Vec<Issuer>);

#[derive(Debug)]
struct Issuer {
    attestor: String,
    name: String,
    audience: String,
    algorithms: Vec<crypto::jws::JwsAlgorithm>,
    agent_name: ClaimTemplate,
    require: BTreeMap<ClaimPointer, OneOf>,
    selectors: TokenSelectors,
    keys: IssuerKeys,
}

/// Evidence: a believed token, the agent that it speaks of, and what it says of it.
#[derive(Debug)]
pub(super) struct Introduced {
    pub(super) agent: AgentId,
    pub(super) selectors: AgentSelectors,
    pub(super) jwt: VerifiedJwt,
}

impl Issuers {
    pub(super) fn load(
        configs: &[JwtIssuerConfig],
        clock: &Clock,
    ) -> Result<Self, IssuerKeysError> {
        let issuers = configs.iter().map(|config| Issuer::load(config, clock));
        issuers.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The refusal of the last issuer that was asked, where none believes the token.
    pub(super) async fn judge(
        &self,
        jwt: &UnverifiedJwt,
        trust_domain: &TrustDomain,
        now: OffsetDateTime,
    ) -> Result<Introduced, Refusal> {
        let mut outcome = Err(Refusal::UnknownIssuer);
        let claimed = jwt.claimed_issuer();
        for issuer in self
            .0
            .iter()
            .filter(|issuer| Some(&*issuer.name) == claimed)
        {
            outcome = match issuer.verify(jwt, now).await {
                Ok(jwt) => return issuer.introduce(jwt, trust_domain),
                Err(refusal) => Err(refusal),
            };
        }
        outcome
    }
}

impl Issuer {
    fn load(config: &JwtIssuerConfig, clock: &Clock) -> Result<Self, IssuerKeysError> {
        Ok(Self {
            attestor: config.attestor.clone(),
            name: config.issuer.clone(),
            audience: config.audience.clone(),
            algorithms: config.algorithms(),
            agent_name: config.agent_name.clone(),
            require: config.require.clone(),
            selectors: config.selectors.clone(),
            keys: IssuerKeys::load(config, clock)?,
        })
    }

    /// A key that is not known may be a new one: then the keys are fetched again, once.
    async fn verify(
        &self,
        jwt: &UnverifiedJwt,
        now: OffsetDateTime,
    ) -> Result<VerifiedJwt, Refusal> {
        let expected = Expectations {
            issuer: &self.name,
            audience: &self.audience,
            algorithms: &self.algorithms,
        };
        let known = self.keys.current().await.map_err(Refusal::IssuerKeys)?;
        let mut judged = jwt.verify(&known.keys, expected, now);
        if judged
            .as_ref()
            .is_err_and(|error| *error == JwtError::UnknownKey)
            && let Some(newer) = self.keys.newer_than(&known).await
        {
            judged = jwt.verify(&newer.keys, expected, now);
        }
        judged.map_err(Refusal::Jwt)
    }

    fn introduce(
        &self,
        jwt: VerifiedJwt,
        trust_domain: &TrustDomain,
    ) -> Result<Introduced, Refusal> {
        for (claim, wanted) in &self.require {
            claim.require(&jwt, wanted).map_err(Refusal::Claims)?;
        }
        let name = self.agent_name.name(&jwt).map_err(Refusal::Claims)?;
        let agent = AgentId::new(trust_domain, &self.attestor, &name)
            .map_err(|_| Refusal::NotAnAgent(name))?;
        Ok(Introduced {
            agent,
            selectors: self.selectors(&jwt)?,
            jwt,
        })
    }

    /// Each, or none: an agent of which less is said than is configured would be another one.
    fn selectors(&self, jwt: &VerifiedJwt) -> Result<AgentSelectors, Refusal> {
        let mut selectors = AgentSelectors::none();
        for (name, template) in self.selectors.iter() {
            let refused = |why| Refusal::Selector(name.clone(), why);
            let value = template.value(jwt).map_err(refused)?;
            selectors
                .insert(name.clone(), value)
                .expect("the configuration has no more than an agent may have");
        }
        Ok(selectors)
    }
}
