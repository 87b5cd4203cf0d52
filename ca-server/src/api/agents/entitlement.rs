//! Whether one agent may hold one workload, and why not: by the same assignments as issuing.

use axum::Json;
use axum::extract::State;
use identity::{Name, Namespace, QualifiedName};
use serde::Serialize;
use utoipa::ToSchema;

use super::Agents;
use crate::api::problem::Problem;
use crate::api::query::Segments;
use crate::issue::Standing;

/// What an agent is to a workload.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct EntitlementView {
    agent_id: String,
    /// `namespace/name`.
    workload: String,
    /// Whether an entry of its `agents` names the agent, and the agent is admitted.
    held: bool,
    /// Absent where it is held: each entry in turn, nearest first, and what of the agent is other.
    why_not: Option<String>,
}

/// Says whether an agent may hold a workload, and why not.
#[utoipa::path(get, path = "/v1/agents/{attestor}/{name}/workloads/{namespace}/{workload}",
    tag = "agents",
    params(
        ("attestor" = String, Path), ("name" = String, Path),
        ("namespace" = String, Path), ("workload" = String, Path),
    ),
    responses((status = 200, body = EntitlementView)))]
pub(super) async fn show_entitlement(
    State(agents): State<Agents>,
    Segments((attestor, name, namespace, workload)): Segments<(String, String, String, String)>,
) -> Result<Json<EntitlementView>, Problem> {
    let agent = agents.id(&attestor, &name)?;
    let id = agent.spiffe_id();
    let known = agents
        .directory
        .admitted()
        .look_up(id, &agents.store)
        .await?;
    let invalid = |error: String| Problem::bad_request("invalid-value", error);
    let workload = QualifiedName {
        namespace: namespace
            .parse::<Namespace>()
            .map_err(|error| invalid(error.to_string()))?,
        name: workload
            .parse::<Name>()
            .map_err(|error| invalid(error.to_string()))?,
    };
    let standing = agents.directory.admitted().standing(id);
    let why_not = match standing {
        Standing::Banned => Some("the agent is banned".to_owned()),
        _ if !known => Some("no such agent has attested, or it was evicted".to_owned()),
        _ => {
            let assignments = agents.directory.current();
            let why_not = assignments.why_not(id, &workload);
            why_not.map(|why| why.to_string())
        }
    };
    Ok(Json(EntitlementView {
        agent_id: agent.to_string(),
        workload: workload.to_string(),
        held: why_not.is_none(),
        why_not,
    }))
}
