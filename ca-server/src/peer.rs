//! Who is at the other end of a connection.

use identity::{AgentId, SerialNumber, SpiffeId, TrustDomain};
use mtls::PeerIdentity;
use time::OffsetDateTime;

/// Evidence that the peer showed a live agent's SVID in this connection's handshake.
#[derive(Debug, Clone)]
pub(crate) struct AgentPeer {
    id: AgentId,
    serial: SerialNumber,
    not_after: OffsetDateTime,
}

/// The peer is somebody, but no agent of this trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an agent of {1}; only agents are served here")]
pub(crate) struct NotAnAgent(SpiffeId, TrustDomain);

impl AgentPeer {
    /// The only way to an `AgentPeer`.
    pub(crate) fn of(peer: &PeerIdentity, trust_domain: &TrustDomain) -> Result<Self, NotAnAgent> {
        let id = peer.spiffe_id();
        let refused = || NotAnAgent(id.clone(), trust_domain.clone());
        if id.trust_domain() != trust_domain {
            return Err(refused());
        }
        Ok(Self {
            id: AgentId::try_from(id.clone()).map_err(|_| refused())?,
            serial: peer.serial(),
            not_after: peer.not_after(),
        })
    }

    pub(crate) fn spiffe_id(&self) -> &SpiffeId {
        self.id.spiffe_id()
    }

    pub(crate) fn serial(&self) -> SerialNumber {
        self.serial
    }

    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }
}
