//! Small background work that no part owns: idempotent, on a timer, until the shutdown.

use std::convert::Infallible;
use std::time::Duration;

use runtime::{Clock, Shutdown};
use time::OffsetDateTime;
use tokio_util::task::TaskTracker;

use crate::grpc::Desks;
use crate::store::{Duty, Store, StoreError};

const SWEEP: Duration = Duration::from_secs(60);
const PRUNE: Duration = Duration::from_secs(60 * 60);
/// Records are kept for so long after the end of the certificate.
const RECORDS_AFTER_END: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Rate limiters forget who has been quiet.
pub(super) async fn forget_quiet(desks: Desks, shutdown: Shutdown) -> Result<(), Infallible> {
    while waited(SWEEP, &shutdown).await {
        desks.attest.limits.forget_quiet();
        desks.issue.forget_quiet();
    }
    Ok(())
}

/// Records of certificates that ended long ago go. One replica of all sees to it.
pub(super) async fn prune_records(
    replica: String,
    store: Store,
    clock: Clock,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    while waited(PRUNE, &shutdown).await {
        if let Err(error) = prune(&replica, &store, clock.now()).await {
            tracing::warn!(
                error = %runtime::exit::one_line(&error),
                "old issuance records were not removed"
            );
        }
    }
    Ok(())
}

async fn prune(replica: &str, store: &Store, now: OffsetDateTime) -> Result<(), StoreError> {
    // Longer than the pause, so that a duty does not wander about.
    let lease = store.take(Duty::Pruning, replica, PRUNE * 2, now).await?;
    if lease.is_some() {
        store.prune(now - RECORDS_AFTER_END).await?;
        store.prune_revocations(now).await?;
        store.prune_crls(now).await?;
    }
    Ok(())
}

/// The streams' tasks end by themselves when the shutdown begins.
pub(super) async fn wait_for_streams(
    streams: TaskTracker,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    shutdown.draining().await;
    streams.close();
    tokio::select! {
        () = streams.wait() => {}
        () = shutdown.forced() => {}
    }
    Ok(())
}

async fn waited(span: Duration, shutdown: &Shutdown) -> bool {
    tokio::select! {
        () = shutdown.draining() => false,
        () = tokio::time::sleep(span) => true,
    }
}
