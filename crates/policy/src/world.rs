//! All objects together. Writes are judged on the whole that would result, never one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use identity::{IdTemplate, QualifiedName, SpiffeId, TrustDomain};

use crate::resource::{
    Baseline, External, Gateway, Kind, ObjectKey, Policy, Resource, Route, Service, Workload,
};

mod validate;

pub use validate::{Refusal, RefusalCode};

/// What is fixed for a mesh when its trust domain is made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeshNames {
    /// The mesh's own.
    pub trust_domain: TrustDomain,
    /// How names become SPIFFE IDs.
    pub template: IdTemplate,
    /// DNS names that the CA itself serves; no workload may have one.
    pub ca_dns_names: Vec<String>,
}

/// The objects of a mesh, by name. Cloning shares them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectSet {
    objects: BTreeMap<ObjectKey, Arc<Resource>>,
}

/// One step of a changeset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Create or replace.
    Put(Resource),
    /// Remove.
    Delete(ObjectKey),
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there before.
    Created,
    /// It differed.
    Updated,
    /// It was the same already.
    Unchanged,
    /// It was there, and is gone.
    Deleted,
    /// It was not there to be deleted.
    Absent,
}

impl MeshNames {
    /// Names of a mesh whose CA serves no DNS name.
    pub fn new(trust_domain: TrustDomain, template: IdTemplate) -> Self {
        Self {
            trust_domain,
            template,
            ca_dns_names: Vec::new(),
        }
    }

    /// With the DNS names that the CA serves.
    #[must_use]
    pub fn with_ca_dns_names(mut self, names: Vec<String>) -> Self {
        self.ca_dns_names = names;
        self
    }

    /// The ID that the template gives to a name.
    pub fn id(&self, name: &QualifiedName) -> SpiffeId {
        self.template.id(&self.trust_domain, name)
    }
}

impl ObjectSet {
    /// No objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one change, without judging the result: that is [`ObjectSet::validate`]'s.
    pub fn apply(&mut self, change: Change) -> Outcome {
        match change {
            Change::Put(resource) => match self
                .objects
                .insert(resource.key(), Arc::new(resource.clone()))
            {
                None => Outcome::Created,
                Some(before) if *before == resource => Outcome::Unchanged,
                Some(_) => Outcome::Updated,
            },
            Change::Delete(key) => match self.objects.remove(&key) {
                Some(_) => Outcome::Deleted,
                None => Outcome::Absent,
            },
        }
    }

    /// The object of this name.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Resource>> {
        self.objects.get(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All of them, ordered by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<Resource>)> {
        self.objects.iter()
    }

    /// The registry's entries.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.objects.values().filter_map(|object| match &**object {
            Resource::Workload(workload) => Some(workload),
            _ => None,
        })
    }

    /// The callable names.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.objects.values().filter_map(|object| match &**object {
            Resource::Service(service) => Some(service),
            _ => None,
        })
    }

    /// The owners' rules.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.objects.values().filter_map(|object| match &**object {
            Resource::Policy(policy) => Some(policy),
            _ => None,
        })
    }

    /// The administrators' rules.
    pub fn baselines(&self) -> impl Iterator<Item = &Baseline> {
        self.objects.values().filter_map(|object| match &**object {
            Resource::Baseline(baseline) => Some(baseline),
            _ => None,
        })
    }

    /// How calls are carried.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.objects.values().filter_map(|object| match &**object {
            Resource::Route(route) => Some(route),
            _ => None,
        })
    }

    /// Ways in.
    pub fn gateways(&self) -> impl Iterator<Item = &Gateway> {
        self.objects.values().filter_map(|object| match &**object {
            Resource::Gateway(gateway) => Some(gateway),
            _ => None,
        })
    }

    /// Ways out.
    pub fn externals(&self) -> impl Iterator<Item = &External> {
        self.objects.values().filter_map(|object| match &**object {
            Resource::External(external) => Some(external),
            _ => None,
        })
    }

    /// The Service of this name.
    pub fn service(&self, name: &QualifiedName) -> Option<&Service> {
        match &**self.get(&ObjectKey::namespaced(Kind::Service, name))? {
            Resource::Service(service) => Some(service),
            _ => None,
        }
    }

    /// Registered IDs that do not come from the template. They travel with every snapshot, so
    /// that `workload:` and `namespace:` cover them where the registry itself is not known.
    pub fn custom_identities(&self) -> Vec<(QualifiedName, SpiffeId)> {
        let custom =
            |workload: &Workload| Some((workload.name.clone(), workload.spiffe_id.clone()?));
        self.workloads().filter_map(custom).collect()
    }
}

impl FromIterator<Resource> for ObjectSet {
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Self {
        let objects = resources
            .into_iter()
            .map(|resource| (resource.key(), Arc::new(resource)));
        Self {
            objects: objects.collect(),
        }
    }
}

impl FromIterator<Arc<Resource>> for ObjectSet {
    fn from_iter<I: IntoIterator<Item = Arc<Resource>>>(resources: I) -> Self {
        let objects = resources
            .into_iter()
            .map(|resource| (resource.key(), resource));
        Self {
            objects: objects.collect(),
        }
    }
}
