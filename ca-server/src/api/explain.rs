//! Explain: what the configuration in force says of one call, and why.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use identity::{QualifiedName, SpiffeId};
use policy::{PortName, Protocol, Question, Request, RequestPath, Target};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{Fields, JsonBody};
use super::documented::Documented;
use super::problem::Problem;
use crate::registry::{Registry, RegistrySnapshot};

pub(super) fn operations(registry: Registry) -> Documented {
    Documented::new()
        .on(&__path_explain, explain)
        .with(registry)
}

/// One call.
#[derive(Debug, Deserialize, ToSchema)]
struct ExplainRequest {
    /// A workload (`shop/checkout`) or a SPIFFE ID. A workload that is not registered is judged by
    /// the ID that the template gives it, with a note.
    #[schema(example = "shop/checkout")]
    from: String,
    /// `namespace/service:port`.
    #[schema(example = "shop/orders:http")]
    to: String,
    /// Not on a `tcp` port. GET when left out.
    method: Option<String>,
    /// Not on a `tcp` port. `/` when left out.
    path: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// The verdict and its grounds.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Explanation)]
struct ExplanationDocument {
    /// `allow` or `deny`.
    verdict: String,
    /// Stable; only with `deny`.
    reason: Option<String>,
    rule: Option<RuleDocument>,
    message: String,
    source: String,
    target: String,
    method: Option<String>,
    path: Option<String>,
    path_shape: String,
    decision_id: String,
    revision: String,
    evaluator: String,
    nearest_misses: Vec<NearMissDocument>,
    /// What to know about the question itself.
    notes: Vec<String>,
}

/// What is sent: the evaluator's answer, and notes.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    explanation: policy::Explanation,
    notes: Vec<String>,
}

/// Who calls, as far as it is known.
struct Caller {
    id: SpiffeId,
    note: Option<String>,
}

/// A rule, by its object and its id there.
#[derive(Debug, Serialize, ToSchema)]
struct RuleDocument {
    object: String,
    id: String,
}

/// A rule that did not permit, and its first condition that failed.
#[derive(Debug, Serialize, ToSchema)]
struct NearMissDocument {
    rule: RuleDocument,
    condition: String,
    wanted: String,
    got: String,
    held: usize,
    failed: usize,
}

impl Fields for ExplainRequest {
    const FIELDS: &'static [&'static str] = &["from", "to", "method", "path", "headers"];
}

/// Judges one call, and says why.
#[utoipa::path(post, path = "/v1/explain", tag = "explain", request_body = ExplainRequest,
    responses((status = 200, body = ExplanationDocument)))]
async fn explain(
    State(registry): State<Registry>,
    JsonBody(request): JsonBody<ExplainRequest>,
) -> Result<Json<Answer>, Problem> {
    let snapshot = registry.snapshot();
    let caller = caller(&snapshot, &request.from)?;
    let (service, port) = target(&request.to)?;
    let target = Target {
        service: &service,
        port: &port,
    };
    let method = request.method.as_deref().unwrap_or("GET");
    let path = RequestPath::parse(method, request.path.as_deref().unwrap_or("/"));
    let headers: Vec<_> = request
        .headers
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let request = match protocol(&snapshot, &service, &port) {
        Some(Protocol::Tcp) => Request::Connection,
        _ => Request::Http {
            method,
            path: &path,
            headers: &headers,
        },
    };
    let question = Question {
        source: &caller.id,
        target,
        request,
    };
    Ok(Json(Answer {
        explanation: snapshot.policy().explain(&question),
        notes: caller.note.into_iter().collect(),
    }))
}

fn caller(snapshot: &RegistrySnapshot, text: &str) -> Result<Caller, Problem> {
    let invalid = |detail: String| Problem::invalid("invalid-value", detail).at("/from");
    if text.starts_with("spiffe:") {
        let id = text.parse();
        let id = id.map_err(|error: identity::SpiffeIdError| invalid(error.to_string()))?;
        return Ok(Caller { id, note: None });
    }
    let name: QualifiedName = text
        .parse()
        .map_err(|error: identity::QualifiedNameError| invalid(error.to_string()))?;
    if let Some(id) = snapshot.identity_of(&name) {
        return Ok(Caller { id, note: None });
    }
    let id = snapshot.id_template().id(snapshot.trust_domain(), &name);
    let note = format!("there is no Workload {name} at present; judged as {id}");
    Ok(Caller {
        id,
        note: Some(note),
    })
}

fn target(text: &str) -> Result<(QualifiedName, PortName), Problem> {
    let invalid = |detail: String| {
        Problem::invalid("invalid-value", detail)
            .at("/to")
            .suggest("shop/orders:http")
    };
    let (service, port) = text
        .split_once(':')
        .ok_or_else(|| invalid("a target is written namespace/service:port".to_owned()))?;
    let service = service
        .parse()
        .map_err(|error: identity::QualifiedNameError| invalid(error.to_string()))?;
    let port = port
        .parse()
        .map_err(|error: policy::InvalidName| invalid(error.to_string()))?;
    Ok((service, port))
}

fn protocol(
    snapshot: &RegistrySnapshot,
    service: &QualifiedName,
    port: &PortName,
) -> Option<Protocol> {
    Some(snapshot.policy().service(service)?.port(port)?.protocol)
}
