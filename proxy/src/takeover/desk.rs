//! The running proxy's side: hands its sockets to a successor, and lets go when that is ready.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use identity::QualifiedName;
use runtime::{Shutdown, ShutdownTrigger};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::line::Line;
use super::{FromPredecessor, FromSuccessor, Refusal, TakeoverError};
use crate::sockets::Sockets;

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether a successor serves in our place. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct HandedOver(CancellationToken);

/// Serves the takeover socket. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    pub(crate) workload: QualifiedName,
    pub(crate) sockets: Sockets,
    /// Asked to drain once a successor serves.
    pub(crate) trigger: ShutdownTrigger,
    pub(crate) handed_over: HandedOver,
}

impl HandedOver {
    pub(crate) fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl Desk {
    /// Serves until the proxy drains.
    ///
    /// # Errors
    /// Never: a conversation that fails is logged, and the proxy goes on.
    pub(crate) async fn serve(
        self,
        listener: UnixListener,
        shutdown: Shutdown,
    ) -> Result<(), Infallible> {
        let turn = Arc::new(Semaphore::new(1));
        let mut conversations = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.draining() => break,
                Some(_) = conversations.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (this, turn) = (self.clone(), Arc::clone(&turn));
                    conversations.spawn(async move { this.converse(stream, &turn).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the takeover socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        if !self.handed_over.is_set() {
            conversations.abort_all();
        }
        // The successor is told that we have let go.
        while conversations.join_next().await.is_some() {}
        Ok(())
    }

    async fn converse(&self, stream: UnixStream, turn: &Semaphore) {
        if let Err(error) = self.hand_over(stream, turn).await {
            let error = runtime::exit::one_line(&error);
            tracing::warn!(error, "nobody takes over; this proxy goes on");
        }
    }

    async fn hand_over(&self, stream: UnixStream, turn: &Semaphore) -> Result<(), TakeoverError> {
        let mut line = Line::open(stream).await?;
        let FromSuccessor::Ask { workload, product } = line.answer().await? else {
            return Err(TakeoverError::Unexpected("`ready` before `ask`"));
        };
        let Ok(_turn) = turn.try_acquire() else {
            return refuse(line, Refusal::Busy).await;
        };
        if workload != self.workload {
            return refuse(line, Refusal::OtherWorkload(self.workload.clone())).await;
        }
        if self.trigger.shutdown().is_draining() {
            return refuse(line, Refusal::Draining).await;
        }
        tracing::info!(
            pid = line.pid(),
            product,
            "a successor asks for the sockets"
        );
        let passed = self.sockets.duplicate()?;
        let (names, descriptors): (Vec<_>, Vec<_>) = passed
            .into_iter()
            .map(|it| (it.name.to_string(), it.fd))
            .unzip();
        line.send(&FromPredecessor::Sockets(names)).await?;
        line.pass(&descriptors).await?;
        drop(descriptors);
        let FromSuccessor::Ready = line.receive().await? else {
            return Err(TakeoverError::Unexpected("`ask` twice"));
        };
        tracing::info!(pid = line.pid(), "the successor serves; this proxy drains");
        self.sockets.abandon();
        self.handed_over.0.cancel();
        self.trigger.drain();
        line.send(&FromPredecessor::Released).await
    }
}

async fn refuse(mut line: Line, why: Refusal) -> Result<(), TakeoverError> {
    line.send(&FromPredecessor::Refused(why.clone())).await?;
    Err(TakeoverError::Refused(why))
}
