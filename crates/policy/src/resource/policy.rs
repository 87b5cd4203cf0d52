//! `Policy`: who may call a service. It belongs to the service's owner.

use identity::{Name, QualifiedName};
use serde_json::{Value, json};

use super::source::read_sources;
use super::{HttpMatch, Kind, ObjectKey, PortName, RuleId, Source, http_match};
use crate::parse::{Node, ParseError, Shape};

/// The rules of one or more ports. Each port of a service has at most one Policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Namespace and name; its targets are Services of the same namespace.
    pub name: QualifiedName,
    /// What it protects; at least one.
    pub targets: Vec<TargetRef>,
    /// Who may call. Empty says: nobody, but for Baseline allows.
    pub allow: Vec<AllowRule>,
    /// Whether Baseline allows hold here too.
    pub inherit_baseline_allow: bool,
}

/// A named port of a Service in the Policy's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetRef {
    /// The Service's name.
    pub service: Name,
    /// One of its ports.
    pub port: PortName,
}

/// A rule that permits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowRule {
    /// Unique in its object.
    pub id: RuleId,
    /// One of these must be the caller; at least one.
    pub from: Vec<Source>,
    /// One of these must match an HTTP request. Empty: everything on the port, TCP too.
    pub to: Vec<HttpMatch>,
}

const SPEC: Shape = Shape {
    what: "the spec of a Policy",
    known: &["targets", "peers", "allow", "inheritBaselineAllow"],
    later: &["enforcement", "candidate", "acknowledgeDenyBypass"],
};

const TARGET: Shape = Shape {
    what: "a target",
    known: &["service", "port"],
    later: &[],
};

const RULE: Shape = Shape {
    what: "an allow rule",
    known: &["id", "from", "to"],
    later: &["when"],
};

const PEER: Shape = Shape {
    what: "an entry of `peers`",
    known: &["mtls"],
    later: &[],
};

const MTLS: Shape = Shape {
    what: "`mtls`",
    known: &["mode"],
    later: &["until"],
};

impl Policy {
    /// The name under which it is stored.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::namespaced(Kind::Policy, &self.name)
    }

    /// The Service that a target means.
    pub fn service_of(&self, target: &TargetRef) -> QualifiedName {
        QualifiedName {
            namespace: self.name.namespace.clone(),
            name: target.service.clone(),
        }
    }

    pub(crate) fn read(name: QualifiedName, spec: &Node<'_>) -> Result<Self, ParseError> {
        let fields = spec.fields(&SPEC)?;
        let targets = fields
            .required("targets")?
            .non_empty_list("name the service and port that this Policy protects")?
            .iter()
            .map(TargetRef::read)
            .collect::<Result<_, _>>()?;
        if let Some(peers) = fields.optional("peers") {
            require_strict(&peers)?;
        }
        let inherit = fields.optional("inheritBaselineAllow");
        Ok(Self {
            name,
            targets,
            allow: read_allow(&fields.required("allow")?)?,
            inherit_baseline_allow: inherit.map_or(Ok(true), |at| at.boolean())?,
        })
    }

    pub(crate) fn spec(&self) -> Value {
        let target = |target: &TargetRef| json!({"service": target.service.to_string(), "port": target.port.to_string()});
        let mut spec = json!({
            "targets": self.targets.iter().map(target).collect::<Vec<_>>(),
            "peers": [{"mtls": {"mode": "strict"}}],
            "allow": self.allow.iter().map(AllowRule::to_json).collect::<Vec<_>>(),
        });
        if !self.inherit_baseline_allow {
            spec["inheritBaselineAllow"] = json!(false);
        }
        spec
    }
}

impl TargetRef {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&TARGET)?;
        Ok(Self {
            service: fields.required("service")?.parsed()?,
            port: fields.required("port")?.parsed()?,
        })
    }
}

impl AllowRule {
    fn read(node: &Node<'_>) -> Result<Self, ParseError> {
        let fields = node.fields(&RULE)?;
        Ok(Self {
            id: fields.required("id")?.parsed()?,
            from: read_sources(&fields.required("from")?)?,
            to: http_match::read_to(&fields)?,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let mut rule = json!({
            "id": self.id.to_string(),
            "from": self.from.iter().map(Source::to_json).collect::<Vec<_>>(),
        });
        if !self.to.is_empty() {
            rule["to"] = http_match::to_json(&self.to);
        }
        rule
    }
}

pub(super) fn read_allow(node: &Node<'_>) -> Result<Vec<AllowRule>, ParseError> {
    node.list()?.iter().map(AllowRule::read).collect()
}

/// Strict is the only mode there is yet; written out or left out it means the same.
fn require_strict(peers: &Node<'_>) -> Result<(), ParseError> {
    let entries =
        peers.non_empty_list("write `peers: [{mtls: {mode: strict}}]`, or leave it out")?;
    for (index, entry) in entries.iter().enumerate() {
        let mtls = entry.fields(&PEER)?.required("mtls")?.fields(&MTLS)?;
        let mode = mtls.required("mode")?;
        match mode.text()? {
            "strict" if index == 0 => {}
            "strict" => return Err(entry.duplicate("`peers` has one mtls entry")),
            "permissive" => {
                let refusal =
                    mode.not_yet("`mode: permissive` is not yet supported: every port is strict");
                return Err(refusal.suggest("strict"));
            }
            _ => return Err(mode.invalid("`mode` must be strict").suggest("strict")),
        }
    }
    Ok(())
}
