//! The reserved identities: `/countersign/agent/<attestor>/<name>` and `/countersign/ca/<replica>`.
//!
//! Invariant: an `AgentId` has exactly this shape. These IDs are issued by the CA to agents and to
//! itself, and are never registered or served to a workload.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::serde_text::serde_as_text;
use crate::spiffe_id::{SpiffeId, SpiffeIdError};
use crate::trust_domain::TrustDomain;

/// The SPIFFE ID of an agent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(SpiffeId);

impl AgentId {
    /// `attestor` and `name` are one path segment each.
    pub fn new(
        trust_domain: &TrustDomain,
        attestor: &str,
        name: &str,
    ) -> Result<Self, AgentIdError> {
        SpiffeId::new(
            trust_domain,
            &format!("/countersign/agent/{attestor}/{name}"),
        )?
        .try_into()
    }

    pub fn spiffe_id(&self) -> &SpiffeId {
        &self.0
    }

    pub fn attestor(&self) -> &str {
        self.segment(2)
    }

    pub fn name(&self) -> &str {
        self.segment(3)
    }

    fn segment(&self, index: usize) -> &str {
        self.0
            .segments()
            .nth(index)
            .expect("an agent ID has four segments")
    }
}

impl TryFrom<SpiffeId> for AgentId {
    type Error = AgentIdError;

    fn try_from(id: SpiffeId) -> Result<Self, Self::Error> {
        let mut segments = id.segments();
        let prefix = (segments.next(), segments.next());
        if prefix != (Some("countersign"), Some("agent")) || segments.count() != 2 {
            return Err(AgentIdError::Shape);
        }
        Ok(Self(id))
    }
}

impl From<AgentId> for SpiffeId {
    fn from(id: AgentId) -> Self {
        id.0
    }
}

impl FromStr for AgentId {
    type Err = AgentIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<SpiffeId>()?.try_into()
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentId({})", self.0)
    }
}

serde_as_text!(AgentId);

/// Why an ID is not an agent's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AgentIdError {
    #[error(transparent)]
    SpiffeId(#[from] SpiffeIdError),
    #[error("an agent ID has the path /countersign/agent/<attestor>/<name>")]
    Shape,
}

/// The ID that a CA replica shows when it serves. `replica` is one path segment; one that holds a
/// slash gives an ID that [`is_ca_id`] refuses, and is refused here.
pub fn ca_id(trust_domain: &TrustDomain, replica: &str) -> Result<SpiffeId, SpiffeIdError> {
    let id = SpiffeId::new(trust_domain, &format!("/countersign/ca/{replica}"))?;
    match replica.find('/') {
        None => Ok(id),
        Some(index) => Err(SpiffeIdError::PathCharacter {
            position: id.as_str().len() - replica.len() + index,
            found: '/',
        }),
    }
}

/// True if `id` is that of a CA replica of `trust_domain`: the only servers to which an agent
/// speaks, since any workload's certificate chains to the same root.
pub fn is_ca_id(id: &SpiffeId, trust_domain: &TrustDomain) -> bool {
    let mut segments = id.segments();
    let prefix = (segments.next(), segments.next());
    id.trust_domain() == trust_domain
        && prefix == (Some("countersign"), Some("ca"))
        && segments.count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain() -> TrustDomain {
        "td".parse().unwrap()
    }

    #[test]
    fn ids_of_another_shape_are_no_agents() {
        for path in [
            "",
            "/countersign/agent/join-token",
            "/countersign/agent/join-token/a/b",
            "/countersign/ca/ca-1",
            "/ns/shop/sa/orders",
        ] {
            assert_eq!(
                format!("spiffe://td{path}").parse::<AgentId>(),
                Err(AgentIdError::Shape),
                "{path}"
            );
        }
    }

    #[test]
    fn agent_names_cannot_smuggle_segments() {
        assert_eq!(
            AgentId::new(&domain(), "join-token", "a/b"),
            Err(AgentIdError::Shape)
        );
        assert!(matches!(
            AgentId::new(&domain(), "join-token", ""),
            Err(AgentIdError::SpiffeId(SpiffeIdError::TrailingSlash { .. }))
        ));
    }

    #[test]
    fn agent_id_has_its_parts() {
        let agent = AgentId::new(&domain(), "join-token", "web-7").unwrap();
        assert_eq!(
            agent.to_string(),
            "spiffe://td/countersign/agent/join-token/web-7"
        );
        assert_eq!((agent.attestor(), agent.name()), ("join-token", "web-7"));
    }

    #[test]
    fn replica_names_with_a_slash_are_refused() {
        let expected = SpiffeIdError::PathCharacter {
            position: 28,
            found: '/',
        };
        assert_eq!(ca_id(&domain(), "a/b"), Err(expected));
    }

    #[test]
    fn only_replicas_of_the_own_trust_domain_are_the_ca() {
        for text in [
            "spiffe://other/countersign/ca/ca-1",
            "spiffe://td/countersign/ca",
            "spiffe://td/countersign/ca/ca-1/x",
            "spiffe://td/countersign/agent/ca/ca-1",
            "spiffe://td/ns/countersign/sa/ca",
        ] {
            assert!(!is_ca_id(&text.parse().unwrap(), &domain()), "{text}");
        }
        assert!(is_ca_id(&ca_id(&domain(), "ca-1").unwrap(), &domain()));
    }
}
