//! Which agent may hold which identity, and what is written about which Service: what issuing,
//! watching and announcing ask, without a scan of all objects.
//!
//! Invariant: derived from one state of the registry and from nothing else. The next state's is
//! made of what differs, so that a change costs the same however many workloads there are.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use identity::{QualifiedName, SpiffeId};
use imbl::OrdSet;
use policy::resource::{Resource, Workload};
use policy::{Kind, ObjectKey, ObjectSet};

use crate::registry::{Registry, RegistrySnapshot};

/// Answers for the registry's present state; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    registry: Registry,
    known: Arc<ArcSwap<Assignments>>,
}

/// Immutable.
#[derive(Debug)]
pub(crate) struct Assignments {
    snapshot: Arc<RegistrySnapshot>,
    custom: Arc<CustomIdentities>,
    by_agent: Index<SpiffeId, QualifiedName>,
    services_of: Index<QualifiedName, QualifiedName>,
    about: Index<QualifiedName, ObjectKey>,
}

/// The registered IDs that do not come from the template.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CustomIdentities {
    in_order: Vec<(QualifiedName, SpiffeId)>,
    owners: HashMap<SpiffeId, QualifiedName>,
}

/// Some values for each key; cloning shares them.
type Index<K, V> = imbl::HashMap<K, OrdSet<V>>;

impl Directory {
    pub(crate) fn new(registry: Registry) -> Self {
        let first = Assignments::of(&registry.snapshot());
        Self {
            registry,
            known: Arc::new(ArcSwap::from_pointee(first)),
        }
    }

    /// Never older than the last committed write.
    pub(crate) fn current(&self) -> Arc<Assignments> {
        let snapshot = self.registry.snapshot();
        let known = self.known.load();
        if Arc::ptr_eq(&known.snapshot, &snapshot) {
            return Arc::clone(&known);
        }
        let fresh = Arc::new(known.followed_by(&snapshot));
        self.known.store(Arc::clone(&fresh));
        fresh
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Assignments {
    pub(crate) fn of(snapshot: &Arc<RegistrySnapshot>) -> Self {
        let mut assignments = Self {
            snapshot: Arc::clone(snapshot),
            custom: Arc::new(CustomIdentities::of(snapshot)),
            by_agent: Index::new(),
            services_of: Index::new(),
            about: Index::new(),
        };
        assignments.follow(&ObjectSet::new());
        assignments
    }

    fn followed_by(&self, snapshot: &Arc<RegistrySnapshot>) -> Self {
        let mut next = Self {
            snapshot: Arc::clone(snapshot),
            custom: Arc::clone(&self.custom),
            by_agent: self.by_agent.clone(),
            services_of: self.services_of.clone(),
            about: self.about.clone(),
        };
        let custom = CustomIdentities::of(snapshot);
        if custom != *self.custom {
            next.custom = Arc::new(custom);
        }
        next.follow(self.snapshot.objects());
        next
    }

    fn follow(&mut self, before: &ObjectSet) {
        let snapshot = Arc::clone(&self.snapshot);
        for changed in before.changes_to(snapshot.objects()) {
            if let Some(resource) = changed.before {
                self.forget(resource);
            }
            if let Some(resource) = changed.after {
                self.learn(resource);
            }
        }
    }

    fn learn(&mut self, resource: &Resource) {
        match resource {
            Resource::Workload(workload) => {
                for agent in &workload.agents {
                    insert(&mut self.by_agent, agent, &workload.name);
                }
            }
            Resource::Service(service) => {
                for workload in &service.workloads {
                    insert(&mut self.services_of, workload, &service.name);
                }
            }
            _ => {
                for service in subjects(resource) {
                    insert(&mut self.about, &service, &resource.key());
                }
            }
        }
    }

    fn forget(&mut self, resource: &Resource) {
        match resource {
            Resource::Workload(workload) => {
                for agent in &workload.agents {
                    remove(&mut self.by_agent, agent, &workload.name);
                }
            }
            Resource::Service(service) => {
                for workload in &service.workloads {
                    remove(&mut self.services_of, workload, &service.name);
                }
            }
            _ => {
                for service in subjects(resource) {
                    remove(&mut self.about, &service, &resource.key());
                }
            }
        }
    }

    pub(crate) fn snapshot(&self) -> &Arc<RegistrySnapshot> {
        &self.snapshot
    }

    /// The entry of this identity, if it names the agent.
    pub(crate) fn assigned(&self, id: &SpiffeId, agent: &SpiffeId) -> Option<&Workload> {
        let by_template = || self.snapshot.id_template().name_of(id);
        let name = match self.custom.owners.get(id) {
            Some(name) => name.clone(),
            None if id.trust_domain() == self.snapshot.trust_domain() => by_template()?,
            None => return None,
        };
        let key = ObjectKey::namespaced(Kind::Workload, &name);
        match self.snapshot.objects().get(&key)?.as_ref() {
            Resource::Workload(entry) => {
                let is_its_own = self.snapshot.identity_of(&name).as_ref() == Some(id);
                (is_its_own && entry.agents.contains(agent)).then_some(entry)
            }
            _ => None,
        }
    }

    pub(crate) fn custom(&self) -> &Arc<CustomIdentities> {
        &self.custom
    }

    /// The Policies and Routes for ports of this Service.
    pub(crate) fn about(&self, service: &QualifiedName) -> impl Iterator<Item = &ObjectKey> {
        self.about.get(service).into_iter().flatten()
    }

    /// The workloads whose entries name the agent, in order.
    pub(crate) fn workloads_of(&self, agent: &SpiffeId) -> impl Iterator<Item = &QualifiedName> {
        self.by_agent.get(agent).into_iter().flatten()
    }

    /// Whether the Service names the workload and the workload's entry names the agent.
    pub(crate) fn may_announce(
        &self,
        agent: &SpiffeId,
        workload: &QualifiedName,
        service: &QualifiedName,
    ) -> bool {
        let held = self
            .by_agent
            .get(agent)
            .is_some_and(|names| names.contains(workload));
        held && self
            .services_of
            .get(workload)
            .is_some_and(|services| services.contains(service))
    }

    /// The Services that workloads of this agent may serve.
    pub(crate) fn services_of(&self, agent: &SpiffeId) -> BTreeSet<QualifiedName> {
        self.workloads_of(agent)
            .filter_map(|workload| self.services_of.get(workload))
            .flatten()
            .cloned()
            .collect()
    }
}

impl CustomIdentities {
    fn of(snapshot: &RegistrySnapshot) -> Self {
        let in_order = snapshot.custom_identities();
        let owners = in_order.iter().cloned().map(|(name, id)| (id, name));
        Self {
            owners: owners.collect(),
            in_order,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(QualifiedName, SpiffeId)> {
        self.in_order.iter()
    }
}

/// The Services that a Policy or a Route is for.
fn subjects(resource: &Resource) -> Vec<QualifiedName> {
    match resource {
        Resource::Policy(policy) => {
            let targets = policy.targets.iter();
            targets.map(|target| policy.service_of(target)).collect()
        }
        Resource::Route(route) => vec![route.target()],
        _ => Vec::new(),
    }
}

fn insert<K, V>(index: &mut Index<K, V>, key: &K, value: &V)
where
    K: Clone + Eq + std::hash::Hash,
    V: Clone + Ord,
{
    index.entry(key.clone()).or_default().insert(value.clone());
}

fn remove<K, V>(index: &mut Index<K, V>, key: &K, value: &V)
where
    K: Clone + Eq + std::hash::Hash,
    V: Clone + Ord,
{
    let Some(values) = index.get_mut(key) else {
        return;
    };
    values.remove(value);
    if values.is_empty() {
        index.remove(key);
    }
}

#[cfg(test)]
mod tests;
