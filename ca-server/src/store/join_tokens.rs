//! Join tokens: made for one agent, bound to the first key that redeems them.

use std::net::IpAddr;
use std::time::Duration;

use crypto::digest::{Sha256, constant_time_eq};
use identity::SpiffeId;
use time::OffsetDateTime;

use super::database::{Row, Statement};
use super::{Cidr, Store, StoreError};

/// How long after the first redemption the same key gets the same answer again.
const REPEAT_WITHIN: Duration = Duration::from_secs(600);

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
struct Redemption {
    secret_sha256: Sha256,
    key: Sha256,
    from: IpAddr,
    now: OffsetDateTime,
}

impl Redemption {
    /// Judges the row as it stands inside the transaction. The caller binds the key unless the
    /// answer is a repeat.
    fn judge(&self, row: &JoinTokenRow) -> Result<Redeemed, RedeemError> {
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
        let mut transaction = self.database.begin().await?;
        for token in tokens {
            let insert = Statement::new(
                "INSERT INTO join_tokens (id, secret_sha256, agent_id, cidr, author, created_at,
                                          expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(token.id)
            .bind(token.secret_sha256)
            .bind(&token.agent_id)
            .bind(token.cidr.map(|cidr| cidr.to_string()))
            .bind(token.author)
            .bind(token.created_at)
            .bind(token.expires_at);
            transaction.execute(insert).await?;
        }
        transaction.commit().await
    }

    /// All tokens, the newest first.
    ///
    /// # Errors
    /// The store is unavailable or damaged.
    pub async fn join_tokens(&self) -> Result<Vec<JoinTokenRow>, StoreError> {
        let all = Statement::new(
            "SELECT id, secret_sha256, agent_id, cidr, author, created_at, expires_at,
                    redeemed_at, bound_key
             FROM join_tokens ORDER BY created_at DESC, id",
        );
        let rows = self.database.fetch_all(all).await?;
        rows.iter().map(join_token).collect()
    }

    /// Answers whether there was such a token.
    ///
    /// # Errors
    /// The store is unavailable.
    pub async fn delete_join_token(&self, id: &str) -> Result<bool, StoreError> {
        let delete = Statement::new("DELETE FROM join_tokens WHERE id = $1");
        Ok(self.database.execute(delete.bind(id)).await? == 1)
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
        let mut transaction = self.database.begin().await?;
        // Whoever else redeems it waits until this transaction has ended.
        let token = Statement::by_engine(
            "SELECT id, secret_sha256, agent_id, cidr, author, created_at, expires_at,
                    redeemed_at, bound_key
             FROM join_tokens WHERE id = $1",
            "SELECT id, secret_sha256, agent_id, cidr, author, created_at, expires_at,
                    redeemed_at, bound_key
             FROM join_tokens WHERE id = $1 FOR UPDATE",
        );
        let row = transaction
            .fetch_optional(token.bind(token_id))
            .await?
            .ok_or(RedeemError::Unknown)?;
        let redeemed = redemption.judge(&join_token(&row)?)?;
        if redeemed.repeated() {
            return Ok(redeemed);
        }
        let bind = Statement::new(
            "UPDATE join_tokens SET bound_key = $2, redeemed_at = $3
             WHERE id = $1 AND bound_key IS NULL",
        );
        let bind = bind.bind(token_id).bind(key).bind(now);
        if transaction.execute(bind).await? != 1 {
            return Err(RedeemError::AlreadyUsed);
        }
        transaction.commit().await?;
        Ok(redeemed)
    }
}

fn join_token(row: &Row) -> Result<JoinTokenRow, StoreError> {
    let state = match row.instant_if_any("redeemed_at")? {
        None => JoinTokenState::Unused,
        Some(at) => {
            let key = row.digest("bound_key")?;
            JoinTokenState::Redeemed { key, at }
        }
    };
    let token = NewJoinToken {
        id: row.plain("id")?,
        secret_sha256: row.digest("secret_sha256")?,
        agent_id: row.parsed("agent_id")?,
        cidr: row.parsed_if_any("cidr")?,
        author: row.plain("author")?,
        created_at: row.instant("created_at")?,
        expires_at: row.instant("expires_at")?,
    };
    Ok(JoinTokenRow { token, state })
}
