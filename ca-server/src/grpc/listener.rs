//! Accepts agents' connections.

use std::io;
use std::num::NonZeroU32;
use std::sync::Arc;

use identity::TrustDomain;
use mtls::Credentials;
use runtime::{Clock, Shutdown};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::connection::Connections;
use super::routes::Desks;
use super::seen::SeenSerials;
use crate::accept::accept_until_drained;
use crate::config::Limits;

/// A bound listener with all that its connections need.
#[derive(Debug)]
pub(crate) struct AgentListener {
    listener: TcpListener,
    room: NonZeroU32,
    connections: Arc<Connections>,
    shutdown: Shutdown,
}

impl AgentListener {
    pub(crate) fn new(
        listener: TcpListener,
        credentials: Credentials,
        desks: Desks,
        seen: SeenSerials,
        trust_domain: TrustDomain,
        limits: &Limits,
        (clock, shutdown): (Clock, Shutdown),
    ) -> Self {
        Self {
            listener,
            room: limits.agent_connections,
            connections: Arc::new(Connections {
                credentials,
                desks,
                seen,
                handshakes: Semaphore::new(limits.handshakes.get() as usize),
                trust_domain,
                clock,
                shutdown: shutdown.clone(),
            }),
            shutdown,
        }
    }

    pub(crate) async fn run(self) -> io::Result<()> {
        let connections = self.connections;
        accept_until_drained(
            self.listener,
            self.room,
            self.shutdown,
            move |stream, from| Arc::clone(&connections).serve(stream, from),
        )
        .await
    }
}
