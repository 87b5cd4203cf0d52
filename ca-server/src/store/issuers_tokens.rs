//! Tokens of issuers (Kubernetes, CI systems) by which agents have attested.
//!
//! Invariant: a token belongs to the first key that showed it, for as long as the token is good: who
//! copies one gains nothing by it.

use crypto::digest::Sha256;
use time::OffsetDateTime;

use super::database::Statement;
use super::{Store, StoreError};

/// A token that was shown, and the key that showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownToken {
    /// Of what the issuer signed.
    pub token: Sha256,
    /// Fingerprint of a public key whose possession was proven.
    pub key: Sha256,
    pub expires_at: OffsetDateTime,
}

impl Store {
    /// Binds the token to the key, in one statement: of two racing keys exactly one wins.
    /// `false`: it belongs to another key.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn bind_issuers_token(&self, shown: ShownToken) -> Result<bool, StoreError> {
        let bind = Statement::new(
            "INSERT INTO issuers_tokens (token_sha256, bound_key, expires_at)
             VALUES ($1, $2, $3)
             ON CONFLICT (token_sha256) DO UPDATE SET expires_at = excluded.expires_at
             WHERE issuers_tokens.bound_key = excluded.bound_key",
        )
        .bind(shown.token)
        .bind(shown.key)
        .bind(shown.expires_at);
        Ok(self.database.execute(bind).await? == 1)
    }
}
