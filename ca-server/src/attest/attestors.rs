//! The attestors of this CA: join tokens always, others as `[attest]` configures them.

use std::sync::Arc;

use identity::TrustDomain;
use runtime::Clock;

use super::host::{HostAttestor, HostAttestorError};
use super::issuer_keys::IssuerKeysError;
use super::issuers::Issuers;
use super::refusal::Refusal;
use crate::config::AttestConfig;

/// The attestor in the IDs of agents that joined by token.
pub(crate) const JOIN_TOKEN: &str = "join-token";
/// The attestor in the IDs of agents that proved their host's certificate.
pub(crate) const X509POP: &str = "x509pop";

/// What is configured. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attestors {
    host: Option<Arc<HostAttestor>>,
    issuers: Arc<Issuers>,
}

/// Why `[attest]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AttestorsError {
    #[error(transparent)]
    Host(#[from] HostAttestorError),
    #[error(transparent)]
    Issuer(#[from] IssuerKeysError),
}

impl Attestors {
    /// Reads the files that the configuration names.
    pub(crate) fn load(
        config: &AttestConfig,
        trust_domain: &TrustDomain,
        clock: &Clock,
    ) -> Result<Self, AttestorsError> {
        let host = config.x509pop.as_ref();
        let host = host.map(|host| HostAttestor::load(host, trust_domain));
        Ok(Self {
            host: host.transpose()?.map(Arc::new),
            issuers: Arc::new(Issuers::load(&config.jwt, clock)?),
        })
    }

    pub(super) fn issuers(&self) -> Result<&Issuers, Refusal> {
        if self.issuers.is_empty() {
            return Err(Refusal::NotConfigured("jwt"));
        }
        Ok(&self.issuers)
    }

    pub(super) fn host(&self) -> Result<&HostAttestor, Refusal> {
        self.host.as_deref().ok_or(Refusal::NotConfigured(X509POP))
    }
}
