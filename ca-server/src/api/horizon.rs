//! What ends first, and how long the mesh would go on without a CA.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::documented::Documented;
use super::problem::Problem;
use super::timestamp::Timestamp;
use crate::horizon::{Ending, Horizon, Vitals};
use crate::store::LatestSvid;

pub(super) fn operations(vitals: Vitals) -> Documented {
    Documented::new()
        .on(&__path_show_horizon, show_horizon)
        .with(vitals)
}

/// What ends first.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct HorizonView {
    /// The root that signs, what an upstream has put between it and the replica that answers, what
    /// each live replica signs with, and of agents and workloads the
    /// first to end.
    items: Vec<EndingView>,
    /// How long calls go on if nothing is signed from now on; none while there is no workload.
    survives_seconds: Option<u64>,
    /// Certificates of agents and workloads that should have been renewed.
    late_count: usize,
    /// The first of these to end.
    late: Vec<LateView>,
    /// The clock of the replica that answers minus the database's; 0 where they are one.
    clock_offset_ms: i64,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EndingView {
    /// `root`, `upstream`, `intermediate`, `agent` or `workload`.
    kind: &'static str,
    /// The root's generation, that of the root above an upstream's authority, the replica, or the
    /// SPIFFE ID.
    name: String,
    not_after: Timestamp,
    /// Less than a quarter of its life is left: it should have been renewed.
    near: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LateView {
    spiffe_id: String,
    /// Through which it was issued.
    agent_id: String,
    not_after: Timestamp,
}

/// Shows what ends first.
#[utoipa::path(get, path = "/v1/horizon", tag = "about",
    responses((status = 200, body = HorizonView)))]
async fn show_horizon(State(vitals): State<Vitals>) -> Result<Json<HorizonView>, Problem> {
    let horizon = vitals.horizons.look().await?;
    let offset = vitals.clock_check.offset().whole_milliseconds();
    Ok(Json(HorizonView::of(&horizon, offset)))
}

impl HorizonView {
    fn of(horizon: &Horizon, clock_offset_ms: i128) -> Self {
        Self {
            items: horizon.endings.iter().map(ending).collect(),
            survives_seconds: horizon.survives(horizon.at).map(|left| left.as_secs()),
            late_count: horizon.late_count,
            late: horizon.late.iter().map(late).collect(),
            clock_offset_ms: i64::try_from(clock_offset_ms).unwrap_or(i64::MAX),
        }
    }
}

fn ending(ending: &Ending) -> EndingView {
    EndingView {
        kind: ending.kind.as_str(),
        name: ending.name.clone(),
        not_after: ending.not_after.into(),
        near: ending.near,
    }
}

fn late(svid: &LatestSvid) -> LateView {
    LateView {
        spiffe_id: svid.spiffe_id.to_string(),
        agent_id: svid.agent_id.to_string(),
        not_after: svid.not_after.into(),
    }
}
