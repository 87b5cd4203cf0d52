//! Mesh listeners come and go with the configuration: one for each port that our workload
//! serves.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use runtime::Shutdown;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Mesh;
use crate::feed::announcements::Announcements;
use crate::service_port::ServicePort;
use crate::sockets::{BindError, SocketName, Sockets};
use crate::state::MeshState;
use crate::worker::{Open as WayIn, Workers};

/// A port that is taken is tried again, since whoever has it may go.
const BIND_AGAIN: Duration = Duration::from_millis(500);

/// Opens and closes mesh listeners.
#[derive(Debug)]
pub(crate) struct Listeners {
    workers: Workers,
    shutdown: Shutdown,
    announcements: Announcements,
    address: IpAddr,
    ports: BTreeMap<ServicePort, u16>,
    sockets: Sockets,
    open: BTreeMap<ServicePort, Open>,
}

#[derive(Debug)]
struct Open {
    address: SocketAddr,
    closed: CancellationToken,
}

impl Listeners {
    /// Binds the ports that the configuration fixes.
    ///
    /// # Errors
    /// If one of them is taken.
    pub(crate) fn reserve(
        workers: Workers,
        shutdown: Shutdown,
        announcements: Announcements,
        mesh: &Mesh,
        sockets: Sockets,
    ) -> Result<Self, BindError> {
        for (name, port) in mesh.ports.iter().filter(|(_, port)| **port != 0) {
            let address = SocketAddr::new(mesh.address, *port);
            sockets.tcp(&SocketName::Mesh(name.clone()), address)?;
        }
        Ok(Self {
            workers,
            shutdown,
            announcements,
            address: mesh.address,
            ports: mesh.ports.clone(),
            sockets,
            open: BTreeMap::new(),
        })
    }

    /// Follows the configuration until the proxy drains.
    pub(crate) async fn run(
        mut self,
        mut states: watch::Receiver<Arc<MeshState>>,
    ) -> io::Result<()> {
        let draining = self.shutdown.clone();
        loop {
            let state = Arc::clone(&states.borrow_and_update());
            let complete = self.follow(&state);
            self.publish();
            tokio::select! {
                () = draining.draining() => return Ok(()),
                changed = states.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(BIND_AGAIN), if !complete => {}
            }
        }
    }

    /// Returns whether everything that is served could be bound.
    fn follow(&mut self, state: &MeshState) -> bool {
        let sockets = &self.sockets;
        self.open.retain(|name, open| {
            let stays = state.served.contains_key(name);
            if !stays {
                open.closed.cancel();
                sockets.close(&SocketName::Mesh(name.clone()));
            }
            stays
        });
        let mut complete = true;
        for name in state.served.keys() {
            if self.open.contains_key(name) {
                continue;
            }
            if let Err(error) = self.open(name) {
                let error = runtime::exit::one_line(&error);
                tracing::error!(error, target = %name, "cannot open the mesh listener");
                complete = false;
            }
        }
        complete
    }

    fn open(&mut self, name: &ServicePort) -> Result<(), BindError> {
        let socket = SocketName::Mesh(name.clone());
        let port = self.ports.get(name).copied().unwrap_or(0);
        let listeners = self.sockets.tcp(&socket, (self.address, port).into())?;
        let closed = CancellationToken::new();
        self.workers.distribute(listeners, |listener| WayIn::Mesh {
            listener,
            target: name.clone(),
            closed: closed.clone(),
        });
        if let Some(address) = self.sockets.address(&socket) {
            tracing::info!(target = %name, %address, "mesh listener open");
            self.open.insert(name.clone(), Open { address, closed });
        }
        Ok(())
    }

    fn publish(&self) {
        let addresses = self
            .open
            .iter()
            .map(|(name, open)| (name.clone(), open.address));
        self.announcements.publish(addresses.collect());
    }
}
