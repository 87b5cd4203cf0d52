//! Instances of Countersign below this one, as administrators see them: each has a secret that opens
//! nothing but the authority and the bundle that it needs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use crypto::random::SystemRandom;
use identity::x509::DenyList;
use runtime::Clock;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Administrator;
use super::body::{Fields, JsonBody};
use super::documented::Documented;
use super::problem::Problem;
use super::query::Segments;
use super::timestamp::Timestamp;
use crate::bearer::{BearerSecret, Nesting};
use crate::registry::Registry;
use crate::rotation::Rotation;
use crate::store::{DownstreamAuthorityRow, DownstreamRow, Store};

/// As names of replicas: they stand in certificates.
const LONGEST_NAME: usize = 64;

/// Admits, lists and dismisses them.
#[derive(Clone, Debug)]
pub(super) struct Downstreams {
    pub(super) store: Store,
    pub(super) registry: Registry,
    pub(super) rotation: Rotation,
    pub(super) clock: Clock,
}

pub(super) fn operations(downstreams: Downstreams) -> Documented {
    Documented::new()
        .on(&__path_create_downstream, create_downstream)
        .on(&__path_list_downstreams, list_downstreams)
        .on(&__path_delete_downstream, delete_downstream)
        .with(downstreams)
}

#[derive(Debug, Deserialize, ToSchema)]
struct DownstreamRequest {
    /// 1 to 64 of A-Z, a-z, 0-9, `.`, `-` and `_`; stands in its certificates.
    name: String,
}

/// An instance that was admitted: the only time that its secret is shown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewDownstream {
    name: String,
    trust_domain: String,
    created_at: Timestamp,
    /// SHA-256 of each published root that is not being replaced, in hex.
    root_sha256: Vec<String>,
    secret: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct DownstreamList {
    items: Vec<DownstreamView>,
}

/// An instance below this one.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DownstreamView {
    name: String,
    author: String,
    created_at: Timestamp,
    /// When it was heard of last; absent of one that never was.
    seen_at: Option<Timestamp>,
    /// Of the newest bundle that it follows with all its agents; 0 for none.
    bundle_sequence: u64,
    /// That have not ended.
    authorities: Vec<DownstreamAuthorityView>,
}

/// What an instance signs its intermediates with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DownstreamAuthorityView {
    /// SHA-256 of the key, in hex, by which it is revoked.
    key_id: String,
    serial: String,
    /// The generation of its root.
    root: u32,
    not_before: Timestamp,
    not_after: Timestamp,
    /// Everybody here refuses what leads to it, and the instance is told so.
    revoked: bool,
}

impl Fields for DownstreamRequest {
    const FIELDS: &'static [&'static str] = &["name"];
}

/// Admits an instance below this one.
#[utoipa::path(post, path = "/v1/downstreams", tag = "downstreams",
    request_body = DownstreamRequest, responses((status = 201, body = NewDownstream)))]
async fn create_downstream(
    State(downstreams): State<Downstreams>,
    author: Administrator,
    JsonBody(DownstreamRequest { name }): JsonBody<DownstreamRequest>,
) -> Result<(StatusCode, Json<NewDownstream>), Problem> {
    require_name(&name)?;
    let roots = downstreams.sound_roots().await?;
    let secret = BearerSecret::<Nesting>::generate(&mut SystemRandom);
    let row = DownstreamRow {
        name: name.clone(),
        secret_sha256: secret.digest(),
        author: author.author(),
        created_at: downstreams.clock.now(),
        bundle_sequence: 0,
        seen_at: None,
    };
    if !downstreams.store.put_downstream(&row).await? {
        let detail = format!("there is a downstream {name} already");
        return Err(Problem::conflict("downstream-exists", detail)
            .at("/name")
            .suggest("delete it first if its secret is lost; its certificates stay valid"));
    }
    let created = NewDownstream {
        name,
        created_at: row.created_at.into(),
        trust_domain: downstreams.store.trust_domain().to_string(),
        root_sha256: roots,
        secret: secret.text().to_string(),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Lists the instances below this one, and what was signed for them.
#[utoipa::path(get, path = "/v1/downstreams", tag = "downstreams",
    responses((status = 200, body = DownstreamList)))]
async fn list_downstreams(
    State(downstreams): State<Downstreams>,
) -> Result<Json<DownstreamList>, Problem> {
    let store = &downstreams.store;
    let authorities = store.downstream_authorities(downstreams.clock.now());
    let authorities = authorities.await?;
    downstreams.registry.look().await?;
    let denials = downstreams.registry.snapshot().denials().clone();
    let items = store.downstreams().await?.into_iter();
    let items = items.map(|row| view(row, &authorities, denials.list()));
    let items = items.collect();
    Ok(Json(DownstreamList { items }))
}

/// Dismisses an instance: its secret opens nothing any more. What was signed for it stays valid
/// until it ends or is revoked as an authority.
#[utoipa::path(delete, path = "/v1/downstreams/{name}", tag = "downstreams",
    params(("name" = String, Path)), responses((status = 204)))]
async fn delete_downstream(
    State(downstreams): State<Downstreams>,
    Segments(name): Segments<String>,
) -> Result<StatusCode, Problem> {
    match downstreams.store.delete_downstream(&name).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found(format!("downstream {name}"))),
    }
}

impl Downstreams {
    /// Digests of those that nobody else may hold the key of.
    async fn sound_roots(&self) -> Result<Vec<String>, Problem> {
        let lifecycle = self.rotation.lifecycle().await?;
        self.registry.look().await?;
        let roots = self.registry.snapshot().roots().clone();
        let sound = lifecycle.bundled().filter(|member| member.taint.is_none());
        let sound: Vec<_> = sound
            .filter_map(|member| roots.certificate(member.generation))
            .map(|root| root.digest().to_string())
            .collect();
        match sound.is_empty() {
            false => Ok(sound),
            true => Err(Problem::conflict(
                "root-compromised",
                "the only root is marked as compromised, and its successor is not there yet",
            )),
        }
    }
}

fn require_name(name: &str) -> Result<(), Problem> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_name) {
        true => Ok(()),
        false => {
            let rule = "a name is 1 to 64 of A-Z, a-z, 0-9, '.', '-' and '_'";
            Err(Problem::invalid("invalid-value", rule).at("/name"))
        }
    }
}

fn view(
    row: DownstreamRow,
    authorities: &[DownstreamAuthorityRow],
    denied: &DenyList,
) -> DownstreamView {
    let own = authorities.iter().filter(|it| it.downstream == row.name);
    DownstreamView {
        authorities: own.map(|it| authority(it, denied)).collect(),
        name: row.name,
        author: row.author,
        created_at: row.created_at.into(),
        seen_at: row.seen_at.map(Timestamp::from),
        bundle_sequence: row.bundle_sequence,
    }
}

fn authority(row: &DownstreamAuthorityRow, denied: &DenyList) -> DownstreamAuthorityView {
    DownstreamAuthorityView {
        key_id: row.key_id.clone(),
        serial: row.serial.to_string(),
        root: row.generation,
        not_before: row.validity.not_before().into(),
        not_after: row.validity.not_after().into(),
        revoked: row.is_refused_by(denied),
    }
}
