//! Join tokens. Redemption reads, judges and binds inside one write transaction.

use sqlx::sqlite::SqliteRow;

use super::Sqlite;
use super::columns::{digest, instant, instant_if_any, millis, parsed, parsed_if_any, plain};
use crate::store::join_tokens::Redemption;
use crate::store::{JoinTokenRow, JoinTokenState, NewJoinToken, RedeemError, Redeemed, StoreError};

impl Sqlite {
    pub(in crate::store) async fn create_join_tokens(
        &self,
        tokens: Vec<NewJoinToken>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for token in tokens {
            sqlx::query(
                "INSERT INTO join_tokens (id, secret_sha256, agent_id, cidr, author, created_at,
                                          expires_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(token.id)
            .bind(token.secret_sha256.as_bytes().to_vec())
            .bind(token.agent_id.to_string())
            .bind(token.cidr.map(|cidr| cidr.to_string()))
            .bind(token.author)
            .bind(millis(token.created_at))
            .bind(millis(token.expires_at))
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    pub(in crate::store) async fn join_tokens(&self) -> Result<Vec<JoinTokenRow>, StoreError> {
        sqlx::query("SELECT * FROM join_tokens ORDER BY created_at DESC, id")
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(join_token)
            .collect()
    }

    pub(in crate::store) async fn delete_join_token(&self, id: &str) -> Result<bool, StoreError> {
        let done = sqlx::query("DELETE FROM join_tokens WHERE id = $1")
            .bind(id)
            .execute(&self.writer)
            .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn redeem(
        &self,
        token_id: &str,
        redemption: &Redemption,
    ) -> Result<Redeemed, RedeemError> {
        let mut transaction = self.begin().await?;
        let row = sqlx::query("SELECT * FROM join_tokens WHERE id = $1")
            .bind(token_id)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(StoreError::from)?
            .ok_or(RedeemError::Unknown)?;
        let redeemed = redemption.judge(&join_token(&row)?)?;
        if redeemed.repeated() {
            return Ok(redeemed);
        }
        let bound = sqlx::query(
            "UPDATE join_tokens SET bound_key = $2, redeemed_at = $3
             WHERE id = $1 AND bound_key IS NULL",
        )
        .bind(token_id)
        .bind(redemption.key.as_bytes().to_vec())
        .bind(millis(redemption.now))
        .execute(&mut *transaction)
        .await
        .map_err(StoreError::from)?;
        if bound.rows_affected() != 1 {
            return Err(RedeemError::AlreadyUsed);
        }
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(redeemed)
    }
}

fn join_token(row: &SqliteRow) -> Result<JoinTokenRow, StoreError> {
    let state = match instant_if_any(row, "redeemed_at")? {
        None => JoinTokenState::Unused,
        Some(at) => {
            let key = digest(row, "bound_key")?;
            JoinTokenState::Redeemed { key, at }
        }
    };
    let token = NewJoinToken {
        id: plain(row, "id")?,
        secret_sha256: digest(row, "secret_sha256")?,
        agent_id: parsed(row, "agent_id")?,
        cidr: parsed_if_any(row, "cidr")?,
        author: plain(row, "author")?,
        created_at: instant(row, "created_at")?,
        expires_at: instant(row, "expires_at")?,
    };
    Ok(JoinTokenRow { token, state })
}
