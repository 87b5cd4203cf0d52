//! `from` entries: which callers a rule speaks of.

use identity::{Namespace, QualifiedName, SpiffeId, TrustDomain};
use serde_json::{Value, json};

use crate::parse::{Node, ParseError, Shape};

/// One entry of `from`. It names identities, never what a caller says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The workload of this name, registered or not, in our own trust domain or the given one.
    Workload(QualifiedName, Option<TrustDomain>),
    /// Every workload of this namespace.
    Namespace(Namespace, Option<TrustDomain>),
    /// Exactly this ID. Nothing else matches IDs under `/countersign/`.
    Identity(SpiffeId),
    /// IDs whose path continues this one by whole segments.
    Under(SpiffeId),
    /// Every ID of this trust domain.
    TrustDomain(TrustDomain),
    /// Every ID of our own trust domain.
    AnyMtlsPeer,
}

const SHAPE: Shape = Shape {
    what: "an entry of `from`",
    known: &[
        "workload",
        "namespace",
        "identity",
        "under",
        "trustDomain",
        "any",
    ],
    later: &[],
};

const ONE_KEY: &str = "an entry of `from` has exactly one of workload, namespace, identity, under, \
                       trustDomain and any (trustDomain may also stand beside workload or namespace)";

impl Source {
    pub(crate) fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&SHAPE)?;
        let domain = fields
            .optional("trustDomain")
            .map(|at| at.parsed())
            .transpose()?;
        let keys: Vec<&str> = fields.keys().filter(|key| *key != "trustDomain").collect();
        match (keys.as_slice(), domain) {
            (["workload"], domain) => Ok(Self::Workload(
                fields.required("workload")?.parsed()?,
                domain,
            )),
            (["namespace"], domain) => Ok(Self::Namespace(
                fields.required("namespace")?.parsed()?,
                domain,
            )),
            (["identity"], None) => Ok(Self::Identity(fields.required("identity")?.parsed()?)),
            (["under"], None) => under(&fields.required("under")?),
            (["any"], None) => any(&fields.required("any")?),
            ([], Some(domain)) => Ok(Self::TrustDomain(domain)),
            _ => Err(node.invalid(ONE_KEY)),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Workload(name, None) => json!({"workload": name.to_string()}),
            Self::Workload(name, Some(domain)) => {
                json!({"workload": name.to_string(), "trustDomain": domain.as_str()})
            }
            Self::Namespace(name, None) => json!({"namespace": name.to_string()}),
            Self::Namespace(name, Some(domain)) => {
                json!({"namespace": name.to_string(), "trustDomain": domain.as_str()})
            }
            Self::Identity(id) => json!({"identity": id.as_str()}),
            Self::Under(id) => json!({"under": id.as_str()}),
            Self::TrustDomain(domain) => json!({"trustDomain": domain.as_str()}),
            Self::AnyMtlsPeer => json!({"any": "mtls-peer"}),
        }
    }
}

/// A list of sources; an empty one is refused, since leaving out must not carry meaning.
pub(crate) fn read_sources(node: &Node<'_>) -> Result<Vec<Source>, ParseError> {
    node.non_empty_list("name at least one caller; to permit nobody, write `allow: []`")?
        .iter()
        .map(Source::read)
        .collect()
}

fn under(node: &Node<'_>) -> Result<Source, ParseError> {
    let id: SpiffeId = node.parsed()?;
    if id.path().is_empty() {
        let fix = format!("trustDomain: {}", id.trust_domain());
        return Err(node.invalid("`under` needs a path").suggest(fix));
    }
    if id.is_reserved() {
        let rule = "IDs under /countersign/ match only `identity:`";
        return Err(node.invalid(rule).suggest("identity: spiffe://…"));
    }
    Ok(Source::Under(id))
}

fn any(node: &Node<'_>) -> Result<Source, ParseError> {
    match node.text()? {
        "mtls-peer" => Ok(Source::AnyMtlsPeer),
        "unauthenticated" => {
            Err(node.not_yet("`any: unauthenticated` is not yet supported: every port is strict"))
        }
        _ => Err(node
            .invalid("`any` must be mtls-peer")
            .suggest("any: mtls-peer")),
    }
}
