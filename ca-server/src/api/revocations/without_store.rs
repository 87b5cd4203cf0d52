//! Revoking while the store is away.
//!
//! Invariant: what only the store can judge is refused; what is accepted is on this replica's disk and
//! on the deny-list of its agents before it is answered.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Revocations, Wish};
use crate::api::WithoutStore;
use crate::api::auth::Administrator;
use crate::api::objects::require_deny_lists;
use crate::api::problem::Problem;
use crate::api::timestamp::Timestamp;
use crate::revocation::NotAccepted;
use crate::spool::SpooledRevocation;

/// A revocation that was accepted while the store is away. It is kept by the replica that answers, and
/// obeyed there and by the agents connected to it; when the store is back it becomes a revision, which
/// everybody obeys.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct SpooledView {
    kind: &'static str,
    subject: String,
    reason: String,
    author: String,
    accepted_at: Timestamp,
    /// Always true: it waits for the store, and has no revision yet.
    spooled: bool,
    /// Identities of a banned agent that other agents may hold too: certificates for them are refused
    /// only when the store is back, since it alone knows which of them are the agent's.
    refused_later: Vec<String>,
}

impl Revocations {
    pub(super) async fn revoke_without(
        &self,
        without: &WithoutStore,
        wish: Wish,
        author: &Administrator,
    ) -> Result<SpooledView, Problem> {
        if !wish.conditions.expected()?.is_empty() {
            let detail = "the store is away, and cannot say what this change is made on top of";
            return Err(Problem::unavailable("store-unavailable", detail)
                .suggest("send it without If-Match and If-None-Match"));
        }
        let expires_at = self.judge_without_store(&wish.subject)?;
        if !wish.force {
            // What other replicas have told of their agents stands in the store.
            require_deny_lists(&self.presence.connected(), &[])?;
        }
        let revocation = SpooledRevocation {
            subject: wish.subject,
            expires_at,
            reason: wish.reason,
            author: author.author(),
            accepted_at: self.clock.now(),
        };
        let provisional = without.revocations.accept(revocation.clone()).await?;
        tracing::warn!(
            kind = revocation.subject.kind(),
            subject = %revocation.subject,
            author = revocation.author,
            reason = revocation.reason,
            "revoked while the store is away: it is kept here, and recorded when the store is back"
        );
        Ok(SpooledView {
            kind: revocation.subject.kind(),
            subject: revocation.subject.to_string(),
            reason: revocation.reason,
            author: revocation.author,
            accepted_at: revocation.accepted_at.into(),
            spooled: true,
            refused_later: provisional.later.iter().map(ToString::to_string).collect(),
        })
    }
}

impl IntoResponse for SpooledView {
    fn into_response(self) -> Response {
        (StatusCode::ACCEPTED, Json(self)).into_response()
    }
}

impl From<NotAccepted> for Problem {
    fn from(error: NotAccepted) -> Self {
        let detail = error.to_string();
        match error {
            NotAccepted::Overloaded => Self::unavailable("overloaded", detail),
            NotAccepted::NotKept(_) => Self::unavailable("spool-unavailable", detail)
                .suggest("ask another replica, or look at the disk of this one's [spool] file"),
            NotAccepted::NotHeld(_) => Self::conflict("too-many-revoked", detail)
                .suggest("wait for the store, or revoke an authority instead"),
            NotAccepted::Gone => Self::unavailable("shutting-down", detail),
        }
    }
}
