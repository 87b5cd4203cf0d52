//! The attestor `x509pop`: which hosts are believed, and how their agents are named.
//!
//! Refuses: a certificate that names an identity of this mesh (its workloads must not become
//! agents), and a name that is not allowed, missing, or one of several.

use std::path::PathBuf;
use std::{fs, io};

use identity::x509::{HostRoots, HostRootsError, KeyPurpose, UnverifiedChain, VerifiedHost};
use identity::{AgentId, AgentIdError, TrustDomain};
use policy::resource::AgentSelectors;
use time::OffsetDateTime;

use super::attestors::X509POP;
use super::refusal::Refusal;
use crate::config::{HostNaming, NamePattern, X509PopConfig};

/// Believed authorities and the rule for names.
#[derive(Debug)]
pub(crate) struct HostAttestor {
    roots: HostRoots,
    purpose: Option<KeyPurpose>,
    naming: HostNaming,
    allowed: Vec<NamePattern>,
    selectors: AgentSelectors,
    trust_domain: TrustDomain,
}

/// Why `[attest.x509pop]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HostAttestorError {
    #[error("attest.x509pop.roots_file {path} cannot be read")]
    File { path: PathBuf, source: io::Error },
    #[error("attest.x509pop.roots_file holds no authorities that can be used")]
    Roots(#[from] HostRootsError),
}

/// Why a host that is believed gives no agent a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostNameRefused {
    #[error("the host's certificate has {count} {what}, and must have exactly one")]
    Count { what: &'static str, count: usize },
    #[error("the name `{0}` is not among attest.x509pop.allowed_names")]
    NotAllowed(String),
    #[error("the name `{name}` makes no agent's ID: {source}")]
    Id { name: String, source: AgentIdError },
}

impl HostAttestor {
    pub(crate) fn load(
        config: &X509PopConfig,
        trust_domain: &TrustDomain,
    ) -> Result<Self, HostAttestorError> {
        let path = &config.roots_file;
        let text = fs::read(path).map_err(|source| {
            let path = path.clone();
            HostAttestorError::File { path, source }
        })?;
        Ok(Self {
            roots: HostRoots::from_pem(&text)?,
            purpose: config.extended_key_usage.clone(),
            naming: config.agent_name,
            allowed: config.allowed_names.clone(),
            selectors: config.selectors.held().clone(),
            trust_domain: trust_domain.clone(),
        })
    }

    pub(super) fn verify(
        &self,
        chain: &UnverifiedChain,
        now: OffsetDateTime,
    ) -> Result<VerifiedHost, Refusal> {
        let verified = self.roots.verify(chain, self.purpose.as_ref(), now);
        let host = verified.map_err(Refusal::Host)?;
        match host.uris().iter().find(|uri| self.is_of_mesh(uri)) {
            Some(uri) => Err(Refusal::HostOfMesh(uri.clone())),
            None => Ok(host),
        }
    }

    fn is_of_mesh(&self, uri: &str) -> bool {
        let own = self.trust_domain.to_string();
        let Some((scheme, rest)) = uri.split_once("://") else {
            return false;
        };
        let authority = rest.split('/').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case("spiffe") && authority.eq_ignore_ascii_case(&own)
    }

    /// The same of every host.
    pub(super) fn selectors(&self) -> &AgentSelectors {
        &self.selectors
    }

    /// The agent's ID: `/countersign/agent/x509pop/<name>`.
    pub(super) fn name(&self, host: &VerifiedHost) -> Result<AgentId, Refusal> {
        let name = match self.naming {
            HostNaming::Fingerprint => host.fingerprint().to_string(),
            HostNaming::CommonName => self.allowed(only("common names", host.common_names())?)?,
            HostNaming::DnsName => {
                let name = only("DNS names", host.dns_names())?;
                self.allowed(name.to_ascii_lowercase())?
            }
        };
        AgentId::new(&self.trust_domain, X509POP, &name)
            .map_err(|source| Refusal::HostName(HostNameRefused::Id { name, source }))
    }

    fn allowed(&self, name: String) -> Result<String, Refusal> {
        if self.allowed.iter().any(|pattern| pattern.matches(&name)) {
            Ok(name)
        } else {
            Err(Refusal::HostName(HostNameRefused::NotAllowed(name)))
        }
    }
}

fn only(what: &'static str, names: &[String]) -> Result<String, Refusal> {
    match names {
        [name] => Ok(name.clone()),
        _ => {
            let count = names.len();
            Err(Refusal::HostName(HostNameRefused::Count { what, count }))
        }
    }
}
