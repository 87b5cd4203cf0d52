//! Issuance records: every X.509-SVID that this mesh's CA gave out.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::documented::Documented;
use super::problem::Problem;
use super::query::{Parameters, limit, parse};
use super::timestamp::Timestamp;
use crate::store::{IssuedFilter, IssuedRow, Store};

const PAGE: u32 = 1000;

pub(super) fn operations(store: Store) -> Documented {
    Documented::new()
        .on(&__path_list_svids, list_svids)
        .with(store)
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct SvidsQuery {
    /// Only those of this identity.
    spiffe_id: Option<String>,
    /// Only those issued through this agent.
    agent_id: Option<String>,
    /// At most so many, 1 to 1000 (1000 when left out), the newest first.
    limit: Option<u32>,
}

#[derive(Debug, Serialize, ToSchema)]
struct SvidList {
    items: Vec<SvidView>,
}

/// One record.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SvidView {
    /// In hex.
    serial: String,
    spiffe_id: String,
    /// Through which it was issued.
    agent_id: String,
    /// Key id of the authority that signed it.
    issuer: String,
    not_before: Timestamp,
    not_after: Timestamp,
    issued_at: Timestamp,
    /// Of the certificate's DER, in hex.
    leaf_sha256: String,
}

/// Lists issuance records.
#[utoipa::path(get, path = "/v1/svids", tag = "svids", params(SvidsQuery),
    responses((status = 200, body = SvidList)))]
async fn list_svids(
    State(store): State<Store>,
    Parameters(query): Parameters<SvidsQuery>,
) -> Result<Json<SvidList>, Problem> {
    let id = |what, text: Option<&str>| text.map(|text| parse(what, text)).transpose();
    let filter = IssuedFilter {
        spiffe_id: id("spiffeId", query.spiffe_id.as_deref())?,
        agent_id: id("agentId", query.agent_id.as_deref())?,
    };
    let rows = store.issued(&filter, limit(query.limit, PAGE)?).await?;
    Ok(Json(SvidList {
        items: rows.iter().map(view).collect(),
    }))
}

fn view(row: &IssuedRow) -> SvidView {
    SvidView {
        serial: row.serial.to_string(),
        spiffe_id: row.spiffe_id.to_string(),
        agent_id: row.agent_id.to_string(),
        issuer: row.issuer.clone(),
        not_before: row.not_before.into(),
        not_after: row.not_after.into(),
        issued_at: row.issued_at.into(),
        leaf_sha256: row.leaf_sha256.to_string(),
    }
}
