//! Write-time validation of the resulting whole: what one object alone cannot show.
//!
//! All refusals are collected, so that a writer sees them at once. Deleting a Service that a
//! Policy targets, or a Workload that a Service lists, is refused here, on what is left dangling.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::{Changed, MeshNames, ObjectSet};
use crate::resource::{Kind, ObjectKey, Resource};

mod registry;
mod rules;
mod traffic;

/// Why a whole is refused: one place in one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The object.
    pub key: ObjectKey,
    /// Where in it (RFC 6901).
    pub pointer: String,
    /// The rule, stable.
    pub code: RefusalCode,
    /// What is wrong.
    pub message: String,
    /// What to do instead.
    pub suggestion: String,
}

/// Stable codes of [`Refusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalCode {
    /// A Policy targets a service or port that is not there.
    UnknownTarget,
    /// Two Policies, or one twice, target the same port.
    OverlappingTarget,
    /// A Service lists a workload that is not registered.
    UnknownWorkload,
    /// An endpoint names a port that its Service has not.
    UnknownPort,
    /// A rule with `to.http` protects a `tcp` port.
    HttpMatchOnTcp,
    /// An id, name or number that must be unique occurs twice.
    Duplicate,
    /// A valid construct that this version cannot obey.
    NotYetSupported,
    /// An ID of another trust domain, where only our own can stand.
    ForeignTrustDomain,
    /// An ID under `/countersign/`, or that of the trust domain itself.
    ReservedIdentity,
    /// An ID that belongs to another entry of the registry.
    TakenIdentity,
    /// A DNS name that this workload must not have.
    DnsNameNotOwn,
    /// A Route or Gateway names a service or port that is not there.
    UnknownBackend,
    /// A Route or Gateway names a port of another protocol than it needs.
    ProtocolMismatch,
    /// Two Routes for one port, two listeners for one host and port, two Externals for one host.
    Overlapping,
    /// A host that the mesh answers for itself.
    MeshHost,
}

impl RefusalCode {
    /// As it appears in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownTarget => "unknown-target",
            Self::OverlappingTarget => "overlapping-target",
            Self::UnknownWorkload => "unknown-workload",
            Self::UnknownPort => "unknown-port",
            Self::HttpMatchOnTcp => "http-match-on-tcp",
            Self::Duplicate => "duplicate",
            Self::NotYetSupported => "not-yet-supported",
            Self::ForeignTrustDomain => "foreign-trust-domain",
            Self::ReservedIdentity => "reserved-identity",
            Self::TakenIdentity => "taken-identity",
            Self::DnsNameNotOwn => "dns-name-not-own",
            Self::UnknownBackend => "unknown-backend",
            Self::ProtocolMismatch => "protocol-mismatch",
            Self::Overlapping => "overlapping",
            Self::MeshHost => "mesh-host",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            pointer,
            code,
            message,
            suggestion,
        } = self;
        write!(f, "{key}, {pointer}: {message} ({code}); {suggestion}")
    }
}

impl std::error::Error for Refusal {}

impl ObjectSet {
    /// Judges the whole. Refusals come in the order of the objects.
    pub fn validate(&self, mesh: &MeshNames) -> Result<(), Vec<Refusal>> {
        self.judge(self.iter(), mesh)
    }

    /// Judges what follows `before`, which was valid, and says what [`ObjectSet::validate`] would.
    /// A Workload is judged again only if it changed, or may clash with what did.
    pub fn validate_after(&self, before: &Self, mesh: &MeshNames) -> Result<(), Vec<Refusal>> {
        let (mut workloads, mut others) = (BTreeMap::new(), false);
        for Changed { key, after, .. } in before.changes_to(self) {
            others |= key.kind != Kind::Workload || after.is_none();
            let changed = after.filter(|_| key.kind == Kind::Workload);
            workloads.extend(changed.map(|after| (key, after)));
        }
        if others {
            workloads.extend(&self.named);
        }
        let kinds = self.kinds.iter();
        let kinds = kinds.filter(|(kind, _)| others && **kind != Kind::Workload);
        self.judge(
            workloads.into_iter().chain(kinds.flat_map(|(_, it)| it)),
            mesh,
        )
    }

    /// Judges these, and what two objects may not have in common.
    fn judge<'a>(
        &self,
        objects: impl Iterator<Item = (&'a ObjectKey, &'a Arc<Resource>)>,
        mesh: &MeshNames,
    ) -> Result<(), Vec<Refusal>> {
        let mut refusals = Vec::new();
        for (key, object) in objects {
            let mut report = Report {
                key,
                refusals: &mut refusals,
            };
            match &**object {
                Resource::Workload(workload) => {
                    registry::workload(workload, self, mesh, &mut report)
                }
                Resource::Service(service) => registry::service(service, self, &mut report),
                Resource::Policy(policy) => rules::policy(policy, self, mesh, &mut report),
                Resource::Baseline(baseline) => rules::baseline(baseline, mesh, &mut report),
                Resource::Route(route) => traffic::route(route, self, &mut report),
                Resource::Gateway(gateway) => traffic::gateway(gateway, self, &mut report),
                Resource::External(external) => traffic::external(external, mesh, &mut report),
            }
        }
        rules::overlapping_targets(self, &mut refusals);
        registry::taken_identities(self, &mut refusals);
        traffic::overlapping_routes(self, &mut refusals);
        traffic::overlapping_listeners(self, &mut refusals);
        traffic::overlapping_hosts(self, &mut refusals);
        if refusals.is_empty() {
            Ok(())
        } else {
            Err(refusals)
        }
    }
}

/// Collects refusals of one object.
struct Report<'a> {
    key: &'a ObjectKey,
    refusals: &'a mut Vec<Refusal>,
}

impl Report<'_> {
    fn refuse(
        &mut self,
        code: RefusalCode,
        pointer: impl Into<String>,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        self.refusals.push(Refusal {
            key: self.key.clone(),
            pointer: pointer.into(),
            code,
            message: message.into(),
            suggestion: suggestion.into(),
        });
    }

    /// Refuses the second and later of equal values, each at `<pointer of its index>`.
    fn unique<T: Ord>(
        &mut self,
        values: impl IntoIterator<Item = (String, T)>,
        message: impl Fn(&T) -> String,
        suggestion: &str,
    ) {
        let mut seen = std::collections::BTreeSet::new();
        for (pointer, value) in values {
            if seen.contains(&value) {
                self.refuse(RefusalCode::Duplicate, pointer, message(&value), suggestion);
            }
            seen.insert(value);
        }
    }
}

#[cfg(test)]
mod tests;
