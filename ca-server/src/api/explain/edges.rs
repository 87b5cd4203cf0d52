//! Explain at the edges of the mesh: what becomes of a request from outside, and of a call to a
//! host outside.

use axum::Json;
use axum::extract::State;
use policy::{Arrival, Departure, RequestPath, is_about_the_way};
use serde::Serialize;

use self::document::{
    EntranceExplanationDocument, EntranceRequest, ExitExplanationDocument, ExitRequest,
};
use super::{caller, fields};
use crate::api::body::JsonBody;
use crate::api::documented::Documented;
use crate::api::problem::Problem;
use crate::registry::Registry;

mod document;

/// Of an `https` URL that names none.
const HTTPS: u16 = 443;

/// What only the proxy's host knows.
const SERVED: &str = "whether the port could be had and the certificate can be shown is in the \
                      status: a Gateway that is not served as it should be has a problem there";

pub(super) fn operations() -> Documented<Registry> {
    Documented::new()
        .on(&__path_explain_entrance, explain_entrance)
        .on(&__path_explain_exit, explain_exit)
}

/// The evaluator's answer, and notes.
#[derive(Debug, Serialize)]
struct Answer<T> {
    #[serde(flatten)]
    explanation: T,
    notes: Vec<String>,
}

/// Says what becomes of a request from outside the mesh, through a Gateway, and why.
#[utoipa::path(post, path = "/v1/explain/gateway", tag = "explain", request_body = EntranceRequest,
    responses((status = 200, body = EntranceExplanationDocument)))]
async fn explain_entrance(
    State(registry): State<Registry>,
    JsonBody(request): JsonBody<EntranceRequest>,
) -> Result<Json<Answer<policy::EntranceExplanation>>, Problem> {
    let snapshot = registry.snapshot();
    let method = request.method.as_deref().unwrap_or("GET");
    let headers = fields(request.headers);
    let arrival = Arrival {
        host: &request.host,
        port: request.port.unwrap_or(HTTPS),
        method,
        path: &RequestPath::parse(method, request.path.as_deref().unwrap_or("/")),
        headers: &headers,
    };
    let explanation = snapshot.policy().explain_entrance(&arrival, |workload| {
        let template = || snapshot.id_template().id(snapshot.trust_domain(), workload);
        snapshot.identity_of(workload).unwrap_or_else(template)
    });
    let dropped = headers.iter().filter(|(name, _)| is_about_the_way(name));
    let dropped = dropped.map(|(name, _)| {
        format!("{name} is dropped: a Gateway takes nobody's word for the way of a request")
    });
    let served = (!explanation.entrances.is_empty()).then(|| SERVED.to_owned());
    let notes = dropped.chain(served).collect();
    Ok(Json(Answer { explanation, notes }))
}

/// Says whether a workload may call a host outside the mesh, by which External, and why.
#[utoipa::path(post, path = "/v1/explain/external", tag = "explain", request_body = ExitRequest,
    responses((status = 200, body = ExitExplanationDocument)))]
async fn explain_exit(
    State(registry): State<Registry>,
    JsonBody(request): JsonBody<ExitRequest>,
) -> Result<Json<Answer<policy::ExitExplanation>>, Problem> {
    let snapshot = registry.snapshot();
    let caller = caller(&snapshot, &request.from)?;
    let explanation = snapshot.policy().explain_exit(&Departure {
        source: &caller.id,
        host: &request.host,
        port: request.port,
    });
    let from = explanation.nearest_misses.iter();
    let is_other = from.clone().any(|it| it.condition == "from");
    let shared = is_other.then(|| {
        "a proxy that was shown the External for another workload of its agent says \
         `policy-denied`, and names it"
            .to_owned()
    });
    let notes = caller.note.into_iter().chain(shared).collect();
    Ok(Json(Answer { explanation, notes }))
}
