//! Revocation lists in the name of a root, which is opened for the moment of signing, and wiped.

use identity::x509::CrlSpec;
use time::OffsetDateTime;

use super::{RootError, RootKeeper, root_row};
use crate::authority::lifecycle::Generation;
use crate::pkcs11::off_thread;

/// A list, and whose it is.
#[derive(Debug)]
pub(crate) struct SignedCrl {
    /// Key id of what signed it: the root, or the upstream's authority below it.
    pub(crate) issuer: String,
    pub(crate) next_update: OffsetDateTime,
    pub(crate) der: Vec<u8>,
}

impl RootKeeper {
    /// A list of intermediates that stand under this root. It ends with what signs it, if that is
    /// sooner than asked for.
    pub(crate) async fn sign_crl(
        &self,
        generation: Generation,
        list: CrlSpec,
        now: OffsetDateTime,
    ) -> Result<SignedCrl, RootError> {
        let rows = self.keys_in_force(now).await?;
        let keeper = self.clone();
        off_thread(move || {
            let issuer = keeper.issuer(root_row(&rows, generation)?, &rows, now)?;
            let next_update = list.next_update.min(issuer.validity.not_after());
            let list = CrlSpec {
                next_update,
                ..list
            };
            Ok(SignedCrl {
                issuer: issuer.key_id.clone(),
                next_update,
                der: issuer.sign_crl(&list)?,
            })
        })
        .await
    }
}
