//! From the feed's messages to the state that the proxy decides by. Pure.
//!
//! A configuration that cannot be read whole denies everything, and says why. The listeners and
//! targets of the one before it stay, so that callers are refused and not left without answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use identity::x509::{BundleSet, DenyList, DenyListError};
use identity::{IdTemplate, QualifiedName, SpiffeId};
use policy::{External, Gateway, MeshNames, PolicySnapshot, Port, Revision, Route, Service};
use proto::mesh::v1;

use crate::balance::{Endpoint, Endpoints, Zone};
use crate::route::Destination;
use crate::service_port::ServicePort;
use crate::state::{MeshState, Served, Target};
use crate::transparent::AddressTable;
use crate::trust::Trust;

/// What was heard so far.
#[derive(Debug)]
pub(crate) struct Assembly {
    workload: QualifiedName,
    own: Option<SpiffeId>,
    applications: BTreeMap<ServicePort, String>,
    policy: Option<PolicySnapshot>,
    addresses: Arc<AddressTable>,
    unknown: BTreeSet<QualifiedName>,
    announced: HashMap<QualifiedName, Announced>,
    trust: Trust,
    last: MeshState,
}

#[derive(Debug)]
struct Announced {
    source: String,
    generation: u64,
    endpoints: Vec<v1::Endpoint>,
}

/// A message that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AssemblyError {
    #[error("{field} {value:?} in the agent's message is not one")]
    Field { field: &'static str, value: String },
    #[error("a configuration came before the welcome")]
    NotWelcomed,
    #[error("a configuration without a revision")]
    NoRevision,
    #[error("the deny-list cannot be read, and the one before it stays")]
    DenyList(#[from] DenyListError),
}

impl Assembly {
    pub(crate) fn new(workload: QualifiedName) -> Self {
        Self {
            workload,
            own: None,
            applications: BTreeMap::new(),
            policy: None,
            addresses: Arc::default(),
            unknown: BTreeSet::new(),
            announced: HashMap::new(),
            trust: Trust::default(),
            last: MeshState::empty(),
        }
    }

    /// # Errors
    /// If a name in it is not one.
    pub(crate) fn welcome(&mut self, message: &v1::Welcome) -> Result<(), AssemblyError> {
        let id: SpiffeId = parse("SPIFFE ID", &message.spiffe_id)?;
        let applications = message.applications.iter().map(|it| {
            let name = ServicePort {
                service: qualified(&it.namespace, &it.service)?,
                port: parse("port name", &it.port)?,
            };
            Ok((name, it.address.clone()))
        });
        self.applications = applications.collect::<Result<_, AssemblyError>>()?;
        self.own = Some(id);
        Ok(())
    }

    /// Takes a configuration; one that cannot be read denies. Returns why, if so.
    pub(crate) fn configuration(&mut self, message: &v1::Configuration) -> Option<AssemblyError> {
        // Whatever becomes of the rest: who is on the list is refused.
        let denied = self.deny(message.denied.as_ref());
        match denied.and_then(|()| self.compile(message)) {
            Ok((policy, unknown, addresses)) => {
                self.policy = Some(policy);
                self.unknown = unknown;
                self.addresses = Arc::new(addresses);
                None
            }
            Err(error) => {
                self.policy = self.policy.as_ref().map(|policy| deny(policy.revision()));
                Some(error)
            }
        }
    }

    /// Whom handshakes are to refuse.
    pub(crate) fn denied(&self) -> &DenyList {
        self.trust.denied()
    }

    /// An agent that is too old to know of deny-lists takes none back.
    fn deny(&mut self, message: Option<&v1::DenyList>) -> Result<(), AssemblyError> {
        let Some(list) = message else {
            return Ok(());
        };
        let list = DenyList::parse(&list.identities, &list.serials, &list.authorities)?;
        self.trust.deny(list);
        Ok(())
    }

    /// Takes the bundles in force. Returns whether a root has gone, so that who is connected must be
    /// judged again.
    pub(crate) fn bundles(&mut self, bundles: BundleSet) -> bool {
        self.trust.follow(bundles)
    }

    /// Of the bundle of our own trust domain; 0 without one.
    pub(crate) fn bundle_sequence(&self) -> u64 {
        let own = self.own.as_ref();
        own.map_or(0, |own| self.trust.sequence(own.trust_domain()))
    }

    /// Takes a Service's endpoints. Returns whether they are news.
    ///
    /// # Errors
    /// If its name is not one.
    pub(crate) fn endpoints(
        &mut self,
        message: v1::ServiceEndpoints,
    ) -> Result<bool, AssemblyError> {
        let service = qualified(&message.namespace, &message.service)?;
        let known = self.announced.get(&service);
        if known.is_some_and(|it| it.source == message.source && it.generation > message.generation)
        {
            return Ok(false);
        }
        self.announced.insert(
            service,
            Announced {
                source: message.source,
                generation: message.generation,
                endpoints: message.endpoints,
            },
        );
        Ok(true)
    }

    /// The next state.
    pub(crate) fn state(&mut self) -> MeshState {
        let mut state = MeshState {
            version: self.last.version + 1,
            policy: self.policy.clone(),
            revision: self.policy.as_ref().map(PolicySnapshot::revision),
            served: self.last.served.clone(),
            targets: self.last.targets.clone(),
            addresses: Arc::clone(&self.addresses),
            unknown: self.unknown.clone(),
            routes: self.last.routes.clone(),
            gateways: self.last.gateways.clone(),
            externals: self.last.externals.clone(),
            trust: self.trust.clone(),
        };
        if let Some(policy) = self
            .policy
            .as_ref()
            .filter(|it| it.indeterminate().is_none())
        {
            state.served = self.served(policy);
            state.targets = self.targets(policy);
            state.routes = routes(policy);
            state.gateways = self.gateways(policy);
            state.externals = self.externals(policy);
        }
        self.last = state.clone();
        state
    }

    fn compile(
        &self,
        message: &v1::Configuration,
    ) -> Result<(PolicySnapshot, BTreeSet<QualifiedName>, AddressTable), AssemblyError> {
        let own = self.own.as_ref().ok_or(AssemblyError::NotWelcomed)?;
        let trust_domain = own.trust_domain().clone();
        let revision = message.revision.ok_or(AssemblyError::NoRevision)?;
        let template: IdTemplate = parse("identity template", &message.id_template)?;
        let custom: Vec<(QualifiedName, SpiffeId)> = message
            .custom_identities
            .iter()
            .map(|it| {
                let name = qualified(&it.namespace, &it.name)?;
                Ok((name, parse("SPIFFE ID", &it.spiffe_id)?))
            })
            .collect::<Result<_, AssemblyError>>()?;
        let unknown = message
            .unknown_services
            .iter()
            .map(|text| unknown_service(text))
            .collect::<Result<_, _>>()?;
        let addresses = addresses(&message.objects)?;
        let policy = PolicySnapshot::compile_json(
            Revision {
                epoch: revision.epoch,
                number: revision.number,
            },
            &message.decision_key,
            message.engine_version,
            &MeshNames::new(trust_domain, template),
            message.objects.iter().map(|object| object.json.as_str()),
            &custom,
        );
        Ok((policy, unknown, addresses))
    }

    fn served(&self, policy: &PolicySnapshot) -> BTreeMap<ServicePort, Served> {
        let ours = policy
            .services()
            .filter(|service| service.workloads.contains(&self.workload));
        ours.flat_map(|service| service.ports.iter().map(move |port| (service, port)))
            .map(|(service, port)| {
                let name = service_port(service, port);
                let default = || format!("127.0.0.1:{}", port.app.unwrap_or(port.port));
                let local = self.applications.get(&name);
                let served = Served {
                    protocol: port.protocol,
                    application: local.cloned().unwrap_or_else(default).into(),
                    traffic: port.traffic.clone(),
                };
                (name, served)
            })
            .collect()
    }

    fn targets(&self, policy: &PolicySnapshot) -> BTreeMap<Destination, Arc<Target>> {
        let mut targets = BTreeMap::new();
        for service in policy.services() {
            let servers = policy.expected_servers(&service.name);
            for port in &service.ports {
                let destination = Destination {
                    service: service.name.clone(),
                    port: port.port,
                };
                let name = service_port(service, port);
                let target = Target {
                    label: name.to_string().into(),
                    name,
                    protocol: port.protocol,
                    servers: Arc::clone(&servers),
                    endpoints: self.places(service, port),
                    traffic: port.traffic.clone(),
                    announced: self.announced.contains_key(&service.name),
                };
                targets.insert(destination, Arc::new(target));
            }
        }
        targets
    }

    /// Those that our workload opens.
    fn gateways(&self, policy: &PolicySnapshot) -> Vec<Arc<Gateway>> {
        let ours = policy
            .gateways()
            .filter(|gateway| gateway.workloads.contains(&self.workload));
        ours.cloned().collect()
    }

    /// Those whose `from` names our workload, by host.
    fn externals(&self, policy: &PolicySnapshot) -> BTreeMap<String, Arc<External>> {
        let ours = policy.externals().filter(|external| {
            let own = self.own.as_ref();
            own.is_some_and(|id| policy.names_caller(&external.from, id))
        });
        ours.flat_map(|external| {
            let hosts = external.hosts.iter().cloned();
            hosts.map(|host| (host, Arc::clone(external)))
        })
        .collect()
    }

    /// Static and announced endpoints, each address once.
    fn places(&self, service: &Service, port: &Port) -> Endpoints {
        let fixed = service.endpoints.iter().filter_map(|it| {
            let number = *it.ports.get(&port.name)?;
            Some((it.address.clone(), number, it.zone.as_deref()))
        });
        let announced = self.announced.get(&service.name);
        let announced = announced.iter().flat_map(|it| &it.endpoints);
        let announced = announced.filter_map(|it| {
            let number = *it.ports.get(port.name.as_str())?;
            let zone = Some(it.zone.as_str()).filter(|zone| !zone.is_empty());
            Some((it.address.clone(), u16::try_from(number).ok()?, zone))
        });
        let all: BTreeMap<Endpoint, Option<Zone>> = fixed
            .chain(announced)
            .filter(|(_, port, _)| *port != 0)
            .map(|(host, port, zone)| (Endpoint { host, port }, zone.map(Zone::from)))
            .collect();
        Endpoints::new(all)
    }
}

fn addresses(objects: &[v1::Object]) -> Result<AddressTable, AssemblyError> {
    let mut table = AddressTable::default();
    for object in objects.iter().filter(|it| !it.addresses.is_empty()) {
        let service = qualified(&object.namespace, &object.name)?;
        for text in &object.addresses {
            table.insert(&service, parse("address", text)?);
        }
    }
    Ok(table)
}

fn routes(policy: &PolicySnapshot) -> BTreeMap<ServicePort, Arc<Route>> {
    let named = policy.routes().map(|route| {
        let name = ServicePort {
            service: route.target(),
            port: route.port.clone(),
        };
        (name, Arc::clone(route))
    });
    named.collect()
}

fn service_port(service: &Service, port: &Port) -> ServicePort {
    ServicePort {
        service: service.name.clone(),
        port: port.name.clone(),
    }
}

/// A snapshot that denies: its one object cannot be read.
fn deny(revision: Revision) -> PolicySnapshot {
    let mesh = MeshNames::new(
        "unreadable".parse().expect("the literal is a trust domain"),
        IdTemplate::default(),
    );
    PolicySnapshot::compile_json(revision, &[], policy::ENGINE_VERSION, &mesh, [""], &[])
}

fn qualified(namespace: &str, name: &str) -> Result<QualifiedName, AssemblyError> {
    Ok(QualifiedName {
        namespace: parse("namespace", namespace)?,
        name: parse("name", name)?,
    })
}

/// `name.namespace`.
fn unknown_service(text: &str) -> Result<QualifiedName, AssemblyError> {
    let (name, namespace) = text.split_once('.').unwrap_or((text, ""));
    qualified(namespace, name)
}

fn parse<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, AssemblyError> {
    text.parse().map_err(|_| AssemblyError::Field {
        field,
        value: text.to_owned(),
    })
}

#[cfg(test)]
mod tests;
