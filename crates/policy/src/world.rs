//! All objects together. Writes are judged on the whole that would result, never one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use identity::{IdTemplate, QualifiedName, SpiffeId, TrustDomain};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

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

/// The objects of a mesh, by name. Cloning shares all of them, and a change copies only the way to
/// what it changes, however many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectSet {
    kinds: BTreeMap<Kind, Objects>,
    /// The Workloads that others may be in the way of: with an ID or DNS names of their own.
    named: Objects,
    count: usize,
}

type Objects = OrdMap<ObjectKey, Arc<Resource>>;

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
            Change::Put(resource) => self.put(&Arc::new(resource)),
            Change::Delete(key) => self.delete(&key),
        }
    }

    fn put(&mut self, resource: &Arc<Resource>) -> Outcome {
        let key = resource.key();
        match has_names(resource) {
            true => self.named.insert(key.clone(), Arc::clone(resource)),
            false => self.named.remove(&key),
        };
        let objects = self.kinds.entry(key.kind).or_default();
        match objects.insert(key, Arc::clone(resource)) {
            None => {
                self.count += 1;
                Outcome::Created
            }
            Some(before) if before == *resource => Outcome::Unchanged,
            Some(_) => Outcome::Updated,
        }
    }

    fn delete(&mut self, key: &ObjectKey) -> Outcome {
        let objects = self.kinds.get_mut(&key.kind);
        if objects.and_then(|objects| objects.remove(key)).is_none() {
            return Outcome::Absent;
        }
        self.kinds.retain(|_, objects| !objects.is_empty());
        self.named.remove(key);
        self.count -= 1;
        Outcome::Deleted
    }

    /// The object of this name.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Resource>> {
        self.kinds.get(&key.kind)?.get(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All of them, ordered by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<Resource>)> {
        self.kinds.values().flatten()
    }

    /// Those of one kind, ordered by namespace and name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&ObjectKey, &Arc<Resource>)> {
        self.kinds.get(&kind).into_iter().flatten()
    }

    /// What is different in `later`, found without a look at what both share.
    pub fn changes_to<'a>(&'a self, later: &'a Self) -> impl Iterator<Item = Changed<'a>> {
        static NONE: LazyLock<Objects> = LazyLock::new(Objects::new);
        let kinds: BTreeSet<_> = self.kinds.keys().chain(later.kinds.keys()).collect();
        kinds.into_iter().flat_map(|kind| {
            let before = self.kinds.get(kind).unwrap_or(&NONE);
            let after = later.kinds.get(kind).unwrap_or(&NONE);
            before.diff(after).map(|it| Changed::of(&it))
        })
    }

    /// The registry's entries.
    pub fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.of_kind(Kind::Workload)
            .filter_map(|(_, object)| match &**object {
                Resource::Workload(workload) => Some(workload),
                _ => None,
            })
    }

    /// The callable names.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.of_kind(Kind::Service)
            .filter_map(|(_, object)| match &**object {
                Resource::Service(service) => Some(service),
                _ => None,
            })
    }

    /// The owners' rules.
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.of_kind(Kind::Policy)
            .filter_map(|(_, object)| match &**object {
                Resource::Policy(policy) => Some(policy),
                _ => None,
            })
    }

    /// The administrators' rules.
    pub fn baselines(&self) -> impl Iterator<Item = &Baseline> {
        self.of_kind(Kind::Baseline)
            .filter_map(|(_, object)| match &**object {
                Resource::Baseline(baseline) => Some(baseline),
                _ => None,
            })
    }

    /// How calls are carried.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.of_kind(Kind::Route)
            .filter_map(|(_, object)| match &**object {
                Resource::Route(route) => Some(route),
                _ => None,
            })
    }

    /// Ways in.
    pub fn gateways(&self) -> impl Iterator<Item = &Gateway> {
        self.of_kind(Kind::Gateway)
            .filter_map(|(_, object)| match &**object {
                Resource::Gateway(gateway) => Some(gateway),
                _ => None,
            })
    }

    /// Ways out.
    pub fn externals(&self) -> impl Iterator<Item = &External> {
        self.of_kind(Kind::External)
            .filter_map(|(_, object)| match &**object {
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
        self.named_workloads().filter_map(custom).collect()
    }

    /// The Workloads with an ID or DNS names of their own.
    fn named_workloads(&self) -> impl Iterator<Item = &Workload> {
        self.named.values().filter_map(workload)
    }
}

/// What one object was and is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed<'a> {
    /// Its name.
    pub key: &'a ObjectKey,
    /// `None`: it was not there.
    pub before: Option<&'a Arc<Resource>>,
    /// `None`: it is gone.
    pub after: Option<&'a Arc<Resource>>,
}

impl<'a> Changed<'a> {
    fn of(difference: &DiffItem<'a, 'a, ObjectKey, Arc<Resource>>) -> Self {
        let (key, before, after) = match *difference {
            DiffItem::Add(key, after) => (key, None, Some(after)),
            DiffItem::Update { old, new } => (new.0, Some(old.1), Some(new.1)),
            DiffItem::Remove(key, before) => (key, Some(before), None),
        };
        Self { key, before, after }
    }
}

fn workload(resource: &Arc<Resource>) -> Option<&Workload> {
    match &**resource {
        Resource::Workload(workload) => Some(workload),
        _ => None,
    }
}

fn has_names(resource: &Arc<Resource>) -> bool {
    workload(resource).is_some_and(|it| it.spiffe_id.is_some() || !it.dns_names.is_empty())
}

impl FromIterator<Resource> for ObjectSet {
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Self {
        resources.into_iter().map(Arc::new).collect()
    }
}

impl FromIterator<Arc<Resource>> for ObjectSet {
    fn from_iter<I: IntoIterator<Item = Arc<Resource>>>(resources: I) -> Self {
        let mut set = Self::new();
        for resource in resources {
            set.put(&resource);
        }
        set
    }
}
