//! Which agent may hold which identity, and what is written about which Service: what issuing,
//! watching and announcing ask, without a scan of all objects.
//!
//! Invariant: derived from one state of the registry, and of what attestors said of agents. The next
//! state's is made of what differs, so that a change costs the same however many workloads and agents
//! there are. Whether an agent may hold a workload is decided in one place, [`Assignments::holds`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use identity::{QualifiedName, SpiffeId};
use imbl::OrdSet;
use policy::resource::{AgentSelectors, NamedAgents, Resource, Workload};
use policy::{Kind, ObjectKey, ObjectSet};

use super::admitted::{AdmittedAgents, KnownSelectors};
use crate::registry::{Registry, RegistrySnapshot};

mod by_attestor;
mod reason;

use by_attestor::ByAttestor;
pub(crate) use reason::NotHeld;

/// Of an agent of which nothing is said.
static NOTHING: AgentSelectors = AgentSelectors::none();

/// Answers for the registry's present state; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    registry: Registry,
    admitted: AdmittedAgents,
    known: Arc<ArcSwap<Assignments>>,
}

/// Immutable.
#[derive(Debug)]
pub(crate) struct Assignments {
    snapshot: Arc<RegistrySnapshot>,
    selectors: KnownSelectors,
    custom: Arc<CustomIdentities>,
    by_agent: Index<SpiffeId, QualifiedName>,
    by_attestor: ByAttestor,
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
    pub(crate) fn new(registry: Registry, admitted: AdmittedAgents) -> Self {
        let first = Assignments::of(&registry.snapshot(), admitted.selectors());
        Self {
            registry,
            admitted,
            known: Arc::new(ArcSwap::from_pointee(first)),
        }
    }

    /// Never older than the last committed write, and the last proof of an agent.
    pub(crate) fn current(&self) -> Arc<Assignments> {
        let (snapshot, selectors) = (self.registry.snapshot(), self.admitted.selectors());
        let known = self.known.load();
        if Arc::ptr_eq(&known.snapshot, &snapshot) && known.selectors.ptr_eq(&selectors) {
            return Arc::clone(&known);
        }
        let fresh = Arc::new(known.followed_by(&snapshot, selectors));
        self.known.store(Arc::clone(&fresh));
        fresh
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whose selectors count in the assignments.
    pub(crate) fn admitted(&self) -> &AdmittedAgents {
        &self.admitted
    }
}

impl Assignments {
    pub(crate) fn of(snapshot: &Arc<RegistrySnapshot>, selectors: KnownSelectors) -> Self {
        let mut assignments = Self {
            snapshot: Arc::clone(snapshot),
            selectors,
            custom: Arc::new(CustomIdentities::of(snapshot)),
            by_agent: Index::new(),
            by_attestor: ByAttestor::default(),
            services_of: Index::new(),
            about: Index::new(),
        };
        assignments.follow(&ObjectSet::new());
        assignments
    }

    fn followed_by(&self, snapshot: &Arc<RegistrySnapshot>, selectors: KnownSelectors) -> Self {
        let mut next = Self {
            snapshot: Arc::clone(snapshot),
            selectors,
            custom: Arc::clone(&self.custom),
            by_agent: self.by_agent.clone(),
            by_attestor: self.by_attestor.clone(),
            services_of: self.services_of.clone(),
            about: self.about.clone(),
        };
        if Arc::ptr_eq(&self.snapshot, snapshot) {
            return next;
        }
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
                for entry in &workload.agents {
                    match entry {
                        NamedAgents::Id(id) => insert(&mut self.by_agent, id, &workload.name),
                        NamedAgents::Of(of) => self.by_attestor.insert(of, &workload.name),
                    }
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
                for entry in &workload.agents {
                    match entry {
                        NamedAgents::Id(id) => remove(&mut self.by_agent, id, &workload.name),
                        NamedAgents::Of(of) => self.by_attestor.remove(of, &workload.name),
                    }
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

    /// What the agent's attestor said of it.
    pub(crate) fn selectors_of(&self, agent: &SpiffeId) -> &AgentSelectors {
        self.selectors.get(agent).map_or(&NOTHING, |held| held)
    }

    /// Whether the workload's entry names the agent, by its ID or by what it holds: the one place
    /// that says who may have, watch, announce and report what.
    pub(crate) fn holds(&self, agent: &SpiffeId, workload: &QualifiedName) -> bool {
        self.sets_of(agent).any(|set| set.contains(workload))
    }

    /// The entry of this identity, if it names the agent.
    pub(crate) fn assigned(&self, id: &SpiffeId, agent: &SpiffeId) -> Option<&Workload> {
        let entry = self.entry_of(id)?;
        self.holds(agent, &entry.name).then_some(entry)
    }

    /// The entry of this identity, whomever it names.
    fn entry_of(&self, id: &SpiffeId) -> Option<&Workload> {
        let by_template = || self.snapshot.id_template().name_of(id);
        let name = match self.custom.owners.get(id) {
            Some(name) => name.clone(),
            None if id.trust_domain() == self.snapshot.trust_domain() => by_template()?,
            None => return None,
        };
        let is_its_own = self.snapshot.identity_of(&name).as_ref() == Some(id);
        self.entry(&name).filter(|_| is_its_own)
    }

    fn entry(&self, name: &QualifiedName) -> Option<&Workload> {
        let key = ObjectKey::namespaced(Kind::Workload, name);
        match self.snapshot.objects().get(&key)?.as_ref() {
            Resource::Workload(entry) => Some(entry),
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
    pub(crate) fn workloads_of(&self, agent: &SpiffeId) -> BTreeSet<&QualifiedName> {
        self.sets_of(agent).flatten().collect()
    }

    fn sets_of(&self, agent: &SpiffeId) -> impl Iterator<Item = &OrdSet<QualifiedName>> {
        let by_attestor = self.by_attestor.naming(agent, self.selectors_of(agent));
        self.by_agent.get(agent).into_iter().chain(by_attestor)
    }

    /// Whether the Service names the workload and the workload's entry names the agent.
    pub(crate) fn may_announce(
        &self,
        agent: &SpiffeId,
        workload: &QualifiedName,
        service: &QualifiedName,
    ) -> bool {
        let named = self.services_of.get(workload);
        named.is_some_and(|services| services.contains(service)) && self.holds(agent, workload)
    }

    /// The Services that workloads of this agent may serve.
    pub(crate) fn services_of(&self, agent: &SpiffeId) -> BTreeSet<QualifiedName> {
        self.workloads_of(agent)
            .into_iter()
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
