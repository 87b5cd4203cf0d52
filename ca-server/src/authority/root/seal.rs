//! The key-encryption key for who administers it: opened, or replaced by another.

use crypto::digest::constant_time_eq;
use identity::x509::Bundle;

use super::{RootError, opened_by};
use crate::authority::kek::{Kek, KekError, KekSource};
use crate::authority::{PublishedRoots, sealed};
use crate::pkcs11::off_thread;
use crate::store::{SealedKeyRow, Store};

/// For the tool that makes a new administrator's credential: whoever runs it holds the key.
pub(crate) async fn kek_and_bundle(
    store: &Store,
    kek: KekSource,
) -> Result<(Kek, Bundle), RootError> {
    let rows = store.sealed_keys().await?;
    let kek = off_thread(move || opened_by(&kek, &rows)).await?;
    let roots = PublishedRoots::read(store).await?;
    Ok((kek, roots.bundle().clone()))
}

/// Wraps every sealed key by the key-encryption key of `to`, which is made if it does not exist;
/// the one of `from` opens nothing afterwards. Answers how many keys there are.
pub(crate) async fn rotate_kek(
    store: &Store,
    from: KekSource,
    to: KekSource,
) -> Result<usize, RootError> {
    let rows = store.sealed_keys().await?;
    let trust_domain = store.trust_domain().clone();
    let rewrapping = off_thread(move || {
        let old = opened_by(&from, &rows)?;
        let new = to.open_or_make()?;
        if constant_time_eq(&old.check_value(), &new.check_value()) {
            return Err(KekError::Same(to.place().clone()).into());
        }
        let rewrap = |row: &SealedKeyRow| sealed::rewrap(row, &trust_domain, (&old, &new));
        let rewrapped = rows.iter().map(rewrap).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, RootError>((old.check_value(), rewrapped))
    });
    let (old, rewrapped) = rewrapping.await?;
    match store.rewrap_sealed_keys(old, &rewrapped).await? {
        true => Ok(rewrapped.len()),
        false => Err(RootError::Moved),
    }
}
