//! The administrator's credential: made by the first replica of a mesh, and made anew when all are
//! to be revoked.
//!
//! Of replicas that start at once, one leaves a file that works and the others none.

use std::path::Path;
use std::time::Duration;

use identity::x509::Bundle;
use runtime::Clock;
use time::OffsetDateTime;

use super::sockets::Advertised;
use super::start::{StartError, open_store};
use crate::admin::{self, AdminAccess};
use crate::authority::{KekSource, RootError, kek_and_bundle};
use crate::config::Config;
use crate::store::{Duty, Store};

/// A replica that died while it made the first credential keeps others from it for so long.
const FIRST_CREDENTIAL: Duration = Duration::from_secs(60);

/// Writes the mesh's first credential, unless there is one or another replica is at it.
pub(super) async fn write_first(
    config: &Config,
    store: &Store,
    url: String,
    bundle: Bundle,
    now: OffsetDateTime,
) -> Result<(), StartError> {
    if !may_write(config, store, now).await? {
        return Ok(());
    }
    let file = &config.admin.credential_file;
    let parent = file.parent();
    if let Some(directory) = parent.filter(|parent| !parent.as_os_str().is_empty())
        && !directory.exists()
    {
        runtime::files::private_directory(directory)?;
    }
    let access = AdminAccess {
        urls: vec![url],
        bundle,
    };
    if admin::make_first(store, &access, file, now).await? {
        tracing::info!(file = %file.display(), "the first administrator's credential was made");
    }
    Ok(())
}

async fn may_write(
    config: &Config,
    store: &Store,
    now: OffsetDateTime,
) -> Result<bool, StartError> {
    if !store.is_shared() {
        return Ok(true);
    }
    let replica = config.replica.as_str();
    let taken = store.take(Duty::FirstCredential, replica, FIRST_CREDENTIAL, now);
    Ok(taken.await?.is_some())
}

/// What `countersign-ca admin reset` does: every credential is revoked, a new one is written.
pub async fn reset_admin(config: &Config, clock: &Clock) -> Result<(), StartError> {
    config.check()?;
    let store = open_store(config, clock.now()).await?;
    let outcome = reset_in(config, clock, &store).await;
    store.close().await;
    outcome
}

async fn reset_in(config: &Config, clock: &Clock, store: &Store) -> Result<(), StartError> {
    let kek = KekSource::of(&config.keys).map_err(RootError::from)?;
    let (kek, bundle) = kek_and_bundle(store, kek).await?;
    let access = AdminAccess {
        urls: vec![Advertised::configured_web(config)],
        bundle,
    };
    let file: &Path = &config.admin.credential_file;
    admin::reset(store, &kek, &access, file, clock.now()).await?;
    Ok(())
}
