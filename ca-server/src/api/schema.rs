//! The objects as the OpenAPI document describes them. The parser decides what is taken; a claim
//! in the tests holds these descriptions to what the parser writes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

mod edges;
mod route;
mod traffic;

pub(super) use edges::ExternalTlsDocument;
use edges::{ExternalSpec, GatewaySpec};
use route::RouteSpec;
pub(super) use route::RuleSettingsDocument;
use traffic::TrafficDocument;

/// Any object, by its `kind`.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum AnyObject {
    Workload(WorkloadDocument),
    Service(ServiceDocument),
    Policy(PolicyDocument),
    Baseline(BaselineDocument),
    Route(RouteDocument),
    Gateway(GatewayDocument),
    External(ExternalDocument),
}

macro_rules! document {
    ($(#[$doc:meta])* $name:ident, $metadata:ident, $spec:ident) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize, Serialize, ToSchema)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        pub(super) struct $name {
            #[schema(example = "countersign.dev/v1")]
            pub(super) api_version: String,
            pub(super) kind: String,
            pub(super) metadata: $metadata,
            pub(super) spec: $spec,
            /// Which last changed it; in answers. On a write: only if it still is that one.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub(super) revision: Option<String>,
        }
    };
}

document!(
    /// An identity, and which agents may hold it.
    WorkloadDocument, Metadata, WorkloadSpec
);
/// A name that callers use, its ports, and the workloads that may serve it.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ServiceDocument {
    #[schema(example = "countersign.dev/v1")]
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) metadata: Metadata,
    pub(super) spec: ServiceSpec,
    /// Which last changed it; in answers. On a write: only if it still is that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<String>,
    /// In answers; left aside on a write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<ServiceStatusDocument>,
}

/// What the CA says of a Service.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceStatusDocument {
    /// What the mesh's DNS answers for its name: one IPv4 and one IPv6 address, for good.
    pub(super) addresses: Vec<String>,
}
document!(
    /// Who may call a service, by its owner.
    PolicyDocument, Metadata, PolicySpec
);
document!(
    /// Who may call whom everywhere, by the administrators.
    BaselineDocument, BaselineMetadata, BaselineSpec
);

document!(
    /// How callers' proxies carry calls to a service's port.
    RouteDocument, Metadata, RouteSpec
);
document!(
    /// A way into the mesh, which calls with an identity of its own.
    GatewayDocument, Metadata, GatewaySpec
);
document!(
    /// Hosts outside the mesh that some workloads may call.
    ExternalDocument, Metadata, ExternalSpec
);

/// Namespace and name: DNS labels.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A Baseline has no namespace.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BaselineMetadata {
    pub(super) name: String,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct WorkloadSpec {
    /// Instead of the ID that the trust domain's template gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) spiffe_id: Option<String>,
    /// The agents that may hold it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) agents: Vec<NamedAgentsDocument>,
    pub(super) selectors: SelectorsDocument,
    /// Life of its certificates, such as `1h`; at most 24 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ttl: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) dns_names: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
    /// `ec-p256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key_type: Option<String>,
}

/// One agent, or all of an attestor that hold the selectors.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum NamedAgentsDocument {
    /// A SPIFFE ID.
    Id(String),
    Of(AgentsOfDocument),
}

/// Exactly these values, of what the attestor said of an agent when it attested last.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct AgentsOfDocument {
    /// As in the agents' IDs.
    #[schema(example = "k8s")]
    pub(super) attestor: String,
    /// Up to 8, such as `cluster: prod`.
    #[serde(flatten)]
    pub(super) selectors: BTreeMap<String, String>,
}

/// How an agent recognizes the process: at least one of these, and all that are stated.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SelectorsDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unix: Option<UnixDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) systemd: Option<SystemdDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) container: Option<ContainerDocument>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SystemdDocument {
    /// A service or a scope of the system's manager, such as `orders.service`.
    pub(super) unit: String,
}

/// At least one of both.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContainerDocument {
    /// 64 lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// The pod's UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<String>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UnixDocument {
    pub(super) uid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gid: Option<u32>,
    /// Absolute path of its executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    /// Of its executable, in lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceSpec {
    /// `namespace/name` of the workloads that may serve it.
    pub(super) workloads: Vec<String>,
    pub(super) ports: Vec<PortDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) endpoints: Vec<EndpointDocument>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct PortDocument {
    pub(super) name: String,
    pub(super) port: u16,
    /// `http`, `http2`, `grpc` or `tcp`.
    pub(super) protocol: String,
    /// The application's port; `port` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) app: Option<u16>,
    #[serde(flatten)]
    pub(super) traffic: TrafficDocument,
}

/// An address that no agent announces.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointDocument {
    pub(super) address: String,
    /// Mesh-listener port of each named port.
    pub(super) ports: BTreeMap<String, u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) zone: Option<String>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PolicySpec {
    pub(super) targets: Vec<TargetDocument>,
    /// Strict, the only mode of this version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) peers: Vec<PeerDocument>,
    /// An empty list says "nobody".
    pub(super) allow: Vec<AllowRuleDocument>,
    /// True when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inherit_baseline_allow: Option<bool>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetDocument {
    pub(super) service: String,
    pub(super) port: String,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PeerDocument {
    pub(super) mtls: MtlsDocument,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MtlsDocument {
    /// `strict`.
    pub(super) mode: String,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowRuleDocument {
    /// Unique in its object; it appears in every decision.
    pub(super) id: String,
    pub(super) from: Vec<SourceDocument>,
    /// Everything on the port when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<ToDocument>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DenyRuleDocument {
    pub(super) id: String,
    pub(super) from: Vec<SourceDocument>,
    /// Names of ports; all when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ports: Vec<String>,
}

/// Callers: exactly one of the fields, but that `trustDomain` may stand beside `workload` or
/// `namespace`.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct SourceDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) workload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) under: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trust_domain: Option<String>,
    /// `mtls-peer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) any: Option<String>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ToDocument {
    pub(super) http: Vec<HttpMatchDocument>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpMatchDocument {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) methods: Vec<String>,
    /// `/v1/orders/{id}`; `{rest=**}` last stands for one or more segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BaselineSpec {
    pub(super) scope: ScopeDocument,
    #[serde(default)]
    pub(super) deny: Vec<DenyRuleDocument>,
    #[serde(default)]
    pub(super) allow: Vec<AllowRuleDocument>,
}

/// `mesh: true`, or namespaces.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mesh: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) namespaces: Vec<String>,
}
