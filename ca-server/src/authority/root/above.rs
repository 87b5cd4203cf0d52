//! What an upstream offers, and which roots are its own: those in its files, those that it has
//! signed requests with, or those of the instance above.

use identity::x509::RootCertificate;

use super::{RootError, RootKeeper, is_known, is_of_upstream, requested, root_row, sealed};
use crate::authority::lifecycle::Generation;
use crate::authority::upstream::{RootsAbove, Upstream, UpstreamError};
use crate::pkcs11::off_thread;
use crate::store::SealedKeyRow;

impl RootKeeper {
    /// Whether the upstream leads to a root that nobody trusts yet.
    pub(crate) async fn is_offered_another(&self) -> Result<bool, RootError> {
        let Some(upstream) = self.places.upstream.clone() else {
            return Ok(false);
        };
        let rows = self.store.sealed_keys().await?;
        off_thread(move || {
            let offered = match upstream {
                Upstream::Files(files) => files.offered_roots()?,
                Upstream::Requested => requested::offered_root(&rows)?.into_iter().collect(),
                Upstream::Nested(above) => return Ok(unknown_root(&above, &rows).is_some()),
            };
            Ok(offered.iter().any(|root| !is_known(&rows, root)))
        })
        .await
    }

    /// Whether the instance above, if there is one, has a root still that drains here.
    pub(crate) fn is_kept_above(&self, root: &RootCertificate) -> bool {
        let above = self.places.roots_above();
        above.is_some_and(|above| above.keeps(root))
    }

    /// Whether a root is an upstream's, now or when it came; opens what is sealed of it.
    pub(crate) async fn is_of_upstream(&self, generation: Generation) -> Result<bool, RootError> {
        let rows = self.store.sealed_keys().await?;
        let keeper = self.clone();
        off_thread(move || {
            let row = root_row(&rows, generation)?;
            let kek = keeper.places.kek.open_expecting(&row.kek_check)?;
            let secret = sealed::open(row, keeper.store.trust_domain(), &kek)?;
            Ok(is_of_upstream(&secret))
        })
        .await
    }
}

pub(super) fn root_to_take_up(
    above: &RootsAbove,
    rows: &[SealedKeyRow],
) -> Result<RootCertificate, RootError> {
    match unknown_root(above, rows) {
        Some(root) => Ok(root),
        None if above.told().is_none_or(|it| it.to_take_up.is_empty()) => {
            Err(UpstreamError::NotTold.into())
        }
        None => Err(RootError::SameRoot),
    }
}

/// The first that nobody here knows.
fn unknown_root(above: &RootsAbove, rows: &[SealedKeyRow]) -> Option<RootCertificate> {
    let told = above.told()?;
    let mut unknown = told
        .to_take_up
        .iter()
        .filter(|root| !is_known(rows, root.der()));
    unknown.next().cloned()
}
