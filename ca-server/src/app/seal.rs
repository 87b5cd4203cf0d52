//! What `countersign-ca seal rotate` does: another key-encryption key for the store.

use runtime::Clock;

use super::StartError;
use super::start::open_store;
use crate::authority::{KekSource, RootError, rotate_kek};
use crate::config::{Config, KekPlace, KeysConfig};

/// Wraps every sealed key by the key-encryption key at `to`, in one transaction. The configured one
/// opens nothing afterwards: the configuration must name the new one before the CA starts again.
///
/// # Errors
/// The store or either key cannot be used, or `to` lies beside the data; the store has not changed
/// then.
pub async fn rotate_seal(
    config: &Config,
    to: &KekPlace,
    clock: &Clock,
) -> Result<usize, StartError> {
    let with_new = Config {
        keys: KeysConfig {
            kek: to.clone(),
            ..config.keys.clone()
        },
        ..config.clone()
    };
    config.check()?;
    with_new.check()?;
    let source = |keys: &KeysConfig| KekSource::of(keys).map_err(RootError::from);
    let (from, to) = (source(&config.keys)?, source(&with_new.keys)?);
    let store = open_store(config, clock.now()).await?;
    let outcome = rotate_kek(&store, from, to).await;
    store.close().await;
    Ok(outcome?)
}
