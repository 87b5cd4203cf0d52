//! Join tokens: made for one agent, bound to the first key that redeems them.

use std::net::IpAddr;
use std::time::Duration;

use crypto::digest::{Sha256, constant_time_eq};
use identity::SpiffeId;
use time::OffsetDateTime;

use super::{Backend, Cidr, Store, StoreError};

/// How long after the first redemption the same key gets the same answer again.
pub(super) const REPEAT_WITHIN: Duration = Duration::from_secs(600);

/// A token to keep; its secret stays with who asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJoinToken {
    pub id: String,
    pub secret_sha256: Sha256,
    pub agent_id: SpiffeId,
    /// Where it may be redeemed from; anywhere when `None`.
    pub cidr: Option<Cidr>,
    pub author: String,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinTokenRow {
    pub token: NewJoinToken,
    pub state: JoinTokenState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinTokenState {
    Unused,
    /// `key` is the fingerprint of the public key that redeemed it.
    Redeemed {
        key: Sha256,
        at: OffsetDateTime,
    },
}

/// Evidence that a token was redeemed by this key, now or within the last ten minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redeemed {
    agent_id: SpiffeId,
    repeated: bool,
}

impl Redeemed {
    #[must_use]
    pub fn agent_id(&self) -> &SpiffeId {
        &self.agent_id
    }

    /// Whether this is the same answer once more.
    #[must_use]
    pub fn repeated(&self) -> bool {
        self.repeated
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// Also when the secret is wrong: who guesses learns no ids.
    #[error("the join token is not known here")]
    Unknown,
    #[error("the join token expired at {at}")]
    Expired { at: OffsetDateTime },
    #[error("the join token was already used by another key")]
    AlreadyUsed,
    #[error("the join token may not be used from {from}")]
    AddressNotAllowed { from: IpAddr },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl RedeemError {
    /// Stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown-token",
            Self::Expired { .. } => "expired",
            Self::AlreadyUsed => "already-used",
            Self::AddressNotAllowed { .. } => "address-not-allowed",
            Self::Store(_) => "store-unavailable",
        }
    }
}

/// What an agent shows to redeem a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Redemption {
    pub(super) secret_sha256: Sha256,
    pub(super) key: Sha256,
    pub(super) from: IpAddr,
    pub(super) now: OffsetDateTime,
}

impl Redemption {
    /// Judges the row as it stands inside the transaction. The caller binds the key unless the
    /// answer is a repeat.
    pub(super) fn judge(&self, row: &JoinTokenRow) -> Result<Redeemed, RedeemError> {
        let token = &row.token;
        if !constant_time_eq(
            token.secret_sha256.as_bytes(),
            self.secret_sha256.as_bytes(),
        ) {
            return Err(RedeemError::Unknown);
        }
        if token.cidr.is_some_and(|cidr| !cidr.contains(self.from)) {
            return Err(RedeemError::AddressNotAllowed { from: self.from });
        }
        match row.state {
            JoinTokenState::Redeemed { key, .. } if key != self.key => {
                Err(RedeemError::AlreadyUsed)
            }
            JoinTokenState::Redeemed { at, .. } if self.now > at + REPEAT_WITHIN => {
                Err(RedeemError::Expired {
                    at: at + REPEAT_WITHIN,
                })
            }
            JoinTokenState::Redeemed { .. } => Ok(Redeemed {
                agent_id: token.agent_id.clone(),
                repeated: true,
            }),
            JoinTokenState::Unused if self.now >= token.expires_at => Err(RedeemError::Expired {
                at: token.expires_at,
            }),
            JoinTokenState::Unused => Ok(Redeemed {
                agent_id: token.agent_id.clone(),
                repeated: false,
            }),
        }
    }
}

impl Store {
    /// Keeps all of `tokens` or none.
    ///
    /// # Errors
    /// The store is unavailable, or has one of the ids already.
    pub async fn create_join_tokens(&self, tokens: Vec<NewJoinToken>) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.create_join_tokens(tokens).await,
        }
    }

    /// All tokens, the newest first.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn join_tokens(&self) -> Result<Vec<JoinTokenRow>, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.join_tokens().await,
        }
    }

    /// Answers whether there was such a token.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_join_token(&self, id: &str) -> Result<bool, StoreError> {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.delete_join_token(id).await,
        }
    }

    /// Binds a token to the first key that shows its secret, in one transaction: of two racing
    /// keys exactly one wins. The same key gets the same answer for ten minutes.
    ///
    /// `key` is the fingerprint of the agent's public key, whose possession the caller has seen
    /// proven.
    ///
    /// # Errors
    /// See [`RedeemError`]; the token is as before then.
    pub async fn redeem(
        &self,
        token_id: &str,
        secret_sha256: Sha256,
        key: Sha256,
        from: IpAddr,
        now: OffsetDateTime,
    ) -> Result<Redeemed, RedeemError> {
        let redemption = Redemption {
            secret_sha256,
            key,
            from,
            now,
        };
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.redeem(token_id, &redemption).await,
        }
    }
}
