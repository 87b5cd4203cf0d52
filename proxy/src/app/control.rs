//! What operators and probes connect to, and a successor: served by one task each, apart from
//! calls.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use prometheus_client::registry::Registry;
use runtime::{AdminSocket, AdminSource, Shutdown, Supervisor, serve_health};

use super::StartError;
use super::entrance::{self, Entrance};
use crate::status::StatusBoard;
use crate::takeover::Desk;
use crate::telemetry::{Journal, tap_routes};

/// What was bound for them.
#[derive(Debug)]
pub(super) struct ControlSockets {
    pub(super) metrics: Option<TcpListener>,
    pub(super) health: Option<TcpListener>,
    pub(super) admin: Option<UnixListener>,
    pub(super) takeover: Option<UnixListener>,
}

/// What answers them.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) admin: AdminSource,
    pub(super) journal: Journal,
    pub(super) desk: Desk,
    pub(super) board: StatusBoard,
    pub(super) shutdown: Shutdown,
}

impl Control {
    /// Serves all of it. `finished` resolves when the last call has ended: until then a probe is
    /// told that the proxy drains.
    pub(super) fn spawn(
        self,
        sockets: ControlSockets,
        registry: Registry,
        entrance: &Entrance,
        supervisor: &mut Supervisor,
        finished: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), StartError> {
        let shutdown = self.shutdown;
        if let Some(listener) = sockets.admin {
            let socket = AdminSocket::bound(listener).map_err(StartError::Serve)?;
            let tap = tap_routes(&self.journal, &shutdown);
            let served = socket.serve_with(self.admin, tap, shutdown.clone());
            supervisor.spawn("administration", entrance.clone().then(served));
        }
        if let Some(listener) = sockets.takeover {
            let served = self.desk.serve(entrance::unix(listener)?, shutdown.clone());
            let served = async { served.await.map_err(io::Error::other) };
            supervisor.spawn("takeover socket", entrance.clone().then(served));
        }
        if let Some(listener) = sockets.health {
            let board = self.board;
            let is_ready = Arc::new(move || board.current().ready);
            let served = serve_health(entrance::tcp(listener)?, is_ready, shutdown.clone());
            let served = async move {
                tokio::select! {
                    served = served => served,
                    () = finished => Ok(()),
                }
            };
            supervisor.spawn("health", entrance.clone().then(served));
        }
        if let Some(listener) = sockets.metrics {
            let listener = entrance::tcp(listener)?;
            let served = runtime::serve_metrics(listener, Arc::new(registry), shutdown);
            supervisor.spawn("metrics", entrance.clone().then(served));
        }
        Ok(())
    }
}
