//! The key of a root: in memory for the moment in which it signs, or in a token for good.

use std::sync::Arc;

use crypto::signing::{CertificateKey, CertificatePublicKey, SigningKey};
use identity::TrustDomain;
use zeroize::Zeroizing;

use super::RootError;
use crate::authority::lifecycle::Generation;
use crate::pkcs11::{Token, TokenKeyReference, TokenSigningKey};

pub(super) enum RootKey {
    Held(SigningKey),
    Token(TokenKeyReference, Arc<TokenSigningKey>),
}

impl RootKey {
    pub(super) fn make_held() -> Self {
        Self::Held(SigningKey::generate())
    }

    pub(super) fn make_in(token: &Token, label: &str) -> Result<Self, RootError> {
        let (reference, key) = TokenSigningKey::make(token, label)?;
        Ok(Self::Token(reference, Arc::new(key)))
    }

    /// What a row holds, opened.
    pub(super) fn read(
        secret: &[u8],
        public_key: &[u8],
        token: Option<&Token>,
    ) -> Result<Self, RootError> {
        let text = std::str::from_utf8(secret).ok();
        let Some(reference) = text.and_then(|text| text.parse::<TokenKeyReference>().ok()) else {
            let key = SigningKey::from_pkcs8(secret).map_err(RootError::Key)?;
            return Ok(Self::Held(key));
        };
        let token = token.ok_or(RootError::NoToken)?.clone();
        let public = CertificatePublicKey::from_spki(public_key)?;
        let key = TokenSigningKey::of(token, reference.name(), public);
        Ok(Self::Token(reference, Arc::new(key)))
    }

    /// What the store keeps of it, sealed.
    pub(super) fn secret(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Held(key) => key.to_pkcs8(),
            Self::Token(reference, _) => Zeroizing::new(reference.to_string().into_bytes()),
        }
    }

    pub(super) fn reference(&self) -> Option<TokenKeyReference> {
        match self {
            Self::Held(_) => None,
            Self::Token(reference, _) => Some(*reference),
        }
    }

    pub(super) fn signer(&self) -> CertificateKey {
        match self {
            Self::Held(key) => CertificateKey::Held(key.clone()),
            Self::Token(_, key) => CertificateKey::Other(key.clone()),
        }
    }

    pub(super) fn in_token(self) -> Option<Arc<TokenSigningKey>> {
        match self {
            Self::Held(_) => None,
            Self::Token(_, key) => Some(key),
        }
    }

    /// Why it did not sign: the token knows better than who made the certificate.
    pub(super) fn explain(&self, error: impl Into<RootError>) -> RootError {
        let failure = match self {
            Self::Held(_) => None,
            Self::Token(_, key) => key.take_failure(),
        };
        failure.map_or_else(|| error.into(), RootError::Token)
    }
}

/// What a root's key is labelled with in a token: for people, and for finding what no store refers
/// to any more.
pub(super) fn label(trust_domain: &TrustDomain, generation: Generation) -> String {
    format!("countersign {trust_domain} root {generation}")
}
