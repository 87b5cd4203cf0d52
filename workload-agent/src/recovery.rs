//! The way back to a CA whose root this agent does not trust, or cannot tell from a thief's: the
//! recovery key that it pinned when it joined, and the bundle updates that this key has signed.
//!
//! Invariants: the first key that an authenticated CA names is pinned, sealed, and never replaced
//! by what anybody says; no update is taken twice, nor one from before; a root that an update has
//! removed is trusted never again, whatever a CA says.

use std::collections::BTreeSet;

use crypto::digest::Sha256;
use crypto::signing::PublicKey;
use identity::TrustDomain;
use identity::recovery::{BundleUpdate, BundleUpdateError, UnverifiedBundleUpdate};
use proto::mesh::v1 as mesh;
use time::OffsetDateTime;

use crate::cache::{Cache, CacheError, StoredRecovery};

/// What is kept of removed roots; the oldest are forgotten.
const REMEMBERED: usize = 64;

/// What is pinned, and what was taken.
#[derive(Debug)]
pub(crate) struct Recovery {
    trust_domain: TrustDomain,
    cache: Cache,
    key: Option<PublicKey>,
    taken: u64,
    removed: Vec<Sha256>,
}

/// How an update came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    /// Somebody on the network, perhaps the thief, chose when to show it.
    Network,
    /// The host's operator left it in a file.
    Hand,
}

/// Why an agent that does not trust the CA any more cannot be helped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    #[error("this agent has pinned no recovery key")]
    NoKey,
    #[error("the CA has published no bundle update")]
    NoUpdate,
    #[error("the bundle update is not taken")]
    Update(#[from] BundleUpdateError),
    #[error(
        "the bundle update is of bundle {offered}, older than {held} that this agent holds; who \
         knows that it is meant puts it into a file on this host"
    )]
    Behind { offered: u64, held: u64 },
    #[error("what was pinned and taken cannot be kept")]
    Keep(#[from] CacheError),
}

impl RecoveryError {
    /// For who reads the agent's status.
    pub(crate) fn next_step(&self) -> String {
        match self {
            Self::Keep(_) => "make the state directory writable".to_owned(),
            Self::NoKey => "if the CA's root was replaced while this agent was away, remove the \
                            agent's state directory and join it again with a new token"
                .to_owned(),
            Self::NoUpdate | Self::Update(_) | Self::Behind { .. } => {
                "if the CA's root was replaced while this agent was away, publish a bundle update \
                 (`countersign authority recovery`), or put it into the file `bundle-update` of \
                 the agent's state directory and restart the agent"
                    .to_owned()
            }
        }
    }
}

impl Recovery {
    pub(crate) fn restored(trust_domain: TrustDomain, cache: Cache) -> Self {
        let stored = cache.load::<StoredRecovery>().unwrap_or_default();
        let digest = |bytes: &Vec<u8>| <[u8; 32]>::try_from(bytes.as_slice()).ok();
        let removed = stored.removed.iter().filter_map(digest);
        Self {
            trust_domain,
            cache,
            key: PublicKey::from_spki(&stored.key).ok(),
            taken: stored.taken,
            removed: removed.map(Sha256::from_bytes).collect(),
        }
    }

    /// The digests of roots that are never trusted again.
    pub(crate) fn removed(&self) -> BTreeSet<Sha256> {
        self.removed.iter().copied().collect()
    }

    /// What an authenticated CA says: its recovery key, which the first time is pinned, and the
    /// newest update, after which none from before is taken.
    pub(crate) async fn told(&mut self, key: &[u8], update: &str, now: OffsetDateTime) {
        if let Err(error) = self.learn(key, update, now).await {
            tracing::warn!(
                error = %runtime::exit::one_line(&error),
                "what the CA says of recovery is not kept"
            );
        }
    }

    async fn learn(
        &mut self,
        key: &[u8],
        update: &str,
        now: OffsetDateTime,
    ) -> Result<(), RecoveryError> {
        if key.is_empty() {
            return Ok(());
        }
        match (&self.key, PublicKey::from_spki(key)) {
            (None, Ok(offered)) => {
                self.key = Some(offered);
                self.keep().await?;
                tracing::info!(sha256 = %offered.fingerprint(), "recovery key pinned");
            }
            (Some(pinned), Ok(offered)) if *pinned == offered => {}
            _ => tracing::error!(
                alarm = "recovery-key-changed",
                "the CA names another recovery key than this agent has pinned; the pinned one stays"
            ),
        }
        if update.is_empty() {
            return Ok(());
        }
        match self.judge(update, now) {
            Ok(update) => self.took(&update).await,
            // The CA goes on showing it; who is told by the CA itself needs it no more.
            Err(RecoveryError::Update(
                BundleUpdateError::Replayed { .. } | BundleUpdateError::Expired { .. },
            )) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The update in `text`, if it may be taken now. `held` is the sequence of the bundle held: an
    /// update that is older than it may be one that a thief has kept for this moment.
    pub(crate) fn judge_from(
        &self,
        road: Road,
        text: &str,
        held: u64,
        now: OffsetDateTime,
    ) -> Result<BundleUpdate, RecoveryError> {
        let update = self.judge(text, now)?;
        let offered = update.bundle().sequence();
        if road == Road::Network && offered < held {
            return Err(RecoveryError::Behind { offered, held });
        }
        Ok(update)
    }

    fn judge(&self, text: &str, now: OffsetDateTime) -> Result<BundleUpdate, RecoveryError> {
        let key = self.key.as_ref().ok_or(RecoveryError::NoKey)?;
        let text = text.trim();
        if text.is_empty() {
            return Err(RecoveryError::NoUpdate);
        }
        let update: UnverifiedBundleUpdate = text.parse()?;
        let update = update.verify(key, &self.trust_domain, now)?;
        update.require_after(self.taken)?;
        Ok(update)
    }

    /// On disk before anybody builds on it.
    pub(crate) async fn took(&mut self, update: &BundleUpdate) -> Result<(), RecoveryError> {
        self.taken = update.number();
        for digest in update.removed() {
            if !self.removed.contains(digest) {
                self.removed.push(*digest);
            }
        }
        let surplus = self.removed.len().saturating_sub(REMEMBERED);
        self.removed.drain(..surplus);
        self.keep().await
    }

    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    async fn keep(&self) -> Result<(), RecoveryError> {
        let stored = StoredRecovery {
            key: self
                .key
                .as_ref()
                .map(|key| key.spki().to_vec())
                .unwrap_or_default(),
            taken: self.taken,
            removed: self
                .removed
                .iter()
                .map(|digest| digest.as_bytes().to_vec())
                .collect(),
        };
        Ok(self.cache.store(stored).await?)
    }
}

/// The bundle without the roots that an update has removed.
pub(crate) fn without_removed(
    mut bundle: mesh::Bundle,
    removed: &BTreeSet<Sha256>,
) -> mesh::Bundle {
    bundle
        .x509_authorities
        .retain(|der| !removed.contains(&Sha256::of(der)));
    bundle
}

#[cfg(test)]
mod tests;
