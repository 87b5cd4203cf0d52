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
use super::silence::Lines;
use crate::accept::accept_until_drained;
use crate::config::Limits;
use crate::sources::Sources;

/// One source holds at most this part of all connections without showing an agent's SVID …
const STRANGERS_SHARE: usize = 16;
/// … and this part of the handshakes that are under way.
const HANDSHAKES_SHARE: usize = 4;

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
                lines: Lines::default(),
                strangers: Sources::sharing(limits.agent_connections, STRANGERS_SHARE),
                handshakes_by_source: Sources::sharing(limits.handshakes, HANDSHAKES_SHARE),
                handshakes: Semaphore::new(limits.handshakes.get() as usize),
                trust_domain,
                clock,
                shutdown: shutdown.clone(),
            }),
            shutdown,
        }
    }

    pub(crate) async fn run(self) -> io::Result<()> {
        let connections = Arc::clone(&self.connections);
        let accepting = accept_until_drained(
            self.listener,
            self.room,
            self.shutdown,
            move |stream, from| Arc::clone(&connections).serve(stream, from),
        );
        tokio::select! {
            ended = accepting => ended,
            never = self.connections.lines.watch() => match never {},
        }
    }
}
