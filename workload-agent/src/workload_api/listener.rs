//! The socket of the Workload API: every connection comes with the process that made it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::unfold;
use proto::spiffe::spiffe_workload_api_server::SpiffeWorkloadApiServer;
use runtime::Shutdown;
use tokio::net::UnixListener;
use tonic::transport::Server;

use super::limiter::ConnectionLimits;
use super::service::WorkloadDesk;
use crate::caller::Caller;
use crate::peer_stream::PeerStream;
use crate::socket::Socket;

const STREAMS_PER_CONNECTION: u32 = 64;

/// Serves until the shutdown begins; open streams end with it.
pub(crate) async fn serve(
    desk: WorkloadDesk,
    socket: Socket,
    shutdown: Shutdown,
) -> Result<(), tonic::transport::Error> {
    let Socket { listener, file } = socket;
    let served = Server::builder()
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
        .add_service(SpiffeWorkloadApiServer::new(desk))
        .serve_with_incoming_shutdown(
            unfold((listener, ConnectionLimits::default()), accept),
            async move {
                shutdown.draining().await;
            },
        )
        .await;
    drop(file);
    served
}

type Accepting = (UnixListener, ConnectionLimits);

async fn accept(
    (listener, limits): Accepting,
) -> Option<(io::Result<PeerStream<Arc<Caller>>>, Accepting)> {
    loop {
        let (inner, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the workload socket");
                // Out of descriptors: accepting again at once would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let caller = match Caller::of(&inner) {
            Ok(caller) => caller,
            Err(error) => {
                tracing::warn!(%error, "workload connection refused");
                continue;
            }
        };
        let Some(place) = limits.enter(caller.uid) else {
            tracing::warn!(
                uid = caller.uid,
                "workload connection refused: its user holds too many"
            );
            continue;
        };
        let stream = PeerStream {
            inner,
            peer: Arc::new(caller),
            _place: Some(place),
        };
        return Some((Ok(stream), (listener, limits)));
    }
}
