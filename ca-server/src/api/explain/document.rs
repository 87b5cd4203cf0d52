//! What `explain` is asked and answers, as the OpenAPI document describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::body::Fields;
use crate::api::schema::{HttpMatchDocument, RuleSettingsDocument};

/// One call.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ExplainRequest {
    /// A workload (`shop/checkout`) or a SPIFFE ID. A workload that is not registered is judged by
    /// the ID that the template gives it, with a note.
    #[schema(example = "shop/checkout")]
    pub(super) from: String,
    /// `namespace/service:port`.
    #[schema(example = "shop/orders:http")]
    pub(super) to: String,
    /// Not on a `tcp` port. GET when left out.
    pub(super) method: Option<String>,
    /// Not on a `tcp` port. `/` when left out.
    pub(super) path: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
}

impl Fields for ExplainRequest {
    const FIELDS: &'static [&'static str] = &["from", "to", "method", "path", "headers"];
}

/// The verdict of policy at `to`, its grounds, and where a Route has the call carried.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Explanation)]
pub(super) struct ExplanationDocument {
    #[serde(flatten)]
    judged: JudgedDocument,
    /// Left out where the port has no Route.
    route: Option<RouteExplanationDocument>,
    /// What to know about the question itself.
    notes: Vec<String>,
}

/// What policy says of a call where it arrives.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Judged)]
pub(super) struct JudgedDocument {
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

/// Where a Route has the call carried, and what policy says there. Rules are counted from 1.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RouteExplanation)]
pub(super) struct RouteExplanationDocument {
    #[schema(example = "Route shop/orders")]
    object: String,
    /// Of the backends that may be drawn: `allow`, `deny`, or `mixed`.
    verdict: String,
    /// That is followed; left out if none matches, so that the Service itself is called.
    rule: Option<usize>,
    /// How many the Route has.
    rules: usize,
    /// The entry of the rule that fits; left out if the rule is for every request.
    r#match: Option<HttpMatchDocument>,
    /// Why that rule.
    message: String,
    /// Rules that match too, and come after it.
    others: Vec<usize>,
    /// Rules that would have come before it.
    nearest_misses: Vec<RouteMissDocument>,
    /// One of them is drawn.
    backends: Vec<RoutedToDocument>,
    mirror: Option<MirroredToDocument>,
    settings: RuleSettingsDocument,
    notes: Vec<String>,
}

/// A rule of a Route, or a route of a Gateway, that does not match, and its first condition that
/// failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RouteMiss)]
pub(super) struct RouteMissDocument {
    rule: usize,
    condition: String,
    wanted: String,
    got: String,
}

/// A backend, and what policy says there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RoutedTo)]
struct RoutedToDocument {
    weight: u32,
    /// Of the requests.
    percent: f64,
    #[serde(flatten)]
    judged: JudgedDocument,
}

/// Where copies go, and what policy says there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MirroredTo)]
struct MirroredToDocument {
    /// Of the requests.
    percent: f64,
    #[serde(flatten)]
    judged: JudgedDocument,
}
