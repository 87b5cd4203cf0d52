//! Which objects concern an agent: its workloads' own services and ways in and out, what they asked
//! for by name, and wherever Routes may carry their calls. Nothing else of the mesh is shown.

use std::collections::BTreeSet;

use identity::{QualifiedName, SpiffeId};
use policy::PolicySnapshot;
use policy::resource::{Baseline, External, Gateway, ObjectKey, Policy, Resource, Scope};

use super::{Subscriptions, service_key};
use crate::issue::Assignments;

/// Decides for one agent and one revision.
pub(super) struct Concern<'a> {
    policy: &'a PolicySnapshot,
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
        let workloads: BTreeSet<_> = assignments.workloads_of(agent).collect();
        let identities = workloads
            .iter()
            .filter_map(|name| snapshot.identity_of(name));
        let mut concern = Self {
            policy: snapshot.policy(),
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
        let carried = objects
            .routes()
            .filter(|it| concern.named.contains(&it.target()));
        let carried = carried.flat_map(|route| route.destinations());
        concern.callable = carried.chain(concern.named.iter().cloned()).collect();
        (concern, unknown)
    }

    pub(super) fn covers(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Workload(_) => false,
            Resource::Service(service) => {
                self.hosted.contains(&service.name) || self.callable.contains(&service.name)
            }
            Resource::Policy(policy) => self.covers_policy(policy),
            Resource::Baseline(baseline) => self.covers_baseline(baseline),
            Resource::Route(route) => self.named.contains(&route.target()),
            Resource::Gateway(gateway) => self.opens(gateway),
            Resource::External(external) => self.may_call(external),
        }
    }

    pub(super) fn into_callable(self) -> BTreeSet<QualifiedName> {
        self.callable
    }

    fn covers_policy(&self, policy: &Policy) -> bool {
        let mut targets = policy.targets.iter();
        targets.any(|target| self.hosted.contains(&policy.service_of(target)))
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
        callers.any(|id| self.policy.names_caller(&external.from, id))
    }
}
