//! An X.509-SVID with its private key: what a process shows to its peers.

use crypto::signing::SigningKey;
use thiserror::Error;

use super::chain::VerifiedSvid;
use crate::spiffe_id::SpiffeId;

/// A verified SVID and the key of its leaf. Cloning is cheap; `Debug` shows no key.
#[derive(Debug, Clone)]
pub struct X509Svid {
    svid: VerifiedSvid,
    key: SigningKey,
}

impl X509Svid {
    pub fn try_new(svid: VerifiedSvid, key: SigningKey) -> Result<Self, KeyMismatch> {
        if svid.public_key() != key.public_key() {
            return Err(KeyMismatch {
                spiffe_id: svid.spiffe_id().clone(),
            });
        }
        Ok(Self { svid, key })
    }

    pub fn spiffe_id(&self) -> &SpiffeId {
        self.svid.spiffe_id()
    }

    pub fn svid(&self) -> &VerifiedSvid {
        &self.svid
    }

    pub fn key(&self) -> &SigningKey {
        &self.key
    }
}

/// The private key is not that of the certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the private key does not belong to the certificate of {spiffe_id}")]
pub struct KeyMismatch {
    pub spiffe_id: SpiffeId,
}
