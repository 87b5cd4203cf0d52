//! Ways into and out of the mesh, as the OpenAPI document describes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::SourceDocument;

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct GatewaySpec {
    /// `namespace/name` of the workloads whose proxies listen.
    pub(in crate::api) workloads: Vec<String>,
    pub(in crate::api) listeners: Vec<ListenerDocument>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct ListenerDocument {
    pub(in crate::api) name: String,
    pub(in crate::api) port: u16,
    pub(in crate::api) hosts: Vec<String>,
    pub(in crate::api) tls: CertificateFilesDocument,
    pub(in crate::api) routes: Vec<GatewayRouteDocument>,
}

/// Absolute paths on the proxy's host.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct CertificateFilesDocument {
    pub(in crate::api) certificate_file: String,
    pub(in crate::api) key_file: String,
}

/// Every request when it states no method, path or header.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct GatewayRouteDocument {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::api) methods: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::api) path: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::api) headers: BTreeMap<String, String>,
    /// `namespace/name`.
    pub(in crate::api) service: String,
    pub(in crate::api) port: String,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct ExternalSpec {
    pub(in crate::api) hosts: Vec<String>,
    pub(in crate::api) port: u16,
    pub(in crate::api) tls: ExternalTlsDocument,
    pub(in crate::api) from: Vec<SourceDocument>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct ExternalTlsDocument {
    /// `originate`.
    pub(in crate::api) mode: String,
    pub(in crate::api) roots: RootsDocument,
}

/// `system`, or a PEM file.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::api) enum RootsDocument {
    Named(String),
    File(RootsFileDocument),
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::api) struct RootsFileDocument {
    pub(in crate::api) file: String,
}
