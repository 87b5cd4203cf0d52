//! What one agent may see of one revision, and the difference between two such views: pure
//! functions of the registry, the agent, and the names that its workloads asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use identity::{QualifiedName, SpiffeId};
use policy::Revision;
use policy::resource::{Kind, ObjectKey, Resource, Selectors, UnixSelector, Workload};
use proto::agent::v1 as wire;
use proto::mesh::v1 as mesh;

use self::concern::Concern;
use super::decode::Resume;
use crate::authority::PublishedRoots;
use crate::config::Lifetimes;
use crate::issue::{Assignments, CustomIdentities};
use crate::registry::{PublishedDenials, RegistryObject, ServiceAddresses};

mod concern;

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
    custom: Arc<CustomIdentities>,
    unknown: Vec<String>,
    callable: BTreeSet<QualifiedName>,
    roots: Arc<PublishedRoots>,
    denials: Arc<PublishedDenials>,
}

#[derive(Debug, Clone)]
struct Content {
    revision: Revision,
    resource: Arc<Resource>,
    addresses: Option<ServiceAddresses>,
}

impl Content {
    fn of(object: &RegistryObject<'_>) -> Self {
        Self {
            revision: object.revision,
            resource: Arc::clone(object.resource),
            addresses: object.addresses,
        }
    }
}

impl View {
    pub(super) fn of(
        assignments: &Assignments,
        agent: &SpiffeId,
        asked: &Subscriptions,
        lifetimes: &Lifetimes,
    ) -> Self {
        let snapshot = assignments.snapshot();
        let (concern, unknown) = Concern::of(assignments, agent, asked);
        let objects = concern.keys().into_iter().filter_map(|key| {
            let object = snapshot.object(&key)?;
            Some((key, Content::of(&object)))
        });
        let objects = objects.collect();
        let identities = assignments
            .workloads_of(agent)
            .into_iter()
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
        Self {
            revision: snapshot.revision(),
            id_template: snapshot.id_template().to_string(),
            decision_key: snapshot.decision_key().bytes().to_vec(),
            objects,
            identities,
            custom: Arc::clone(assignments.custom()),
            unknown,
            callable: concern.into_callable(),
            roots: Arc::clone(snapshot.roots()),
            denials: Arc::clone(snapshot.denials()),
        }
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// The lowest policy engine that obeys all of it.
    fn engine_version(&self) -> u32 {
        let needed = self.objects.values();
        let needed = needed.map(|content| content.resource.engine_version());
        let denials = match self.denials.list().is_empty() {
            true => 1,
            false => policy::DENY_LIST_ENGINE,
        };
        needed.max().unwrap_or(1).max(denials)
    }

    /// Also within one revision: what was revoked without the store has none yet.
    pub(super) fn refuses_others_than(&self, before: &Self) -> bool {
        let same = Arc::ptr_eq(&self.denials, &before.denials);
        !same && self.denials.list() != before.denials.list()
    }

    /// Also within one revision: what an agent may hold depends on what was said of it.
    pub(super) fn shows_others_than(&self, before: &Self) -> bool {
        self.identities != before.identities || !self.objects.keys().eq(before.objects.keys())
    }

    /// The Services whose endpoints the agent needs.
    pub(super) fn callable(&self) -> &BTreeSet<QualifiedName> {
        &self.callable
    }

    /// The view whole.
    pub(super) fn snapshot(&self, endpoints: Vec<mesh::ServiceEndpoints>) -> wire::Snapshot {
        wire::Snapshot {
            configuration: Some(mesh::Configuration {
                revision: Some(wire_revision(self.revision)),
                engine_version: self.engine_version(),
                id_template: self.id_template.clone(),
                objects: self.objects.iter().map(wire_object).collect(),
                custom_identities: self.wire_custom(),
                decision_key: self.decision_key.clone(),
                unknown_services: self.unknown.clone(),
                denied: Some(self.denials.wire()),
            }),
            identities: self.identities.clone(),
            bundle: Some(self.roots.wire().clone()),
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
            engine_version: self.engine_version(),
            upserted: upserted.map(wire_object).collect(),
            removed: removed.map(wire_key).collect(),
            identities: (self.identities != before.identities).then(|| wire::AssignedIdentities {
                identities: self.identities.clone(),
            }),
            custom_identities: (self.custom != before.custom).then(|| wire::CustomIdentities {
                identities: self.wire_custom(),
            }),
            bundle: (self.roots.sequence() != before.roots.sequence())
                .then(|| self.roots.wire().clone()),
            unknown_services: (self.unknown != before.unknown).then(|| self.unknown_services()),
            denied: self.denials.since(&before.denials),
        }
    }

    /// Adds what an agent holds for its callers, as it is now, until they say what they ask for:
    /// calls in between must not fail for want of it.
    pub(super) fn keep(&mut self, assignments: &Assignments, resume: &Resume) {
        let snapshot = assignments.snapshot();
        let for_callers = |key: &&ObjectKey| matches!(key.kind, Kind::Service | Kind::Route);
        for key in resume.held.keys().filter(for_callers) {
            let Some(object) = snapshot.object(key) else {
                continue;
            };
            self.objects.insert(key.clone(), Content::of(&object));
            if key.kind == Kind::Service {
                self.callable.extend(key.qualified_name());
            }
        }
    }

    /// What turns what an agent holds into this view.
    pub(super) fn since_resumed(&self, resume: &Resume) -> wire::Delta {
        let is_news = |key: &ObjectKey, revision| resume.held.get(key) != Some(revision);
        let upserted = self.objects.iter();
        let upserted = upserted.filter(|(key, content)| is_news(key, &content.revision));
        let removed = resume.held.keys();
        let removed = removed.filter(|key| !self.objects.contains_key(key));
        wire::Delta {
            from: Some(wire_revision(resume.revision)),
            revision: Some(wire_revision(self.revision)),
            engine_version: self.engine_version(),
            upserted: upserted.map(wire_object).collect(),
            removed: removed.map(wire_key).collect(),
            identities: Some(wire::AssignedIdentities {
                identities: self.identities.clone(),
            }),
            custom_identities: Some(wire::CustomIdentities {
                identities: self.wire_custom(),
            }),
            bundle: Some(self.roots.wire().clone()),
            unknown_services: Some(self.unknown_services()),
            denied: Some(self.denials.whole()),
        }
    }

    fn wire_custom(&self) -> Vec<mesh::CustomIdentity> {
        self.custom.iter().map(custom_identity).collect()
    }

    fn unknown_services(&self) -> wire::UnknownServices {
        wire::UnknownServices {
            services: self.unknown.clone(),
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

fn custom_identity((name, id): &(QualifiedName, SpiffeId)) -> mesh::CustomIdentity {
    mesh::CustomIdentity {
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        spiffe_id: id.to_string(),
    }
}

fn assigned(entry: &Workload, id: &SpiffeId, lifetimes: &Lifetimes) -> wire::AssignedIdentity {
    let unix = entry.selectors.unix.as_ref().map(unix_selectors);
    let more = more_selectors(&entry.selectors);
    wire::AssignedIdentity {
        namespace: entry.name.namespace.to_string(),
        name: entry.name.name.to_string(),
        spiffe_id: id.to_string(),
        unix: unix.filter(|_| more.is_none()),
        selectors: more,
        ttl_seconds: entry.ttl.unwrap_or(lifetimes.workload).as_secs(),
        hint: entry.hint.clone().unwrap_or_default(),
    }
}

fn unix_selectors(unix: &UnixSelector) -> wire::UnixSelectors {
    let sha256 = unix.sha256.map(|digest| digest.to_string());
    wire::UnixSelectors {
        uid: Some(unix.uid),
        gid: unix.gid,
        path: unix.path.clone().unwrap_or_default(),
        sha256: sha256.unwrap_or_default(),
    }
}

/// Only where `unix` alone does not say it all: agents that know nothing else must give such an
/// identity to nobody.
fn more_selectors(selectors: &Selectors) -> Option<wire::Selectors> {
    let Selectors {
        unix,
        systemd,
        container,
    } = selectors;
    if systemd.is_none() && container.is_none() {
        return None;
    }
    let kinds = [
        ("unix", unix.is_some()),
        ("systemd", systemd.is_some()),
        ("container", container.is_some()),
    ];
    let kinds = kinds.into_iter().filter(|(_, stated)| *stated);
    Some(wire::Selectors {
        kinds: kinds.map(|(kind, _)| kind.to_owned()).collect(),
        unix: unix.as_ref().map(unix_selectors),
        systemd: systemd.as_ref().map(|systemd| wire::SystemdSelector {
            unit: systemd.unit.clone(),
        }),
        container: container.as_ref().map(|container| wire::ContainerSelector {
            id: container.id.clone().unwrap_or_default(),
            pod: container.pod.clone().unwrap_or_default(),
        }),
    })
}

#[cfg(test)]
#[path = "view/tests.rs"]
mod tests;
