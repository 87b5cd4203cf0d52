//! Routes, as the OpenAPI document describes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

use super::HttpMatchDocument;

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct RouteSpec {
    pub(in crate::api) service: String,
    pub(in crate::api) port: String,
    pub(in crate::api) rules: Vec<RouteRuleDocument>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct RouteRuleDocument {
    /// Every request when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::api) r#match: Vec<HttpMatchDocument>,
    pub(in crate::api) backends: Vec<BackendDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) timeout: Option<TimeoutDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) retry: Option<RetryDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) hedge: Option<HedgeDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) fault: Option<FaultDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) mirror: Option<MirrorDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) headers: Option<HeaderChangesDocument>,
}

/// What a rule says beside its backends, as far as it applies to a request.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct RuleSettingsDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) timeout: Option<TimeoutDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) retry: Option<RetryDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) hedge: Option<HedgeDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) fault: Option<FaultDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) headers: Option<HeaderChangesDocument>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct BackendDocument {
    /// In the Route's namespace.
    pub(in crate::api) service: String,
    /// 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) weight: Option<u32>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct TimeoutDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) request: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) per_try: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) idle: Option<String>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct RetryDocument {
    pub(in crate::api) limit: u32,
    /// `connect-failure`, `reset`, or a status: `429`, `500` to `599`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::api) on: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) methods: Option<RetryMethodsDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) backoff: Option<BackoffDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) budget: Option<BudgetDocument>,
}

/// `idempotent` (when left out), or gRPC methods.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::api) enum RetryMethodsDocument {
    Named(String),
    Grpc(GrpcMethodsDocument),
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct GrpcMethodsDocument {
    /// `package.Service/Method`.
    pub(in crate::api) grpc: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct BackoffDocument {
    /// `25ms` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) base: Option<String>,
    /// `250ms` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) max: Option<String>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct BudgetDocument {
    /// 0.2 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub(in crate::api) ratio: Option<Number>,
    /// 10 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) min_per_second: Option<u32>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct HedgeDocument {
    pub(in crate::api) after: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) limit: Option<u32>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct FaultDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) delay: Option<DelayDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) abort: Option<AbortDocument>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct DelayDocument {
    #[schema(value_type = f64)]
    pub(in crate::api) percent: Number,
    pub(in crate::api) by: String,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct AbortDocument {
    #[schema(value_type = f64)]
    pub(in crate::api) percent: Number,
    pub(in crate::api) status: u16,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct MirrorDocument {
    pub(in crate::api) service: String,
    /// 100 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub(in crate::api) percent: Option<Number>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct HeaderChangesDocument {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::api) set: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::api) remove: Vec<String>,
}
