//! Nothing is accepted before the sockets are ours to serve.

use std::io;

use runtime::Shutdown;
use tokio::net::{TcpListener, UnixListener};

use super::StartError;
use crate::sockets::Sockets;

/// Holds back whoever would accept. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Entrance {
    sockets: Sockets,
    shutdown: Shutdown,
}

impl Entrance {
    pub(super) fn new(sockets: Sockets, shutdown: Shutdown) -> Self {
        Self { sockets, shutdown }
    }

    /// Runs what accepts once that may begin, unless the proxy drains before.
    pub(super) async fn then(self, accept: impl Future<Output = io::Result<()>>) -> io::Result<()> {
        tokio::select! {
            () = self.sockets.admitted() => accept.await,
            () = self.shutdown.draining() => Ok(()),
        }
    }
}

pub(super) fn tcp(listener: std::net::TcpListener) -> Result<TcpListener, StartError> {
    TcpListener::from_std(listener).map_err(StartError::Serve)
}

pub(super) fn unix(listener: std::os::unix::net::UnixListener) -> Result<UnixListener, StartError> {
    UnixListener::from_std(listener).map_err(StartError::Serve)
}
