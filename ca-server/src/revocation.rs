//! What revocations mean at the CA itself: whom its listeners refuse, and certificates that slipped
//! through a ban while replicas heard of it.
//!
//! Invariant: of the leaves of a revoked authority only those are served that a record says were
//! issued here: whoever holds the authority's key can make others, but no record of them. So those
//! that are ours can be replaced without a person.

mod lists;
mod unrecorded;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use identity::x509::{Denied, DenyList};
use mtls::PeerIdentity;
use runtime::{Clock, Shutdown};
use tokio::sync::watch;

pub(crate) use self::lists::{ListSigning, RevocationLists, ToldLists};
use crate::registry::{PublishedDenials, Registry, RevokeError};
use crate::store::{Authorship, RevocationChange, Store, StoreError};

pub(crate) use unrecorded::{NotAccepted, Obeying, RevocationSpool};

/// How often what was issued through banned agents is looked for, while there are any.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Judges peers of this replica; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct RevokedPeers {
    denials: watch::Receiver<Arc<PublishedDenials>>,
    store: Store,
}

/// The background job.
#[derive(Debug)]
pub(crate) struct RevocationKeeper {
    registry: Registry,
    store: Store,
    clock: Clock,
}

impl RevokedPeers {
    pub(crate) fn new(registry: &Registry, store: Store) -> Self {
        Self {
            denials: registry.denials(),
            store,
        }
    }

    /// Who is refused now.
    pub(crate) fn list(&self) -> DenyList {
        self.denials.borrow().list().clone()
    }

    /// Why the peer is refused, if it is. A store that is away vouches for nobody.
    pub(crate) async fn refuses(&self, peer: &PeerIdentity) -> Option<Denied> {
        let by = peer.denied_by(&self.list())?;
        let Denied::Authority(_) = by else {
            return Some(by);
        };
        let (id, serial, digest) = (peer.spiffe_id(), peer.serial(), peer.leaf_digest());
        match self.store.is_recorded(id, serial, digest).await {
            Ok(true) => None,
            Ok(false) => {
                tracing::error!(
                    alarm = "svid-not-recorded",
                    %id,
                    %serial,
                    "a certificate under a revoked authority was never issued here: who signed it?"
                );
                Some(by)
            }
            Err(error) => {
                tracing::warn!(
                    error = %runtime::exit::one_line(&error),
                    "whether a certificate under a revoked authority is ours cannot be told"
                );
                Some(by)
            }
        }
    }

    /// Resolves when the peer is refused.
    pub(crate) async fn refused(mut self, peer: PeerIdentity) -> Denied {
        loop {
            self.denials.mark_unchanged();
            if let Some(by) = self.refuses(&peer).await {
                return by;
            }
            if self.denials.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl RevocationKeeper {
    pub(crate) fn new(registry: Registry, store: Store, clock: Clock) -> Self {
        Self {
            registry,
            store,
            clock,
        }
    }

    /// Looks until the shutdown begins.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if let Err(error) = self.look().await {
                tracing::warn!(
                    error = %runtime::exit::one_line(&error),
                    "what was issued through banned agents cannot be looked for"
                );
            }
        }
    }

    /// A replica that had not heard of a ban may have issued something after it.
    async fn look(&self) -> Result<(), LookError> {
        if self.store.agent_bans().await?.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let known = self.registry.denials().borrow().list().clone();
        let denied = self.store.denied(now).await?;
        let missing = denied.iter().filter(|(entry, _)| !known.contains(entry));
        let missing = missing.count();
        if missing == 0 {
            return Ok(());
        }
        let authorship = Authorship {
            author: "countersign".to_owned(),
            reason: format!("{missing} more certificates were issued through banned agents"),
            at: now,
        };
        let tell = RevocationChange::Tell;
        self.registry
            .change_revocation(tell, Vec::new(), authorship)
            .await?;
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Revoke(#[from] RevokeError),
}
