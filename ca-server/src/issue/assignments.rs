//! Which agent may hold which identity, derived from one state of the registry and kept until the
//! next: what issuing, watching and announcing ask, without a scan of all entries.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use identity::{QualifiedName, SpiffeId};
use policy::resource::{Resource, Workload};

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
    entries: HashMap<SpiffeId, Arc<Resource>>,
    by_agent: HashMap<SpiffeId, BTreeSet<QualifiedName>>,
    services_of: HashMap<QualifiedName, BTreeSet<QualifiedName>>,
}

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
        let fresh = Arc::new(Assignments::of(&snapshot));
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
            entries: HashMap::new(),
            by_agent: HashMap::new(),
            services_of: HashMap::new(),
            snapshot: Arc::clone(snapshot),
        };
        for object in snapshot.iter() {
            match object.resource.as_ref() {
                Resource::Workload(workload) => {
                    assignments.add_workload(workload, object.resource);
                }
                Resource::Service(service) => {
                    for workload in &service.workloads {
                        let services = assignments.services_of.entry(workload.clone());
                        services.or_default().insert(service.name.clone());
                    }
                }
                Resource::Policy(_)
                | Resource::Baseline(_)
                | Resource::Route(_)
                | Resource::Gateway(_)
                | Resource::External(_) => {}
            }
        }
        assignments
    }

    fn add_workload(&mut self, workload: &Workload, resource: &Arc<Resource>) {
        let Some(id) = self.snapshot.identity_of(&workload.name) else {
            return;
        };
        self.entries.insert(id, Arc::clone(resource));
        for agent in &workload.agents {
            let names = self.by_agent.entry(agent.clone()).or_default();
            names.insert(workload.name.clone());
        }
    }

    pub(crate) fn snapshot(&self) -> &Arc<RegistrySnapshot> {
        &self.snapshot
    }

    /// The entry of this identity, if it names the agent.
    pub(crate) fn assigned(&self, id: &SpiffeId, agent: &SpiffeId) -> Option<&Workload> {
        match self.entries.get(id)?.as_ref() {
            Resource::Workload(entry) if entry.agents.contains(agent) => Some(entry),
            _ => None,
        }
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
