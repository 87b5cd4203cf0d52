//! What one agent may see of one revision, and the difference between two such views: pure
//! functions of the registry, the agent, and the names that its workloads asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use identity::{QualifiedName, SpiffeId};
use policy::resource::{Baseline, Kind, ObjectKey, Policy, Resource, Scope, Workload};
use policy::{ENGINE_VERSION, Revision};
use proto::agent::v1 as wire;
use proto::mesh::v1 as mesh;

use crate::config::Lifetimes;
use crate::issue::Assignments;
use crate::registry::ServiceAddresses;

/// Names as agents write them, `name.namespace`, whether or not there is such a Service.
pub(super) type Subscriptions = BTreeSet<String>;

/// One agent's part of one revision.
#[derive(Debug, Clone)]
pub(super) struct View {
    revision: Revision,
    id_template: String,
    decision_key: Vec<u8>,
    objects: BTreeMap<ObjectKey, Content>,
    identities: Vec<wire::AssignedIdentity>,
    custom: Vec<mesh::CustomIdentity>,
    unknown: Vec<String>,
}

#[derive(Debug, Clone)]
struct Content {
    revision: Revision,
    resource: Arc<Resource>,
    addresses: Option<ServiceAddresses>,
}

impl View {
    pub(super) fn of(
        assignments: &Assignments,
        agent: &SpiffeId,
        asked: &Subscriptions,
        lifetimes: &Lifetimes,
    ) -> Self {
        let snapshot = assignments.snapshot();
        let hosted = assignments.services_of(agent);
        let mut seen = Concern::new(&hosted);
        let unknown = asked
            .iter()
            .filter(|text| !seen.ask_for(text, |key| snapshot.object(key).is_some()))
            .cloned()
            .collect();
        let objects = snapshot
            .iter()
            .filter(|object| seen.covers(object.resource))
            .map(|object| {
                let content = Content {
                    revision: object.revision,
                    resource: Arc::clone(object.resource),
                    addresses: object.addresses,
                };
                (object.key.clone(), content)
            })
            .collect();
        let identities = assignments
            .workloads_of(agent)
            .filter_map(|name| {
                let key = ObjectKey::namespaced(Kind::Workload, name);
                match snapshot.object(&key)?.resource.as_ref() {
                    Resource::Workload(entry) => {
                        Some(assigned(entry, &snapshot.identity_of(name)?, lifetimes))
                    }
                    _ => None,
                }
            })
            .collect();
        let custom = snapshot.custom_identities().into_iter();
        Self {
            revision: snapshot.revision(),
            id_template: snapshot.id_template().to_string(),
            decision_key: snapshot.decision_key().bytes().to_vec(),
            objects,
            identities,
            custom: custom.map(custom_identity).collect(),
            unknown,
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// The view whole.
    pub(super) fn snapshot(
        &self,
        bundle: mesh::Bundle,
        endpoints: Vec<mesh::ServiceEndpoints>,
    ) -> wire::Snapshot {
        wire::Snapshot {
            configuration: Some(mesh::Configuration {
                revision: Some(wire_revision(self.revision)),
                engine_version: ENGINE_VERSION,
                id_template: self.id_template.clone(),
                objects: self.objects.iter().map(wire_object).collect(),
                custom_identities: self.custom.clone(),
                decision_key: self.decision_key.clone(),
                unknown_services: self.unknown.clone(),
            }),
            identities: self.identities.clone(),
            bundle: Some(bundle),
            endpoints,
        }
    }

    /// What turns `before` into this view.
    pub(super) fn since(&self, before: &Self) -> wire::Delta {
        let upserted = self.objects.iter().filter(|(key, content)| {
            before
                .objects
                .get(key)
                .is_none_or(|known| known.revision != content.revision)
        });
        let removed = before
            .objects
            .keys()
            .filter(|key| !self.objects.contains_key(key));
        wire::Delta {
            from: Some(wire_revision(before.revision)),
            revision: Some(wire_revision(self.revision)),
            engine_version: ENGINE_VERSION,
            upserted: upserted.map(wire_object).collect(),
            removed: removed.map(wire_key).collect(),
            identities: (self.identities != before.identities).then(|| wire::AssignedIdentities {
                identities: self.identities.clone(),
            }),
            custom_identities: (self.custom != before.custom).then(|| wire::CustomIdentities {
                identities: self.custom.clone(),
            }),
            bundle: None,
            unknown_services: (self.unknown != before.unknown).then(|| self.unknown_services()),
        }
    }

    /// What turns a view that an agent kept into this one. `before` is that revision without
    /// anything asked for, since nobody knows what the agent had been told of when it was cut off:
    /// what it asks for is sent again, and what it asks for in vain is removed.
    pub(super) fn since_resumed(&self, before: &Self, bundle: mesh::Bundle) -> wire::Delta {
        let mut delta = self.since(before);
        let unknown = self.unknown.iter().filter_map(|text| service_key(text));
        let gone: Vec<_> = unknown.map(|key| wire_key(&key)).collect();
        delta.removed.extend(gone);
        delta.unknown_services = Some(self.unknown_services());
        delta.bundle = Some(bundle);
        delta
    }

    fn unknown_services(&self) -> wire::UnknownServices {
        wire::UnknownServices {
            services: self.unknown.clone(),
        }
    }
}

/// Which objects concern an agent.
struct Concern<'a> {
    hosted: &'a BTreeSet<QualifiedName>,
    asked: BTreeSet<ObjectKey>,
}

impl<'a> Concern<'a> {
    fn new(hosted: &'a BTreeSet<QualifiedName>) -> Self {
        Self {
            hosted,
            asked: BTreeSet::new(),
        }
    }

    /// Whether there is such a Service.
    fn ask_for(&mut self, text: &str, exists: impl Fn(&ObjectKey) -> bool) -> bool {
        match service_key(text).filter(exists) {
            Some(key) => {
                self.asked.insert(key);
                true
            }
            None => false,
        }
    }

    fn covers(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Workload(_) => false,
            Resource::Service(service) => {
                self.hosted.contains(&service.name) || self.asked.contains(&resource.key())
            }
            Resource::Policy(policy) => self.covers_policy(policy),
            Resource::Baseline(baseline) => self.covers_baseline(baseline),
            Resource::Route(_) | Resource::Gateway(_) | Resource::External(_) => false,
        }
    }

    fn covers_policy(&self, policy: &Policy) -> bool {
        policy.targets.iter().any(|target| {
            self.hosted.contains(&QualifiedName {
                namespace: policy.name.namespace.clone(),
                name: target.service.clone(),
            })
        })
    }

    fn covers_baseline(&self, baseline: &Baseline) -> bool {
        match &baseline.scope {
            Scope::Mesh => !self.hosted.is_empty(),
            Scope::Namespaces(namespaces) => self
                .hosted
                .iter()
                .any(|service| namespaces.contains(&service.namespace)),
        }
    }
}

/// The Service that `name.namespace` means, if it can mean one.
pub(super) fn service_named(text: &str) -> Option<QualifiedName> {
    let (name, namespace) = text.split_once('.')?;
    Some(QualifiedName {
        namespace: namespace.parse().ok()?,
        name: name.parse().ok()?,
    })
}

fn service_key(text: &str) -> Option<ObjectKey> {
    service_named(text).map(|name| ObjectKey::namespaced(Kind::Service, &name))
}

pub(super) fn wire_revision(revision: Revision) -> mesh::Revision {
    mesh::Revision {
        epoch: revision.epoch,
        number: revision.number,
    }
}

fn wire_object((key, content): (&ObjectKey, &Content)) -> mesh::Object {
    let addresses = content.addresses.into_iter();
    mesh::Object {
        kind: key.kind.to_string(),
        namespace: namespace_text(key),
        name: key.name.to_string(),
        revision: Some(wire_revision(content.revision)),
        json: content.resource.to_json().to_string(),
        addresses: addresses
            .flat_map(ServiceAddresses::iter)
            .map(|address| address.to_string())
            .collect(),
    }
}

fn wire_key(key: &ObjectKey) -> mesh::ObjectKey {
    mesh::ObjectKey {
        kind: key.kind.to_string(),
        namespace: namespace_text(key),
        name: key.name.to_string(),
    }
}

fn namespace_text(key: &ObjectKey) -> String {
    key.namespace
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn custom_identity((name, id): (QualifiedName, SpiffeId)) -> mesh::CustomIdentity {
    mesh::CustomIdentity {
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        spiffe_id: id.to_string(),
    }
}

fn assigned(entry: &Workload, id: &SpiffeId, lifetimes: &Lifetimes) -> wire::AssignedIdentity {
    wire::AssignedIdentity {
        namespace: entry.name.namespace.to_string(),
        name: entry.name.name.to_string(),
        spiffe_id: id.to_string(),
        unix: entry
            .selectors
            .unix
            .as_ref()
            .map(|unix| wire::UnixSelectors {
                uid: Some(unix.uid),
                gid: unix.gid,
                path: unix.path.clone().unwrap_or_default(),
                sha256: unix
                    .sha256
                    .map(|digest| digest.to_string())
                    .unwrap_or_default(),
            }),
        ttl_seconds: entry.ttl.unwrap_or(lifetimes.workload).as_secs(),
        hint: entry.hint.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "view/tests.rs"]
mod tests;
