//! Connections on which nothing has been said yet do not hold up those that are to leave.
//!
//! Invariant: what is on its way when a connection is asked to leave is still waited for, a
//! bounded time.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::deadline::Deadline;
use crate::worker::leaving::Leave;

/// A request may be on its way to a connection that leaves: it is waited for, and answered.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// Says when a connection that has been asked to leave has been silent for long enough.
#[derive(Debug, Default)]
pub(super) struct Silence {
    until: Option<Deadline>,
}

impl Silence {
    /// To be polled while nothing is in flight; from the first time on that the connection is
    /// asked to leave, time passes.
    pub(super) fn poll(&mut self, leave: &Leave, context: &mut Context<'_>) -> Poll<()> {
        ready!(leave.poll(context));
        let until = self
            .until
            .get_or_insert_with(|| Deadline::new(LAST_REQUEST));
        until.poll(context)
    }

    /// Something is in flight again.
    pub(super) fn breaks(&mut self) {
        if let Some(until) = &mut self.until {
            until.start();
        }
    }
}

/// What a peer says first; nothing if it stays silent on a connection that is to leave.
pub(super) async fn unless_silent<T>(leave: &Leave, first: impl Future<Output = T>) -> Option<T> {
    let mut first = std::pin::pin!(first);
    let mut silence = Silence::default();
    poll_fn(|context| {
        if let Poll::Ready(said) = first.as_mut().poll(context) {
            return Poll::Ready(Some(said));
        }
        silence.poll(leave, context).map(|()| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::leaving::Connections;

    async fn is_over(silence: &mut Silence, leave: &Leave) -> bool {
        poll_fn(|context| Poll::Ready(silence.poll(leave, context).is_ready())).await
    }

    #[tokio::test]
    async fn a_peer_that_stays_silent_is_left_once_the_connection_is_to_leave() {
        let connections = Connections::default();
        let leave = connections.enter(None, None);
        let mut silence = Silence {
            until: Some(Deadline::new(Duration::ZERO)),
        };
        assert!(!is_over(&mut silence, &leave).await);
        connections.drain();
        poll_fn(|context| silence.poll(&leave, context)).await;
        assert_eq!(
            unless_silent(&leave, std::future::pending::<()>()).await,
            None
        );
    }

    #[tokio::test]
    async fn what_is_on_its_way_is_waited_for() {
        let connections = Connections::default();
        let leave = connections.enter(None, None);
        connections.drain();
        let late = unless_silent(&leave, tokio::task::yield_now());
        assert_eq!(late.await, Some(()));
        let mut silence = Silence::default();
        assert!(!is_over(&mut silence, &leave).await);
    }
}
