//! Explain: where the configuration in force has one call go, what it says of it there, and why.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use identity::x509::Denied;
use identity::{QualifiedName, SpiffeId};
use policy::{PortName, Protocol, Question, Request, RequestPath, Target};
use serde::Serialize;

use self::document::{ExplainRequest, ExplanationDocument};
use super::body::JsonBody;
use super::documented::Documented;
use super::problem::Problem;
use crate::registry::{Registry, RegistrySnapshot};

mod document;
mod edges;

pub(super) fn operations(registry: Registry) -> Documented {
    edges::operations()
        .on(&__path_explain, explain)
        .with(registry)
}

/// What is sent: the evaluator's answers, and notes.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    explanation: policy::Explanation,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<policy::RouteExplanation>,
    notes: Vec<String>,
}

/// Who calls, as far as it is known.
struct Caller {
    id: SpiffeId,
    note: Option<String>,
}

/// Says where one call goes and what policy says of it there, and why.
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
    let headers = fields(request.headers);
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
    let denied = snapshot.denials().list();
    let revoked = |id: &SpiffeId| denied.contains(&Denied::Identity(id.clone()));
    let explanation = match revoked(&caller.id) {
        true => snapshot.policy().explain_revoked(&question),
        false => snapshot.policy().explain(&question),
    };
    let servers = snapshot.policy().expected_servers(&service);
    let servers = servers.iter().filter(|id| revoked(id));
    let revoked = servers.map(|id| {
        format!("{id} may not serve {service}: it is revoked; callers refuse it as `revoked`")
    });
    let revoked: Vec<_> = revoked.collect();
    let route = snapshot.policy().explain_route(&question);
    let elsewhere = route
        .as_ref()
        .and_then(|route| leads_elsewhere(route, &explanation.target));
    Ok(Json(Answer {
        explanation,
        route,
        notes: caller
            .note
            .into_iter()
            .chain(elsewhere)
            .chain(revoked)
            .collect(),
    }))
}

/// Header fields, by their names in small letters.
fn fields(headers: BTreeMap<String, String>) -> Vec<(String, String)> {
    let headers = headers.into_iter();
    headers
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect()
}

/// The verdict at `to` is then not the call's.
fn leads_elsewhere(route: &policy::RouteExplanation, to: &str) -> Option<String> {
    let elsewhere = route.backends.iter().any(|it| it.explanation.target != to);
    elsewhere.then(|| {
        let object = &route.object;
        format!("{object} leads elsewhere: `route.verdict` is the call's, `verdict` that of {to}")
    })
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
