//! Accepting connections: as many at once as a listener may have, each on a task of its own.
//!
//! Invariant: whoever is accepted had a place before, and gives it back when its task ends.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::failure::Reason;
use crate::guard::sources::{SourcePlace, Sources};
use crate::record::Direction;
use crate::telemetry::Journal;
use crate::worker::tasks::Tasks;

/// How long accepting pauses when the system is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where connections come in.
pub(super) trait Listener {
    type Stream;

    async fn next(&self) -> io::Result<Self::Stream>;
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        // Latency only: without it small writes wait for acknowledgements.
        drop(stream.set_nodelay(true));
        Ok(stream)
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves each connection, until it has `ended` or the proxy drains.
pub(super) async fn accept_each<L: Listener, C: Future<Output = ()> + 'static>(
    listener: &L,
    limits: &Limits,
    tasks: &Tasks,
    ended: impl Future<Output = ()>,
    connection: impl Fn(L::Stream) -> C,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let draining = tasks.shutdown().clone();
    let mut ended = std::pin::pin!(ended);
    loop {
        let (stream, place) = tokio::select! {
            () = &mut ended => return,
            () = draining.draining() => return,
            accepted = accept(listener, &room) => accepted,
        };
        // A combinator, because an async block would have room for the connection twice.
        tasks.spawn(connection(stream).map(|()| drop(place)));
    }
}

/// A place for a connection from this address; one that gets none costs no handshake.
pub(super) fn place_of(
    stream: &TcpStream,
    sources: &Sources,
    journal: &Journal,
) -> Option<SourcePlace> {
    let place = sources.enter(stream.peer_addr().ok()?.ip().into());
    if place.is_none() {
        let full = Some(Reason::BulkheadFull);
        journal.handshake(Direction::Inbound, full, Duration::ZERO);
    }
    place
}

/// The next connection, once there is room for one.
async fn accept<L: Listener>(
    listener: &L,
    room: &Arc<Semaphore>,
) -> (L::Stream, Option<OwnedSemaphorePermit>) {
    let place = Arc::clone(room).acquire_owned().await.ok();
    loop {
        match listener.next().await {
            Ok(stream) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
