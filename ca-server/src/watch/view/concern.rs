//! Which objects concern an agent: its workloads' own services and ways in and out, what they asked
//! for by name, and wherever Routes may carry their calls. Nothing else of the mesh is shown.

use std::collections::BTreeSet;

use identity::{QualifiedName, SpiffeId};
use policy::resource::{Baseline, External, Gateway, Kind, ObjectKey, Resource, Scope};

use super::{Subscriptions, service_key};
use crate::issue::Assignments;

/// Decides for one agent and one revision.
pub(super) struct Concern<'a> {
    assignments: &'a Assignments,
    workloads: BTreeSet<&'a QualifiedName>,
    identities: Vec<SpiffeId>,
    hosted: BTreeSet<QualifiedName>,
    /// What callers say: Routes hold for these.
    named: BTreeSet<QualifiedName>,
    /// Where their calls may go.
    callable: BTreeSet<QualifiedName>,
}

impl<'a> Concern<'a> {
    /// Also says which names were asked for in vain.
    pub(super) fn of(
        assignments: &'a Assignments,
        agent: &SpiffeId,
        asked: &Subscriptions,
    ) -> (Self, Vec<String>) {
        let snapshot = assignments.snapshot();
        let workloads = assignments.workloads_of(agent);
        let identities = workloads
            .iter()
            .filter_map(|name| snapshot.identity_of(name));
        let mut concern = Self {
            assignments,
            identities: identities.collect(),
            workloads,
            hosted: assignments.services_of(agent),
            named: BTreeSet::new(),
            callable: BTreeSet::new(),
        };
        let exists = |key: &ObjectKey| snapshot.object(key).is_some();
        let mut unknown = Vec::new();
        for text in asked {
            match service_key(text).filter(exists) {
                Some(key) => concern.named.extend(key.qualified_name()),
                None => unknown.push(text.clone()),
            }
        }
        let objects = snapshot.objects();
        let opened = objects.gateways().filter(|it| concern.opens(it));
        let entered: Vec<_> = opened.flat_map(|it| it.destinations().cloned()).collect();
        concern.named.extend(entered);
        // A backend is called as it is, never by a Route of its own, so one step is all.
        let routes = concern.named.iter().flat_map(|it| concern.routes_of(it));
        let carried = routes.filter_map(|key| match objects.get(key)?.as_ref() {
            Resource::Route(route) => Some(route),
            _ => None,
        });
        let carried: Vec<_> = carried.flat_map(|route| route.destinations()).collect();
        let carried = carried.into_iter();
        concern.callable = carried.chain(concern.named.iter().cloned()).collect();
        (concern, unknown)
    }

    /// All objects that concern the agent.
    pub(super) fn keys(&self) -> BTreeSet<ObjectKey> {
        let service = |name| ObjectKey::namespaced(Kind::Service, name);
        let services = self.hosted.union(&self.callable).map(service);
        let policies = self.hosted.iter().flat_map(|it| self.policies_of(it));
        let routes = self.named.iter().flat_map(|it| self.routes_of(it));
        let mut keys: BTreeSet<_> = services
            .chain(policies.cloned())
            .chain(routes.cloned())
            .collect();
        let objects = self.assignments.snapshot().objects();
        let baselines = objects.baselines().filter(|it| self.covers_baseline(it));
        keys.extend(baselines.map(Baseline::key));
        let gateways = objects.gateways().filter(|it| self.opens(it));
        keys.extend(gateways.map(Gateway::key));
        let externals = objects.externals().filter(|it| self.may_call(it));
        keys.extend(externals.map(External::key));
        keys
    }

    pub(super) fn into_callable(self) -> BTreeSet<QualifiedName> {
        self.callable
    }

    fn policies_of(&self, service: &QualifiedName) -> impl Iterator<Item = &'a ObjectKey> {
        let about = self.assignments.about(service);
        about.filter(|key| key.kind == Kind::Policy)
    }

    fn routes_of(&self, service: &QualifiedName) -> impl Iterator<Item = &'a ObjectKey> {
        let about = self.assignments.about(service);
        about.filter(|key| key.kind == Kind::Route)
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

    fn opens(&self, gateway: &Gateway) -> bool {
        let mut workloads = gateway.workloads.iter();
        workloads.any(|name| self.workloads.contains(name))
    }

    fn may_call(&self, external: &External) -> bool {
        let mut callers = self.identities.iter();
        let policy = self.assignments.snapshot().policy();
        callers.any(|id| policy.names_caller(&external.from, id))
    }
}
