//! The deny-list in force, as verifiers ask it.
//!
//! Invariant: every verifier of a process asks the same list, and none asks an older one once a
//! newer was told: a list belongs to no generation of credentials.

use std::fmt;

use identity::x509::DenyList;
use tokio::sync::watch;

use crate::error::Refusal;
use crate::peer::PeerIdentity;

/// Cheap to clone; all clones show the same list.
#[derive(Clone)]
pub(crate) struct Denials(watch::Receiver<DenyList>);

impl Denials {
    pub(crate) fn of(receiver: watch::Receiver<DenyList>) -> Self {
        Self(receiver)
    }

    /// A list that stays empty.
    pub(crate) fn none() -> Self {
        Self(watch::Sender::default().subscribe())
    }

    pub(crate) fn current(&self) -> DenyList {
        self.0.borrow().clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<DenyList> {
        self.0.clone()
    }

    pub(crate) fn check(&self, peer: &PeerIdentity) -> Result<(), Refusal> {
        match peer.denied_by(&self.0.borrow()) {
            None => Ok(()),
            Some(by) => Err(Refusal::Revoked {
                peer: peer.spiffe_id().clone(),
                by,
            }),
        }
    }
}

impl fmt::Debug for Denials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Denials({})", self.0.borrow().len())
    }
}
