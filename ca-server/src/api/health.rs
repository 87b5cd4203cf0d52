//! Whether the process runs, and whether it can serve. Public, and tells nothing else.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use runtime::Clock;
use serde::Serialize;
use utoipa::ToSchema;

use super::documented::Documented;
use super::problem::Problem;
use crate::horizon::Vitals;
use crate::store::Store;

/// What readiness is made of.
#[derive(Clone, Debug)]
pub(super) struct Checks {
    pub(super) store: Store,
    pub(super) vitals: Vitals,
    pub(super) clock: Clock,
}

pub(super) fn operations(checks: Checks) -> Documented {
    Documented::new()
        .on(&__path_healthz, healthz)
        .on(&__path_readyz, readyz)
        .with(checks)
}

#[derive(Debug, Serialize, ToSchema)]
struct Health {
    /// `ok`; `ending`: it serves, but what it signs with was not renewed in time; `spooling`: the
    /// store is away, and renewals go on.
    status: &'static str,
}

/// The process runs. Public.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, body = Health)))]
async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The store can be read, or does without; the clock is right, and what signs has not ended. Public.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, body = Health)))]
async fn readyz(State(checks): State<Checks>) -> Result<Json<Health>, Problem> {
    let Vitals {
        horizons,
        clock_check,
        standing,
    } = &checks.vitals;
    let intermediate = horizons.own_intermediate();
    if intermediate.has_ended(checks.clock.now()) {
        let detail = "what this replica signs with has ended, and was not renewed";
        return Err(unready("intermediate-ended", detail));
    }
    if clock_check.require().is_err() {
        let detail = "this replica's clock differs from the database's; nothing is signed";
        return Err(unready("clock-off", detail));
    }
    if standing.away().is_some_and(|away| away.renews) {
        return Ok(Json(Health { status: "spooling" }));
    }
    checks.store.head().await?;
    Ok(Json(Health {
        status: if intermediate.near { "ending" } else { "ok" },
    }))
}

fn unready(code: &str, detail: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
}
