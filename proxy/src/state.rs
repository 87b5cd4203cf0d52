//! The configuration that the proxy decides by: one immutable value, swapped whole.
//!
//! A value is either complete or absent; nothing in it is looked up again while a call is
//! decided, so a call never sees half of a change.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use identity::{QualifiedName, SpiffeId};
use policy::{External, Gateway, PolicySnapshot, Protocol, Revision, Route, Traffic};
use tokio::sync::watch;

use crate::balance::Endpoints;
use crate::route::Destination;
use crate::service_port::ServicePort;
use crate::transparent::AddressTable;
use crate::trust::Trust;

/// What the agent last said, compiled.
#[derive(Clone, Debug)]
pub(crate) struct MeshState {
    /// Grows by one with each value; means nothing outside this process.
    pub version: u64,
    /// None until the first configuration: nothing is permitted then.
    pub policy: Option<PolicySnapshot>,
    pub revision: Option<Revision>,
    /// What our workload serves.
    pub served: BTreeMap<ServicePort, Served>,
    /// What our workload may call, by name and by the port that callers say.
    pub targets: BTreeMap<Destination, Arc<Target>>,
    /// Which Service an intercepted address stands for, and what DNS answers.
    pub addresses: Arc<AddressTable>,
    /// Asked for, and not in the mesh.
    pub unknown: BTreeSet<QualifiedName>,
    /// How calls to a port are carried; by the port's Service and name.
    pub routes: BTreeMap<ServicePort, Arc<Route>>,
    /// Ways in that our workload opens.
    pub gateways: Vec<Arc<Gateway>>,
    /// Ways out that our workload may take, by host.
    pub externals: BTreeMap<String, Arc<External>>,
    /// By what peers that are connected already are judged again.
    pub trust: Trust,
}

/// The configuration in force, as one worker sees it: kept until there is a newer one. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub(crate) struct States {
    receiver: watch::Receiver<Arc<MeshState>>,
    kept: Rc<RefCell<Kept>>,
}

#[derive(Debug)]
struct Kept {
    receiver: watch::Receiver<Arc<MeshState>>,
    state: Arc<MeshState>,
}

/// One port that our workload serves: a mesh listener stands in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub protocol: Protocol,
    /// `host:port` of the application on this host.
    pub application: Arc<str>,
    /// The receiver's part: what is in flight, rates, health.
    pub traffic: Traffic,
}

/// One port of a Service, as a caller needs it.
#[derive(Debug)]
pub(crate) struct Target {
    pub name: ServicePort,
    /// The name as text, for records and labels.
    pub label: Arc<str>,
    pub protocol: Protocol,
    /// The identities that may answer.
    pub servers: Arc<BTreeSet<SpiffeId>>,
    pub endpoints: Endpoints,
    /// The caller's part: balancing, breaker, bulkhead, health.
    pub traffic: Traffic,
    /// Whether the mesh has said who its endpoints are, be they none.
    pub announced: bool,
}

impl States {
    pub(crate) fn new(receiver: watch::Receiver<Arc<MeshState>>) -> Self {
        let mut seen = receiver.clone();
        let state = Arc::clone(&seen.borrow_and_update());
        Self {
            receiver,
            kept: Rc::new(RefCell::new(Kept {
                receiver: seen,
                state,
            })),
        }
    }

    /// Never older than what was in force when this was called.
    pub(crate) fn current(&self) -> Arc<MeshState> {
        Arc::clone(&self.kept().state)
    }

    /// The version of [`Self::current`].
    pub(crate) fn version(&self) -> u64 {
        self.kept().state.version
    }

    /// For waiting until a state has something.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<MeshState>> {
        self.receiver.clone()
    }

    fn kept(&self) -> RefMut<'_, Kept> {
        let mut kept = self.kept.borrow_mut();
        // An error means that nothing newer can come.
        if kept.receiver.has_changed().unwrap_or(true) {
            let newer = Arc::clone(&kept.receiver.borrow_and_update());
            kept.state = newer;
        }
        kept
    }
}

impl Served {
    /// The application's port, where its address has one.
    pub(crate) fn application_port(&self) -> Option<u16> {
        self.application.rsplit_once(':')?.1.parse().ok()
    }
}

impl MeshState {
    /// Before the agent has said anything.
    pub(crate) fn empty() -> Self {
        Self {
            version: 0,
            policy: None,
            revision: None,
            served: BTreeMap::new(),
            targets: BTreeMap::new(),
            addresses: Arc::default(),
            unknown: BTreeSet::new(),
            routes: BTreeMap::new(),
            gateways: Vec::new(),
            externals: BTreeMap::new(),
            trust: Trust::default(),
        }
    }

    /// Whether the Service is in this configuration, on whatever port.
    pub(crate) fn knows(&self, service: &QualifiedName) -> bool {
        self.policy
            .as_ref()
            .is_some_and(|policy| policy.service(service).is_some())
    }

    /// The target by its port's name instead of its number.
    pub(crate) fn target_named(&self, name: &ServicePort) -> Option<&Arc<Target>> {
        self.targets.values().find(|target| target.name == *name)
    }
}

/// Whether calls to the port are HTTP in any version.
pub(crate) fn is_http(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => true,
        Protocol::Tcp => false,
    }
}
