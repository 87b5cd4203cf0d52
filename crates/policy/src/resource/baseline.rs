//! `Baseline`: what holds across services. It belongs to the platform's administrators.

use std::collections::BTreeSet;

use identity::{Name, Namespace};
use serde_json::{Value, json};

use super::policy::read_allow;
use super::source::read_sources;
use super::{AllowRule, ObjectKey, PortName, RuleId, Source, texts};
use crate::parse::{Fields, Node, ParseError, Shape};

/// Denials that no Policy can undo, and allows that a Policy inherits unless it declines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// Baselines have no namespace.
    pub name: Name,
    /// Whose services it holds for.
    pub scope: Scope,
    /// Judged before any allow.
    pub deny: Vec<DenyRule>,
    /// Added to those of the target's Policy.
    pub allow: Vec<AllowRule>,
}

/// Which targets a Baseline speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every service.
    Mesh,
    /// Services of these namespaces; at least one.
    Namespaces(BTreeSet<Namespace>),
}

/// A rule that refuses by identity and port only, so that no two readings of a request can
/// open a hole through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyRule {
    /// Unique in its object.
    pub id: RuleId,
    /// One of these must be the caller; at least one.
    pub from: Vec<Source>,
    /// Names of ports; every port when empty.
    pub ports: BTreeSet<PortName>,
}

const SPEC: Shape = Shape {
    what: "the spec of a Baseline",
    known: &["scope", "deny", "allow"],
    later: &["enforcement", "candidate"],
};

const SCOPE: Shape = Shape {
    what: "`scope`",
    known: &["mesh", "namespaces"],
    later: &[],
};

const DENY: Shape = Shape {
    what: "a deny rule",
    known: &["id", "from", "ports"],
    later: &[],
};

impl Baseline {
    /// The name under which it is stored.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::baseline(&self.name)
    }

    pub(crate) fn read(name: Name, spec: &Node<'_>) -> Result<Self, ParseError> {
        let fields = spec.fields(&SPEC)?;
        let scope = Scope::read(&fields.required("scope")?)?;
        let (deny, allow) = (fields.optional("deny"), fields.optional("allow"));
        if deny.is_none() && allow.is_none() {
            return Err(spec.invalid("a Baseline must have `deny` or `allow`"));
        }
        let read_deny = |at: Node<'_>| at.list()?.iter().map(DenyRule::read).collect();
        Ok(Self {
            name,
            scope,
            deny: deny.map_or(Ok(Vec::new()), read_deny)?,
            allow: allow.map_or(Ok(Vec::new()), |at| read_allow(&at))?,
        })
    }

    pub(crate) fn spec(&self) -> Value {
        json!({
            "scope": self.scope.to_json(),
            "deny": self.deny.iter().map(DenyRule::to_json).collect::<Vec<_>>(),
            "allow": self.allow.iter().map(AllowRule::to_json).collect::<Vec<_>>(),
        })
    }
}

impl Scope {
    /// Whether services of this namespace are spoken of.
    pub fn covers(&self, namespace: &Namespace) -> bool {
        match self {
            Self::Mesh => true,
            Self::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }

    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&SCOPE)?;
        match (fields.optional("mesh"), fields.optional("namespaces")) {
            (Some(mesh), None) if mesh.boolean()? => Ok(Self::Mesh),
            (Some(mesh), None) => Err(mesh
                .invalid("`mesh` must be true; for less than the mesh, name namespaces")
                .suggest("namespaces: [shop]")),
            (None, Some(namespaces)) => {
                let list = namespaces.non_empty_list("name a namespace, or write `mesh: true`")?;
                read_set(&list).map(Self::Namespaces)
            }
            _ => Err(node.invalid("`scope` must be either `mesh: true` or `namespaces: […]`")),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Mesh => json!({"mesh": true}),
            Self::Namespaces(namespaces) => json!({"namespaces": texts(namespaces)}),
        }
    }
}

impl DenyRule {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = without_requests(node)?;
        let ports = match fields.optional("ports") {
            Some(ports) => {
                read_set(&ports.non_empty_list("name a port, or leave it out for all")?)?
            }
            None => BTreeSet::new(),
        };
        Ok(Self {
            id: fields.required("id")?.parsed()?,
            from: read_sources(&fields.required("from")?)?,
            ports,
        })
    }

    fn to_json(&self) -> Value {
        let mut rule = json!({
            "id": self.id.to_string(),
            "from": self.from.iter().map(Source::to_json).collect::<Vec<_>>(),
        });
        if !self.ports.is_empty() {
            rule["ports"] = json!(texts(&self.ports));
        }
        rule
    }
}

/// The fields of a deny rule; `to` is refused with the reason, not as a mere unknown word.
fn without_requests<'a>(node: &Node<'a>) -> Result<Fields<'a>, ParseError> {
    node.fields(&DENY).map_err(|error| {
        if error.pointer.ends_with("/to") {
            let rule = "a deny rule names identities and ports only, never requests";
            ParseError {
                message: rule.to_owned(),
                ..error
            }
            .suggest("ports: [http]")
        } else {
            error
        }
    })
}

fn read_set<T>(nodes: &[Node<'_>]) -> Result<BTreeSet<T>, ParseError>
where
    T: std::str::FromStr + Ord,
    T::Err: std::fmt::Display,
{
    let mut set = BTreeSet::new();
    for node in nodes {
        if !set.insert(node.parsed()?) {
            return Err(node.duplicate("this entry is already in the list"));
        }
    }
    Ok(set)
}
