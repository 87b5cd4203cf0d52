//! The objects that people write: workloads, services, policies and baselines, and how traffic
//! between them travels: routes, gateways and externals.
//!
//! A value of these types has been through the parser, so each of its fields is well-formed by
//! itself. What depends on other objects, or on the mesh's names, is judged by
//! [`crate::ObjectSet::validate`]. Nothing here decides who may call whom.

use std::fmt;
use std::str::FromStr;

use identity::{Name, Namespace, QualifiedName};
use serde_json::{Value, json};

mod agents;
mod baseline;
mod external;
mod fraction;
mod gateway;
mod http_match;
mod names;
mod policy;
mod route;
mod service;
mod source;
mod traffic;
mod workload;

pub use agents::{
    AgentSelectors, AgentsOf, Attestor, InvalidSelector, Mismatch, NamedAgents, SelectorName,
    SelectorValue,
};
pub use baseline::{Baseline, DenyRule, Scope};
pub use external::{External, ExternalTls, Roots};
pub use fraction::Fraction;
pub use gateway::{CertificateFiles, Gateway, GatewayListener, GatewayRoute};
pub use http_match::{HeaderName, HeaderValue, HttpMatch, Method};
pub use names::{HEALTH_PORT, InvalidName, PortName, RuleId};
pub use policy::{AllowRule, Policy, TargetRef};
pub use route::{
    Backend, Backoff, Fault, FaultAbort, FaultDelay, GrpcMethod, HeaderChanges, Hedge, Mirror,
    Retry, RetryBudget, RetryMethods, RetryOn, Route, RouteRule, Timeouts,
};
pub use service::{Port, Protocol, Service, StaticEndpoint};
pub use source::Source;
pub use traffic::{Balance, Breaker, Bulkhead, HealthCheck, Rate, RateLimit, SuccessRate, Traffic};
pub use workload::{
    ContainerSelector, KeyType, Selectors, SystemdSelector, UnixSelector, Workload,
};

/// The `apiVersion` of every object.
pub const API_VERSION: &str = "countersign.dev/v1";

/// A kind of object that this version stores and obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An identity, and who may hold it.
    Workload,
    /// A name that callers use, its ports, and the identities that may serve it.
    Service,
    /// Who may call a service; it belongs to the service's owner.
    Policy,
    /// What holds across services; it belongs to the platform's administrators.
    Baseline,
    /// How callers carry calls to a service; it belongs to the service's owner.
    Route,
    /// A way into the mesh.
    Gateway,
    /// A way out of the mesh.
    External,
}

/// A text that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown kind {0:?}; kinds are Workload, Service, Policy, Baseline, Route, Gateway and External"
)]
pub struct KindError(String);

/// Names one object: its kind, its namespace (a Baseline has none) and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// What it is.
    pub kind: Kind,
    /// `None` for a Baseline only.
    pub namespace: Option<Namespace>,
    /// Its `metadata.name`.
    pub name: Name,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// An identity, and who may hold it.
    Workload(Workload),
    /// A callable name.
    Service(Service),
    /// A service owner's rules.
    Policy(Policy),
    /// The administrators' rules.
    Baseline(Baseline),
    /// How calls are carried.
    Route(Route),
    /// A way in.
    Gateway(Gateway),
    /// A way out.
    External(External),
}

impl Kind {
    /// All kinds, in the order in which they are listed to people.
    pub const ALL: [Self; 7] = [
        Self::Workload,
        Self::Service,
        Self::Policy,
        Self::Baseline,
        Self::Route,
        Self::Gateway,
        Self::External,
    ];

    /// The `kind` as written in an object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "Workload",
            Self::Service => "Service",
            Self::Policy => "Policy",
            Self::Baseline => "Baseline",
            Self::Route => "Route",
            Self::Gateway => "Gateway",
            Self::External => "External",
        }
    }

    /// The collection's name in a URL.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Workload => "workloads",
            Self::Service => "services",
            Self::Policy => "policies",
            Self::Baseline => "baselines",
            Self::Route => "routes",
            Self::Gateway => "gateways",
            Self::External => "externals",
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub fn is_namespaced(self) -> bool {
        self != Self::Baseline
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = KindError;

    fn from_str(text: &str) -> Result<Self, KindError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| KindError(text.to_owned()))
    }
}

impl ObjectKey {
    /// The key of an object of any kind but Baseline.
    pub fn namespaced(kind: Kind, name: &QualifiedName) -> Self {
        Self {
            kind,
            namespace: Some(name.namespace.clone()),
            name: name.name.clone(),
        }
    }

    /// The key of a Baseline.
    pub fn baseline(name: &Name) -> Self {
        Self {
            kind: Kind::Baseline,
            namespace: None,
            name: name.clone(),
        }
    }

    /// Namespace and name together, for kinds that have both.
    pub fn qualified_name(&self) -> Option<QualifiedName> {
        self.namespace.as_ref().map(|namespace| QualifiedName {
            namespace: namespace.clone(),
            name: self.name.clone(),
        })
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl Resource {
    /// The name under which this object is stored.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Workload(workload) => ObjectKey::namespaced(Kind::Workload, &workload.name),
            Self::Service(service) => ObjectKey::namespaced(Kind::Service, &service.name),
            Self::Policy(policy) => policy.key(),
            Self::Baseline(baseline) => baseline.key(),
            Self::Route(route) => route.key(),
            Self::Gateway(gateway) => gateway.key(),
            Self::External(external) => external.key(),
        }
    }

    /// The canonical form: what `GET` answers and what is stored and hashed.
    /// Parsing it gives this value back.
    pub fn to_json(&self) -> Value {
        let key = self.key();
        let spec = match self {
            Self::Workload(workload) => workload.spec(),
            Self::Service(service) => service.spec(),
            Self::Policy(policy) => policy.spec(),
            Self::Baseline(baseline) => baseline.spec(),
            Self::Route(route) => route.spec(),
            Self::Gateway(gateway) => gateway.spec(),
            Self::External(external) => external.spec(),
        };
        let metadata = match &key.namespace {
            Some(namespace) => {
                json!({"namespace": namespace.to_string(), "name": key.name.to_string()})
            }
            None => json!({"name": key.name.to_string()}),
        };
        json!({
            "apiVersion": API_VERSION,
            "kind": key.kind.as_str(),
            "metadata": metadata,
            "spec": spec,
        })
    }
}

/// Texts of a list of values, for the canonical form.
fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}
