//! The objects that people write: workloads, services, policies and baselines.
//!
//! A value of these types has been through the parser, so each of its fields is well-formed by
//! itself. What depends on other objects, or on the mesh's names, is judged by
//! [`crate::ObjectSet::validate`]. Nothing here decides who may call whom.

use std::fmt;
use std::str::FromStr;

use identity::{Name, Namespace, QualifiedName};
use serde_json::{Value, json};

mod baseline;
mod http_match;
mod names;
mod policy;
mod service;
mod source;
mod workload;

pub use baseline::{Baseline, DenyRule, Scope};
pub use http_match::{HeaderName, HeaderValue, HttpMatch, Method};
pub use names::{InvalidName, PortName, RuleId};
pub use policy::{AllowRule, Policy, TargetRef};
pub use service::{Port, Protocol, Service, StaticEndpoint};
pub use source::Source;
pub use workload::{KeyType, Selectors, UnixSelector, Workload};

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
}

/// Why a text names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// The design has this kind; this version does not.
    #[error("kind {0} is not yet supported")]
    NotYetSupported(&'static str),
    /// No such kind.
    #[error("unknown kind {0:?}; kinds are Workload, Service, Policy and Baseline")]
    Unknown(String),
}

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
}

impl Kind {
    /// All kinds, in the order in which they are listed to people.
    pub const ALL: [Self; 4] = [Self::Workload, Self::Service, Self::Policy, Self::Baseline];

    /// The `kind` as written in an object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "Workload",
            Self::Service => "Service",
            Self::Policy => "Policy",
            Self::Baseline => "Baseline",
        }
    }

    /// The collection's name in a URL.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Workload => "workloads",
            Self::Service => "services",
            Self::Policy => "policies",
            Self::Baseline => "baselines",
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
        match text {
            "Route" => Err(KindError::NotYetSupported("Route")),
            "Gateway" => Err(KindError::NotYetSupported("Gateway")),
            "External" => Err(KindError::NotYetSupported("External")),
            _ => Self::ALL
                .into_iter()
                .find(|kind| kind.as_str() == text)
                .ok_or_else(|| KindError::Unknown(text.to_owned())),
        }
    }
}

impl ObjectKey {
    /// The key of a Workload, Service or Policy.
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
