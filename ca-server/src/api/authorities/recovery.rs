//! Bundle updates: what there is to sign, offline, by the recovery key, and what was signed.

use axum::Json;
use axum::extract::State;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Authorities;
use crate::api::auth::Administrator;
use crate::api::body::{Fields, JsonBody};
use crate::api::problem::Problem;
use crate::api::timestamp::Timestamp;
use crate::recovery::PublishError;

/// What an update would say now, and the newest that was published.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecoveryView {
    trust_domain: String,
    /// SHA-256 of the recovery key's SubjectPublicKeyInfo, in hex; absent where none is configured.
    key_sha256: Option<String>,
    /// Of the next update.
    next_number: u64,
    /// Of the bundle in force.
    bundle_sequence: u64,
    roots: Vec<RecoveryRootView>,
    published: Option<PublishedUpdateView>,
}

/// A published root.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RecoveryRootView {
    generation: u32,
    /// Of the certificate, in hex.
    sha256: String,
    /// The certificate: DER, in base64.
    certificate: String,
    /// It is about to be removed: an update removes it.
    compromised: bool,
}

/// An update that agents are told of.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PublishedUpdateView {
    number: u64,
    /// As it was signed; also of use in a file of an agent's host.
    update: String,
    author: String,
    published_at: Timestamp,
}

/// An update that was signed.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct PublishRequest {
    /// As `countersign authority recovery sign` writes it.
    update: String,
}

impl Fields for PublishRequest {
    const FIELDS: &'static [&'static str] = &["update"];
}

/// Shows what the recovery key has to sign, and what it has signed.
#[utoipa::path(get, path = "/v1/authorities/recovery", tag = "authorities",
    responses((status = 200, body = RecoveryView)))]
pub(super) async fn show_recovery(
    State(authorities): State<Authorities>,
) -> Result<Json<RecoveryView>, Problem> {
    authorities.recovery_view().await.map(Json)
}

/// Publishes a bundle update that the recovery key has signed.
#[utoipa::path(post, path = "/v1/authorities/recovery", tag = "authorities",
    request_body = PublishRequest, responses((status = 200, body = RecoveryView)))]
pub(super) async fn publish_update(
    State(authorities): State<Authorities>,
    author: Administrator,
    JsonBody(request): JsonBody<PublishRequest>,
) -> Result<Json<RecoveryView>, Problem> {
    let roots = authorities.registry.snapshot().roots().clone();
    let recovery = &authorities.recovery;
    recovery
        .publish(request.update.trim(), &roots, author.author())
        .await?;
    authorities.recovery_view().await.map(Json)
}

impl Authorities {
    async fn recovery_view(&self) -> Result<RecoveryView, Problem> {
        self.recovery.look().await?;
        let progress = self.rotation.progress().await?;
        let roots = self.registry.snapshot().roots().clone();
        let newest = self.recovery.newest();
        let published = newest.as_deref().map(|row| PublishedUpdateView {
            number: row.number,
            update: row.text.clone(),
            author: row.author.clone(),
            published_at: row.published_at.into(),
        });
        let bundle_sequence = progress.lifecycle.sequence();
        let bundled = progress.lifecycle.bundled().filter_map(|member| {
            let root = roots.certificate(member.generation)?;
            Some(RecoveryRootView {
                generation: member.generation.number(),
                sha256: root.digest().to_string(),
                certificate: BASE64.encode(root.der()),
                compromised: member.taint.is_some(),
            })
        });
        Ok(RecoveryView {
            trust_domain: roots.bundle().trust_domain().to_string(),
            key_sha256: self.recovery.key().map(|key| key.fingerprint().to_string()),
            next_number: newest.map_or(bundle_sequence, |row| bundle_sequence.max(row.number + 1)),
            bundle_sequence,
            roots: bundled.collect(),
            published,
        })
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let detail = runtime::exit::one_line(&error);
        let code = match error {
            PublishError::Store(error) => return error.into(),
            PublishError::NoKey => return Self::conflict("no-recovery-key", detail),
            PublishError::Update(_) => "bundle-update-refused",
            PublishError::WithoutActiveRoot => "without-active-root",
            PublishError::UnknownRoot => "unknown-root",
        };
        Self::invalid(code, detail).at("/update")
    }
}
