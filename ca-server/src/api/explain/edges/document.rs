//! What explaining at the edges is asked and answers, as the OpenAPI document describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::Fields;
use crate::api::explain::document::{JudgedDocument, RouteExplanationDocument, RouteMissDocument};
use crate::api::schema::{ExternalTlsDocument, HttpMatchDocument};

/// A request from outside the mesh.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct EntranceRequest {
    /// That the handshake and the request name.
    #[schema(example = "shop.example.com")]
    pub(super) host: String,
    /// Of the Gateway's listener. 443 when left out.
    pub(super) port: Option<u16>,
    /// GET when left out.
    pub(super) method: Option<String>,
    /// `/` when left out.
    pub(super) path: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

impl Fields for EntranceRequest {
    const FIELDS: &'static [&'static str] = &["host", "port", "method", "path", "headers"];
}

/// What becomes of a request from outside.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EntranceExplanation)]
pub(super) struct EntranceExplanationDocument {
    /// Of all entrances: `allow`, `deny`, or `mixed`.
    verdict: String,
    /// `no-route` where there is no entrance.
    reason: Option<String>,
    message: String,
    /// As it was compared.
    host: String,
    port: u16,
    method: String,
    path: String,
    revision: String,
    /// One for each workload whose proxy listens for the host at the port.
    entrances: Vec<EntranceDocument>,
    notes: Vec<String>,
}

/// A listener of one workload's proxy, and what becomes of the request there. Routes are counted
/// from 1.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Entrance)]
struct EntranceDocument {
    #[schema(example = "Gateway edge/public")]
    object: String,
    listener: String,
    /// In whose name the request goes on.
    workload: String,
    /// On the host of that workload's proxy.
    certificate_file: String,
    key_file: String,
    /// `allow`, `deny`, or `mixed` where it depends on the backend that is drawn.
    verdict: String,
    /// `no-route` or `path-ambiguous`, where the request goes no further than the Gateway.
    reason: Option<String>,
    /// That is followed; left out if none matches.
    route: Option<usize>,
    /// How many the listener has.
    routes: usize,
    /// What of the route fits; left out if it is for every request.
    r#match: Option<HttpMatchDocument>,
    /// Why that route, or why none.
    message: String,
    /// Routes that match too, and come after it.
    others: Vec<usize>,
    /// Routes that would have come before it.
    nearest_misses: Vec<RouteMissDocument>,
    call: Option<GatewayCallDocument>,
}

/// The call that the Gateway's workload makes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayCall)]
struct GatewayCallDocument {
    #[serde(flatten)]
    judged: JudgedDocument,
    /// Left out where the port has no Route.
    route: Option<RouteExplanationDocument>,
}

/// A call to a host outside the mesh.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ExitRequest {
    /// As in `POST /v1/explain`.
    #[schema(example = "shop/checkout")]
    pub(super) from: String,
    #[schema(example = "api.payments.example")]
    pub(super) host: String,
    /// As callers write it behind the host.
    pub(super) port: Option<u16>,
}

impl Fields for ExitRequest {
    const FIELDS: &'static [&'static str] = &["from", "host", "port"];
}

/// What becomes of a call to a host outside.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ExitExplanation)]
pub(super) struct ExitExplanationDocument {
    /// `allow` or `deny`.
    verdict: String,
    /// Only with `deny`: `no-route`, or `indeterminate` where nothing can be decided.
    reason: Option<String>,
    message: String,
    source: String,
    /// As it was compared.
    host: String,
    /// That declares the host.
    #[schema(example = "External shop/payments")]
    object: Option<String>,
    /// Where the host is called.
    port: Option<u16>,
    tls: Option<ExternalTlsDocument>,
    revision: String,
    /// What would have to be different.
    nearest_misses: Vec<ExitMissDocument>,
    notes: Vec<String>,
}

/// A condition of an External that failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExitMiss)]
struct ExitMissDocument {
    object: String,
    /// `host`, `port` or `from`.
    condition: String,
    wanted: String,
    got: String,
}
