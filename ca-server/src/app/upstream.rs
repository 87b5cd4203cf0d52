//! What `countersign-ca upstream` does: a request to an offline root, and its certificate back.

use data_encoding::BASE64;
use runtime::Clock;

use super::StartError;
use super::start::open_store;
use crate::authority::{KeyPlaces, RootKeeper};
use crate::config::Config;
use crate::store::Store;

/// Characters in a line of PEM (RFC 7468 §2).
const LINE: usize = 64;

/// A PKCS#10 request for the mesh's authority, PEM. The same until its certificate is installed.
///
/// # Errors
/// The store or the key-encryption key cannot be used, or `[upstream.csr]` is not configured.
pub async fn request_upstream(config: &Config, clock: &Clock) -> Result<String, StartError> {
    config.check()?;
    let store = open_store(config, clock.now()).await?;
    let outcome = match keeper(config, &store) {
        Ok(keeper) => keeper.request(clock.now()).await.map_err(StartError::from),
        Err(error) => Err(error),
    };
    store.close().await;
    Ok(pem("CERTIFICATE REQUEST", &outcome?))
}

/// Takes the certificate that the root has made of a request: PEM, the root last.
///
/// # Errors
/// See [`request_upstream`]; or the mesh could not live under the certificate. Nothing has changed
/// then.
pub async fn install_upstream(
    config: &Config,
    certificates: &[u8],
    clock: &Clock,
) -> Result<(), StartError> {
    config.check()?;
    let store = open_store(config, clock.now()).await?;
    let outcome = match keeper(config, &store) {
        Ok(keeper) => keeper.install(certificates, clock.now()).await,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    store.close().await;
    Ok(outcome?)
}

fn keeper(config: &Config, store: &Store) -> Result<RootKeeper, StartError> {
    let places = KeyPlaces::of(&config.keys, config.upstream.as_ref())?;
    let replica = config.replica.as_str();
    Ok(RootKeeper::new(store, replica, places, config.lifetimes))
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + &format!("-----END {label}-----\n")
}
