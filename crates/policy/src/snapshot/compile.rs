//! Objects to listeners: which rules hold at each (service, port).
//!
//! Refuses a whole that contradicts itself or names what cannot be known, even though writers are
//! refused the same: what is judged by must not depend on who checked before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use identity::{QualifiedName, SpiffeId};

use super::rules::{Caller, CompiledRule, RuleSet};
use crate::decision::{Indeterminate, Rule};
use crate::question::Target;
use crate::resource::{
    AllowRule, Baseline, DenyRule, External, Gateway, ObjectKey, Policy, Port, PortName, Protocol,
    Route, Service, Source,
};
use crate::world::{MeshNames, ObjectSet};

/// A compiled whole.
pub(crate) struct World {
    mesh: MeshNames,
    /// Owner's namespace and name of each registered ID outside the template.
    custom: HashMap<SpiffeId, (Box<str>, Box<str>)>,
    services: BTreeMap<QualifiedName, CompiledService>,
    traffic: Traffic,
}

/// How calls travel, as written. Nothing of it permits anything.
#[derive(Default)]
struct Traffic {
    /// By Service and port.
    routes: BTreeMap<(QualifiedName, PortName), Arc<Route>>,
    gateways: Vec<Arc<Gateway>>,
    externals: Vec<Arc<External>>,
}

struct CompiledService {
    service: Service,
    servers: Arc<BTreeSet<SpiffeId>>,
    listeners: Vec<Listener>,
}

/// What holds at one port of one service.
pub(crate) struct Listener {
    port: PortName,
    pub(crate) protocol: Protocol,
    /// Whether a Policy targets it.
    pub(crate) has_policy: bool,
    pub(crate) deny: RuleSet,
    pub(crate) allow: RuleSet,
}

/// Rules of each object, compiled once and shared by the listeners where they hold.
struct Rules<'a> {
    policies: BTreeMap<(QualifiedName, &'a PortName), OwnRules>,
    baselines: Vec<BaselineRules<'a>>,
}

#[derive(Clone)]
struct OwnRules {
    inherit: bool,
    allow: Vec<Arc<CompiledRule>>,
}

struct BaselineRules<'a> {
    baseline: &'a Baseline,
    deny: Vec<Arc<CompiledRule>>,
    allow: Vec<Arc<CompiledRule>>,
}

impl World {
    pub(super) fn compile(
        mesh: &MeshNames,
        objects: &ObjectSet,
        custom: &[(QualifiedName, SpiffeId)],
    ) -> Result<Self, Indeterminate> {
        let registered = objects.custom_identities();
        let owners = owners_of(mesh, registered.iter().chain(custom))?;
        let rules = Rules::compile(mesh, objects)?;
        let mut world = Self {
            mesh: mesh.clone(),
            custom: HashMap::new(),
            services: BTreeMap::new(),
            traffic: Traffic::of(objects)?,
        };
        let name_pair =
            |name: &QualifiedName| (name.namespace.as_str().into(), name.name.as_str().into());
        world.custom = owners
            .iter()
            .map(|(id, name)| (id.clone(), name_pair(name)))
            .collect();
        let mut custom: BTreeMap<&QualifiedName, Vec<&SpiffeId>> = BTreeMap::new();
        for (id, name) in &owners {
            custom.entry(name).or_default().push(id);
        }
        for service in objects.services() {
            let compiled = world.compile_service(service, &custom, &rules)?;
            world.services.insert(service.name.clone(), compiled);
        }
        Ok(world)
    }

    pub(super) fn listener(&self, target: &Target<'_>) -> Option<&Listener> {
        let listeners = &self.services.get(target.service)?.listeners;
        listeners
            .iter()
            .find(|listener| listener.port == *target.port)
    }

    pub(super) fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(|compiled| &compiled.service)
    }

    pub(super) fn service(&self, name: &QualifiedName) -> Option<&Service> {
        self.services.get(name).map(|compiled| &compiled.service)
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.traffic.routes.values()
    }

    pub(super) fn gateways(&self) -> &[Arc<Gateway>] {
        &self.traffic.gateways
    }

    pub(super) fn externals(&self) -> &[Arc<External>] {
        &self.traffic.externals
    }

    pub(super) fn expected_servers(&self, name: &QualifiedName) -> Arc<BTreeSet<SpiffeId>> {
        match self.services.get(name) {
            Some(compiled) => Arc::clone(&compiled.servers),
            None => Arc::default(),
        }
    }

    pub(crate) fn caller<'a>(&'a self, id: &'a SpiffeId) -> Caller<'a> {
        let is_own = *id.trust_domain() == self.mesh.trust_domain;
        let name = match self.custom.get(id) {
            Some((namespace, name)) => Some((&**namespace, &**name)),
            None if is_own => self.mesh.template.parts_of(id),
            None => None,
        };
        Caller { id, is_own, name }
    }

    fn compile_service(
        &self,
        service: &Service,
        custom: &BTreeMap<&QualifiedName, Vec<&SpiffeId>>,
        rules: &Rules<'_>,
    ) -> Result<CompiledService, Indeterminate> {
        let mut names = BTreeSet::new();
        if let Some(port) = service.ports.iter().find(|port| !names.insert(&port.name)) {
            let message = format!(
                "port {} of Service {} occurs twice",
                port.name, service.name
            );
            return Err(Indeterminate::Contradiction(message.into()));
        }
        let by_template = service.workloads.iter().map(|name| self.mesh.id(name));
        let listed = service.workloads.iter().filter_map(|it| custom.get(it));
        let servers = by_template
            .chain(listed.flatten().map(|id| (*id).clone()))
            .collect();
        let listener = |port| self.compile_listener(service, port, rules);
        Ok(CompiledService {
            service: service.clone(),
            servers: Arc::new(servers),
            listeners: service.ports.iter().map(listener).collect(),
        })
    }

    fn compile_listener(&self, service: &Service, port: &Port, rules: &Rules<'_>) -> Listener {
        let own = rules.policies.get(&(service.name.clone(), &port.name));
        let in_scope = || {
            let covers =
                |rules: &&BaselineRules<'_>| rules.baseline.scope.covers(&service.name.namespace);
            rules.baselines.iter().filter(covers)
        };
        let deny = in_scope()
            .flat_map(|rules| rules.denying(&port.name))
            .collect();
        let mut allow = own.map_or_else(Vec::new, |own| own.allow.clone());
        if own.is_none_or(|own| own.inherit) {
            allow.extend(in_scope().flat_map(|rules| rules.allow.iter().cloned()));
        }
        Listener {
            port: port.name.clone(),
            protocol: port.protocol,
            has_policy: own.is_some(),
            deny: RuleSet::new(deny, &self.mesh, &self.custom),
            allow: RuleSet::new(allow, &self.mesh, &self.custom),
        }
    }
}

impl Traffic {
    fn of(objects: &ObjectSet) -> Result<Self, Indeterminate> {
        let mut routes = BTreeMap::new();
        for route in objects.routes() {
            let at = (route.target(), route.port.clone());
            if routes.insert(at, Arc::new(route.clone())).is_some() {
                let message = format!("{} is for a port that has a Route", route.key());
                return Err(Indeterminate::Contradiction(message.into()));
            }
        }
        Ok(Self {
            routes,
            gateways: objects.gateways().cloned().map(Arc::new).collect(),
            externals: objects.externals().cloned().map(Arc::new).collect(),
        })
    }
}

/// The owner of each custom ID. An ID with two owners, or one that the mesh or the template has
/// given away, makes the whole indeterminate.
fn owners_of<'a>(
    mesh: &MeshNames,
    custom: impl Iterator<Item = &'a (QualifiedName, SpiffeId)>,
) -> Result<BTreeMap<SpiffeId, &'a QualifiedName>, Indeterminate> {
    let mut owners = BTreeMap::new();
    for (name, id) in custom {
        let by_template = mesh.template.name_of(id);
        let foreign = *id.trust_domain() != mesh.trust_domain;
        let taken = by_template.is_some_and(|owner| owner != *name)
            || owners
                .insert(id.clone(), name)
                .is_some_and(|owner| owner != name);
        if foreign || id.is_reserved() || id.path().is_empty() || taken {
            let message = format!("{id} cannot be the identity of workload {name}");
            return Err(Indeterminate::Contradiction(message.into()));
        }
    }
    Ok(owners)
}

impl<'a> Rules<'a> {
    fn compile(mesh: &MeshNames, objects: &'a ObjectSet) -> Result<Self, Indeterminate> {
        let mut policies = BTreeMap::new();
        for policy in objects.policies() {
            let allow = compile_allow(mesh, &policy.key(), &policy.allow)?;
            let inherit = policy.inherit_baseline_allow;
            for target in &policy.targets {
                let at = (policy.service_of(target), &target.port);
                let rules = OwnRules {
                    inherit,
                    allow: allow.clone(),
                };
                if policies.insert(at, rules).is_some() {
                    return Err(overlap(policy, &target.port));
                }
            }
        }
        let baselines = objects
            .baselines()
            .map(|baseline| BaselineRules::compile(mesh, baseline));
        Ok(Self {
            policies,
            baselines: baselines.collect::<Result<_, _>>()?,
        })
    }
}

impl<'a> BaselineRules<'a> {
    fn compile(mesh: &MeshNames, baseline: &'a Baseline) -> Result<Self, Indeterminate> {
        let key = baseline.key();
        let deny = baseline.deny.iter().map(|rule| {
            check_sources(mesh, &key, &rule.from)?;
            Ok(compiled(&key, &rule.id, &rule.from, &[]))
        });
        Ok(Self {
            baseline,
            deny: deny.collect::<Result<_, _>>()?,
            allow: compile_allow(mesh, &key, &baseline.allow)?,
        })
    }

    fn denying(&self, port: &PortName) -> impl Iterator<Item = Arc<CompiledRule>> {
        let holds_at = |rule: &DenyRule| rule.ports.is_empty() || rule.ports.contains(port);
        let rules = self.baseline.deny.iter().zip(&self.deny);
        rules
            .filter(move |(rule, _)| holds_at(rule))
            .map(|(_, compiled)| Arc::clone(compiled))
    }
}

fn compile_allow(
    mesh: &MeshNames,
    key: &ObjectKey,
    rules: &[AllowRule],
) -> Result<Vec<Arc<CompiledRule>>, Indeterminate> {
    let compile = |rule: &AllowRule| {
        check_sources(mesh, key, &rule.from)?;
        Ok(compiled(key, &rule.id, &rule.from, &rule.to))
    };
    rules.iter().map(compile).collect()
}

fn compiled(
    key: &ObjectKey,
    id: &crate::resource::RuleId,
    from: &[Source],
    to: &[crate::resource::HttpMatch],
) -> Arc<CompiledRule> {
    Arc::new(CompiledRule {
        rule: Arc::new(Rule::new(key.clone(), id.clone())),
        from: from.to_vec(),
        to: to.to_vec(),
    })
}

/// A name in a trust domain whose template is not known cannot be judged.
fn check_sources(mesh: &MeshNames, key: &ObjectKey, from: &[Source]) -> Result<(), Indeterminate> {
    for source in from {
        if let Source::Workload(_, Some(domain)) | Source::Namespace(_, Some(domain)) = source
            && *domain != mesh.trust_domain
        {
            let message =
                format!("{key} names a workload of trust domain {domain}, which is not federated");
            return Err(Indeterminate::Unreadable(message.into()));
        }
    }
    Ok(())
}

fn overlap(policy: &Policy, port: &PortName) -> Indeterminate {
    let message = format!(
        "{} targets port {port} of a service that has a policy",
        policy.key()
    );
    Indeterminate::Contradiction(message.into())
}
