//! The alarm: certificates in use that were never recorded.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Logs;
use crate::api::problem::Problem;
use crate::api::query::{Parameters, limit};
use crate::api::timestamp::Timestamp;
use crate::store::UnloggedLeaf;

const PAGE: u32 = 1000;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct UnloggedQuery {
    /// At most so many, 1 to 1000 (1000 when left out), the newest first.
    limit: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UnloggedList {
    items: Vec<UnloggedView>,
}

/// A certificate that a proxy saw, and that this CA has not recorded.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UnloggedView {
    /// Whose it claims to be.
    spiffe_id: String,
    /// In hex.
    serial: String,
    /// Of the certificate's DER, in hex.
    sha256: String,
    /// The workload whose proxy saw it first.
    workload: String,
    /// Through which agent that was reported.
    agent_id: String,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

/// Lists certificates that are in use and were never recorded.
#[utoipa::path(get, path = "/v1/log/unlogged", tag = "log", params(UnloggedQuery),
    responses((status = 200, body = UnloggedList)))]
pub(super) async fn list_unlogged(
    State(logs): State<Logs>,
    Parameters(query): Parameters<UnloggedQuery>,
) -> Result<Json<UnloggedList>, Problem> {
    let leaves = logs
        .store
        .unlogged_leaves(limit(query.limit, PAGE)?)
        .await?;
    Ok(Json(UnloggedList {
        items: leaves.iter().map(view).collect(),
    }))
}

fn view(leaf: &UnloggedLeaf) -> UnloggedView {
    UnloggedView {
        spiffe_id: leaf.seen.spiffe_id.to_string(),
        serial: leaf.seen.serial.to_string(),
        sha256: leaf.seen.sha256.to_string(),
        workload: leaf.seen.workload.to_string(),
        agent_id: leaf.seen.agent_id.to_string(),
        first_seen: leaf.first_seen.into(),
        last_seen: leaf.last_seen.into(),
    }
}
