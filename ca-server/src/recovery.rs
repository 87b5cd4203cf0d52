//! What agents obey when they can tell the CA no longer from a thief of its root: updates of the
//! bundle, signed by a key that no CA ever holds.
//!
//! Invariant: what is published is signed by the key that agents have pinned, is newer than
//! everything published before, and trusts the root that signs now and no root that is not
//! published. The CA needs only the public key; it can make no update itself.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crypto::signing::PublicKey;
use identity::recovery::{
    BundleUpdate, BundleUpdateError, RecoveryKeyError, UnverifiedBundleUpdate, public_from_pem,
};
use runtime::{Clock, Shutdown};
use tokio::sync::watch;

use crate::authority::PublishedRoots;
use crate::config::RecoveryConfig;
use crate::store::{BundleUpdateRow, Store, StoreError};

/// What other replicas publish is known here after so long.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Recovery {
    key: Option<PublicKey>,
    store: Store,
    newest: watch::Sender<Option<Arc<BundleUpdateRow>>>,
    clock: Clock,
}

/// Why `[recovery]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryConfigError {
    #[error("cannot read the recovery key in {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} holds no recovery key", path.display())]
    Key {
        path: PathBuf,
        source: RecoveryKeyError,
    },
}

/// Why an update is not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("no recovery key is configured, so agents have pinned none; see [recovery]")]
    NoKey,
    #[error("the bundle update is refused")]
    Update(#[from] BundleUpdateError),
    #[error("the bundle update does not trust the root that signs now: agents could not find back")]
    WithoutActiveRoot,
    #[error("the bundle update trusts a root that the CA does not publish")]
    UnknownRoot,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Recovery {
    /// # Errors
    /// The key's file cannot be used.
    pub(crate) fn open(
        config: Option<&RecoveryConfig>,
        store: &Store,
        clock: Clock,
    ) -> Result<Self, RecoveryConfigError> {
        Ok(Self {
            key: config.map(read_key).transpose()?,
            store: store.clone(),
            newest: watch::Sender::new(None),
            clock,
        })
    }

    /// By which agents judge updates.
    pub(crate) fn key(&self) -> Option<&PublicKey> {
        self.key.as_ref()
    }

    /// SubjectPublicKeyInfo as agents are told it; empty without one.
    pub(crate) fn wire_key(&self) -> Vec<u8> {
        self.key
            .as_ref()
            .map(|key| key.spki().to_vec())
            .unwrap_or_default()
    }

    /// The newest that this replica knows of, as agents are told it; empty without one.
    pub(crate) fn wire_update(&self) -> String {
        let newest = self.newest.borrow();
        newest
            .as_ref()
            .map(|row| row.text.clone())
            .unwrap_or_default()
    }

    pub(crate) fn newest(&self) -> Option<Arc<BundleUpdateRow>> {
        self.newest.borrow().clone()
    }

    /// Looks what other replicas have published.
    pub(crate) async fn look(&self) -> Result<(), StoreError> {
        let newest = self.store.bundle_update().await?.map(Arc::new);
        self.newest.send_if_modified(|held| {
            let number = |row: &Option<Arc<BundleUpdateRow>>| row.as_ref().map(|it| it.number);
            // Who looks at once may have looked later.
            let is_newer = number(&newest) > number(held);
            if is_newer {
                *held = newest;
            }
            is_newer
        });
        Ok(())
    }

    /// Runs until the shutdown begins.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        loop {
            if let Err(error) = self.look().await {
                let error = runtime::exit::one_line(&error);
                tracing::debug!(error, "published bundle updates cannot be read");
            }
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// # Errors
    /// See [`PublishError`]; nothing has changed then.
    pub(crate) async fn publish(
        &self,
        text: &str,
        roots: &PublishedRoots,
        author: String,
    ) -> Result<(), PublishError> {
        let key = self.key.as_ref().ok_or(PublishError::NoKey)?;
        let now = self.clock.now();
        let update: UnverifiedBundleUpdate = text.parse()?;
        let update = update.verify(key, self.store.trust_domain(), now)?;
        require_of(&update, roots)?;
        let row = BundleUpdateRow {
            number: update.number(),
            text: text.to_owned(),
            author,
            published_at: now,
        };
        let kept = self.store.put_bundle_update(&row).await?;
        self.look().await?;
        if !kept {
            let taken = self.newest().map_or(row.number, |newest| newest.number);
            update.require_after(taken)?;
        }
        tracing::warn!(
            number = row.number,
            author = row.author,
            "bundle update published"
        );
        Ok(())
    }
}

fn require_of(update: &BundleUpdate, roots: &PublishedRoots) -> Result<(), PublishError> {
    let trusted = update.bundle().authorities();
    let published = roots.bundle().authorities();
    let active = roots.active().map(|(_, root)| root.digest());
    if !trusted.iter().any(|root| Some(root.digest()) == active) {
        return Err(PublishError::WithoutActiveRoot);
    }
    let is_published = |digest| published.iter().any(|root| root.digest() == digest);
    match trusted.iter().all(|root| is_published(root.digest())) {
        true => Ok(()),
        false => Err(PublishError::UnknownRoot),
    }
}

fn read_key(config: &RecoveryConfig) -> Result<PublicKey, RecoveryConfigError> {
    let path = config.public_key_file.clone();
    match std::fs::read(&path) {
        Ok(text) => {
            public_from_pem(&text).map_err(|source| RecoveryConfigError::Key { path, source })
        }
        Err(source) => Err(RecoveryConfigError::File { path, source }),
    }
}
