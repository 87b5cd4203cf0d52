//! What `countersign-ca seal rotate` does: another key-encryption key for the store.

use std::path::Path;

use runtime::Clock;

use super::StartError;
use super::start::open_store;
use crate::authority::rotate_kek;
use crate::config::{Config, KeysConfig};

/// Wraps every sealed key by the key-encryption key at `to`, in one transaction. The configured one
/// opens nothing afterwards: the configuration must name the new one before the CA starts again.
///
/// # Errors
/// The store or either key cannot be used, or `to` lies beside the data; the store has not changed
/// then.
pub async fn rotate_seal(config: &Config, to: &Path, clock: &Clock) -> Result<usize, StartError> {
    let with_new = Config {
        keys: KeysConfig {
            kek_file: to.to_owned(),
        },
        ..config.clone()
    };
    config.check()?;
    with_new.check()?;
    let store = open_store(config, clock.now()).await?;
    let outcome = rotate_kek(&store, &config.keys.kek_file, to).await;
    store.close().await;
    Ok(outcome?)
}
