//! The accept loop of both listeners: at most so many connections at once, each a task that this
//! loop owns; on a drain it stops accepting and waits for them, forced it ends them.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use runtime::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

/// After an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves each accepted connection with `serve`, until the shutdown.
pub(crate) async fn accept_until_drained<S, F>(
    listener: TcpListener,
    room: NonZeroU32,
    shutdown: Shutdown,
    serve: S,
) -> io::Result<()>
where
    S: Fn(TcpStream, SocketAddr) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(room.get() as usize));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.draining() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = accept(&listener, &room) => match accepted {
                Ok((permit, stream, from)) => {
                    let serving = serve(stream, from);
                    connections.spawn(async move {
                        serving.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    tokio::select! {
        () = all_ended(&mut connections) => {}
        () = shutdown.forced() => connections.shutdown().await,
    }
    Ok(())
}

/// Waits for room before it accepts: what does not fit waits in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, from) = listener.accept().await?;
    Ok((permit, stream, from))
}

async fn all_ended(connections: &mut JoinSet<()>) {
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's task panicked; the others go on");
    }
}
