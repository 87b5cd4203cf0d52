//! Mesh listeners come and go with the configuration: one for each port that our workload
//! serves.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::mesh::Inbound;
use crate::config::Mesh;
use crate::feed::announcements::Announcements;
use crate::service_port::ServicePort;
use crate::state::MeshState;

/// A port that is taken is tried again, since whoever has it may go.
const BIND_AGAIN: Duration = Duration::from_millis(500);

/// Opens and closes mesh listeners.
#[derive(Debug)]
pub(crate) struct Listeners {
    inbound: Inbound,
    announcements: Announcements,
    address: IpAddr,
    ports: BTreeMap<ServicePort, u16>,
    /// Configured ports, bound before anything else started.
    reserved: BTreeMap<ServicePort, TcpListener>,
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
    pub(crate) async fn reserve(
        inbound: Inbound,
        announcements: Announcements,
        mesh: &Mesh,
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let mut reserved = BTreeMap::new();
        for (name, port) in mesh.ports.iter().filter(|(_, port)| **port != 0) {
            let address = SocketAddr::new(mesh.address, *port);
            let listener = TcpListener::bind(address)
                .await
                .map_err(|error| (address, error))?;
            reserved.insert(name.clone(), listener);
        }
        Ok(Self {
            inbound,
            announcements,
            address: mesh.address,
            ports: mesh.ports.clone(),
            reserved,
            open: BTreeMap::new(),
        })
    }

    /// Follows the configuration until the proxy drains.
    pub(crate) async fn run(
        mut self,
        mut states: watch::Receiver<Arc<MeshState>>,
    ) -> io::Result<()> {
        let draining = self.inbound.tasks.shutdown().clone();
        loop {
            let state = Arc::clone(&states.borrow_and_update());
            let complete = self.follow(&state).await;
            self.publish();
            tokio::select! {
                () = draining.draining() => return Ok(()),
                changed = states.changed() => if changed.is_err() { return Ok(()) },
                () = tokio::time::sleep(BIND_AGAIN), if !complete => {}
            }
        }
    }

    /// Returns whether everything that is served could be bound.
    async fn follow(&mut self, state: &MeshState) -> bool {
        self.open.retain(|name, open| {
            let stays = state.served.contains_key(name);
            if !stays {
                open.closed.cancel();
            }
            stays
        });
        let mut complete = true;
        for name in state.served.keys() {
            if self.open.contains_key(name) {
                continue;
            }
            if let Err(error) = self.open(name).await {
                tracing::error!(%error, target = %name, "cannot open the mesh listener");
                complete = false;
            }
        }
        complete
    }

    async fn open(&mut self, name: &ServicePort) -> io::Result<()> {
        let listener = match self.reserved.remove(name) {
            Some(listener) => listener,
            None => {
                let port = self.ports.get(name).copied().unwrap_or(0);
                TcpListener::bind((self.address, port)).await?
            }
        };
        let address = listener.local_addr()?;
        let closed = CancellationToken::new();
        let inbound = self.inbound.clone();
        let accept = inbound.accept(listener, name.clone(), closed.clone());
        self.inbound.tasks.spawn(accept);
        tracing::info!(target = %name, %address, "mesh listener open");
        self.open.insert(name.clone(), Open { address, closed });
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
