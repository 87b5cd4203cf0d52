//! Listeners of Gateways come and go with the configuration: one for each port that they name,
//! with the certificates and routes of each of its hosts.
//!
//! Invariant: what cannot be served (a port in use, a certificate that cannot be read) is told in
//! the status, is tried again, and takes nothing else with it. A port that no Gateway names any
//! more is closed at once, and its connections are asked to leave.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mtls::web::WebCertificate;
use runtime::{Clock, Shutdown};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::gateway::certificates::{Certificates, Kept};
use crate::gateway::{self, Front, HostPlan, Plans};
use crate::granted::Granted;
use crate::sockets::{BindError, SocketName, Sockets};
use crate::state::MeshState;
use crate::status::{GatewayPort, StatusBoard};
use crate::worker::{Open as WayIn, Workers};

/// Files may change at any time, and who has a port may go.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Opens and closes listeners of Gateways.
#[derive(Debug)]
pub(crate) struct Fronts {
    workers: Workers,
    shutdown: Shutdown,
    sockets: Sockets,
    board: StatusBoard,
    followed: Followed,
    /// None where this host opens none.
    grant: Option<config::Gateway>,
    certificates: Option<Certificates>,
    gateways: Vec<Arc<policy::Gateway>>,
    plans: Plans,
    open: BTreeMap<u16, Open>,
    problems: BTreeMap<u16, String>,
    clock: Clock,
}

#[derive(Debug)]
struct Open {
    address: SocketAddr,
    closed: CancellationToken,
    front: Arc<ArcSwap<Front>>,
}

/// The version of the configuration whose Gateways were tried last. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Followed(watch::Sender<u64>);

impl Followed {
    pub(crate) fn new() -> Self {
        Self(watch::channel(0).0)
    }

    /// Whether all that this configuration asks for has been tried.
    pub(crate) fn has_tried(&self, state: &MeshState) -> bool {
        state.gateways.is_empty() || *self.0.borrow() >= state.version
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

impl Fronts {
    pub(crate) fn new(
        workers: Workers,
        shutdown: Shutdown,
        sockets: Sockets,
        board: StatusBoard,
        followed: Followed,
        grant: Option<config::Gateway>,
        clock: Clock,
    ) -> Self {
        let granted = |it: &config::Gateway| Granted::new(&it.certificates, "gateway.certificates");
        Self {
            workers,
            shutdown,
            sockets,
            board,
            followed,
            certificates: grant.as_ref().map(granted).map(Certificates::new),
            grant,
            gateways: Vec::new(),
            plans: Plans::new(),
            open: BTreeMap::new(),
            problems: BTreeMap::new(),
            clock,
        }
    }

    /// Follows the configuration until the proxy drains.
    pub(crate) async fn run(
        mut self,
        mut states: watch::Receiver<Arc<MeshState>>,
    ) -> io::Result<()> {
        let draining = self.shutdown.clone();
        loop {
            let state = Arc::clone(&states.borrow_and_update());
            self.follow(&state);
            tokio::select! {
                () = draining.draining() => return Ok(()),
                changed = states.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(LOOK_EVERY), if !self.gateways.is_empty() => {}
            }
        }
    }

    fn follow(&mut self, state: &MeshState) {
        let changed = self.gateways != state.gateways;
        if changed {
            self.gateways.clone_from(&state.gateways);
            self.plans = gateway::plans(&self.gateways);
            self.close_unwanted();
        }
        let certificates = self.certificates.as_mut();
        let now = self.clock.now();
        let files = gateway::files(&self.plans);
        let renewed = certificates.is_some_and(|it| it.refresh(&files, now));
        if self.grant.is_some() {
            self.open_wanted();
        }
        if changed || renewed {
            self.furnish();
        }
        self.tell(now);
        self.followed.0.send_replace(state.version);
    }

    fn close_unwanted(&mut self) {
        let (sockets, plans) = (&self.sockets, &self.plans);
        self.open.retain(|port, open| {
            let stays = plans.contains_key(port);
            if !stays {
                open.closed.cancel();
                // Open connections get nowhere any more.
                open.front.store(Arc::default());
                sockets.close(&SocketName::Gateway(*port));
                tracing::info!(port, "gateway listener closed");
            }
            stays
        });
        self.problems.retain(|port, _| plans.contains_key(port));
    }

    fn open_wanted(&mut self) {
        let wanted: Vec<u16> = self.plans.keys().copied().collect();
        for port in wanted {
            if self.open.contains_key(&port) {
                continue;
            }
            let problem = self.open(port).err();
            let problem = problem.map(|error| runtime::exit::one_line(&error));
            match problem {
                Some(problem) if self.problems.get(&port) != Some(&problem) => {
                    tracing::error!(error = problem, port, "cannot open the gateway listener");
                    self.problems.insert(port, problem);
                }
                Some(_) => {}
                None => drop(self.problems.remove(&port)),
            }
        }
    }

    fn open(&mut self, port: u16) -> Result<(), BindError> {
        let Some(grant) = &self.grant else {
            return Ok(());
        };
        let name = SocketName::Gateway(port);
        let address = SocketAddr::new(grant.address, grant.local_port(port));
        let listeners = self.sockets.tcp(&name, address)?;
        let closed = CancellationToken::new();
        // Who connects before the first certificate is there is shown none.
        let front = Arc::new(ArcSwap::from_pointee(self.front(port)));
        self.workers
            .distribute(listeners, |listener| WayIn::Gateway {
                listener,
                front: Arc::clone(&front),
                closed: closed.clone(),
            });
        if let Some(address) = self.sockets.address(&name) {
            tracing::info!(port, %address, "gateway listener open");
            let open = Open {
                address,
                closed,
                front,
            };
            self.open.insert(port, open);
        }
        Ok(())
    }

    /// Puts what is now in force before the callers of each port.
    fn furnish(&self) {
        for (port, open) in &self.open {
            open.front.store(Arc::new(self.front(*port)));
        }
    }

    fn front(&self, port: u16) -> Front {
        let hosts = self.plans.get(&port).into_iter().flatten();
        let served = hosts.filter_map(|(host, plan)| {
            let certificate = self.shown(host, plan)?.clone();
            Some((host.clone(), certificate, Arc::clone(&plan.doors)))
        });
        Front::new(served.collect())
    }

    fn kept(&self, plan: &HostPlan) -> Option<&Kept> {
        self.certificates.as_ref()?.get(&(&plan.files).into())
    }

    /// What callers of a host are shown.
    fn shown(&self, host: &str, plan: &HostPlan) -> Option<&WebCertificate> {
        let certificate = self.kept(plan)?.certificate.as_ref();
        certificate.filter(|it| it.covers(host))
    }

    fn tell(&self, now: OffsetDateTime) {
        let ports = self.plans.iter().map(|(port, hosts)| {
            let open = self.open.get(port);
            let own = self.problem(*port);
            let told = hosts
                .iter()
                .map(|(host, plan)| (host, self.trouble(host, plan)));
            let (well, ill): (Vec<_>, Vec<_>) = told.partition(|(_, trouble)| trouble.is_none());
            let ill = ill.into_iter().filter_map(|(_, trouble)| trouble);
            let soon = hosts
                .iter()
                .filter_map(|(host, plan)| self.warning(host, plan, now));
            let shown = hosts
                .iter()
                .filter_map(|(host, plan)| self.shown(host, plan));
            GatewayPort {
                port: *port,
                address: open.map(|it| it.address),
                hosts: well.into_iter().map(|(host, _)| host.clone()).collect(),
                not_after: shown.map(|it| it.validity().not_after()).min(),
                problems: own.into_iter().chain(ill).chain(soon).collect(),
            }
        });
        let ports: Vec<_> = ports.collect();
        self.board.update(|status| {
            let known = &status.gateways;
            let known = known.iter().flat_map(|it| &it.problems);
            let known: Vec<_> = known.collect();
            let new = ports.iter().flat_map(|it| &it.problems);
            for problem in new.filter(|it| !known.contains(it)) {
                tracing::warn!(problem, "a part of a Gateway is not served");
            }
            status.gateways = ports;
        });
    }

    fn problem(&self, port: u16) -> Option<String> {
        if self.grant.is_none() {
            let text = "this proxy's configuration has no [gateway]: it opens no listener";
            return Some(format!("port {port}: {text}"));
        }
        let problem = self.problems.get(&port)?;
        Some(format!("port {port}: {problem}"))
    }

    /// Why a host is not served as it should be, if so.
    fn trouble(&self, host: &str, plan: &HostPlan) -> Option<String> {
        let kept = self.kept(plan)?;
        if let Some(problem) = &kept.problem {
            let meanwhile = match kept.certificate {
                Some(_) => "; the certificate before it is shown",
                None => "",
            };
            return Some(format!("{host}: {problem}{meanwhile}"));
        }
        let covered = kept.certificate.as_ref().is_some_and(|it| it.covers(host));
        (!covered).then(|| format!("{host}: the certificate is for other hosts"))
    }

    /// That a host will not be served for long, if so.
    fn warning(&self, host: &str, plan: &HostPlan, now: OffsetDateTime) -> Option<String> {
        let at = self.kept(plan)?.expires_soon(now)?;
        Some(format!(
            "{host}: the certificate that is shown expires at {at}: renew it"
        ))
    }
}
