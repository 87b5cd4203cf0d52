//! The traffic settings of a Service's port, as the OpenAPI document describes them.

use serde::{Deserialize, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api) struct TrafficDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) balance: Option<BalanceDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) breaker: Option<BreakerDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) bulkhead: Option<BulkheadDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) rate_limit: Option<RateLimitDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) health: Option<HealthDocument>,
}

/// How callers choose among endpoints.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct BalanceDocument {
    pub(in crate::api) algorithm: AlgorithmDocument,
}

/// `ewma` (when left out), `least-request`, `round-robin`, `random`, or a consistent hash.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::api) enum AlgorithmDocument {
    Named(String),
    Hash(HashDocument),
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct HashDocument {
    pub(in crate::api) hash: HashOfDocument,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct HashOfDocument {
    pub(in crate::api) header: String,
}

/// Ejects endpoints that fail: after so many failures in a row, or too few successes.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct BreakerDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) consecutive_failures: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) success_rate: Option<SuccessRateDocument>,
    /// `10s` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) eject_for: Option<String>,
    /// Share of the endpoints, above 0 and up to 1; 0.5 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub(in crate::api) max_ejected: Option<Number>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct SuccessRateDocument {
    #[schema(value_type = f64)]
    pub(in crate::api) below: Number,
    pub(in crate::api) over: String,
    pub(in crate::api) min_requests: u32,
}

/// How much at once: connections and pending at the caller, in flight at the receiver.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct BulkheadDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) connections: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) pending: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) in_flight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) per_caller: Option<PerCallerDocument>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct PerCallerDocument {
    pub(in crate::api) in_flight: u32,
}

/// Held by each receiving proxy.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct RateLimitDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) requests_per_second: Option<u32>,
    /// As many as come in a second when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) burst: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) per_caller: Option<RateDocument>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct RateDocument {
    pub(in crate::api) requests_per_second: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) burst: Option<u32>,
}

/// Asked through the peer proxy with GET.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct HealthDocument {
    pub(in crate::api) path: String,
    /// `5s` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) every: Option<String>,
    /// `1s` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) timeout: Option<String>,
}
