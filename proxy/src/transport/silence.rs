//! Connections on which nothing has been said yet do not hold up those that are to leave.
//!
//! Invariant: what is on its way when a connection is asked to leave is still waited for, a
//! bounded time. A peer that cannot be told before it speaks, as over HTTP/1, is waited for as long
//! as its limits say where a successor serves: to close first would lose what it sends meanwhile.

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

    /// As [`Silence::poll`], for a peer that has not been told to leave.
    pub(super) fn poll_untold(&mut self, leave: &Leave, context: &mut Context<'_>) -> Poll<()> {
        ready!(leave.poll(context));
        if leave.is_unhurried() {
            return Poll::Pending;
        }
        self.poll(leave, context)
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
        silence.poll_untold(leave, context).map(|()| None)
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
        connections.drain(false);
        poll_fn(|context| silence.poll_untold(&leave, context)).await;
        assert_eq!(
            unless_silent(&leave, std::future::pending::<()>()).await,
            None
        );
    }

    #[tokio::test]
    async fn where_a_successor_serves_a_peer_that_was_not_told_is_waited_for() {
        let connections = Connections::default();
        let leave = connections.enter(None, None);
        connections.drain(true);
        let mut silence = Silence {
            until: Some(Deadline::new(Duration::ZERO)),
        };
        poll_fn(|context| silence.poll(&leave, context)).await;
        let untold = poll_fn(|context| Poll::Ready(silence.poll_untold(&leave, context)));
        assert!(untold.await.is_pending());
    }

    #[tokio::test]
    async fn what_is_on_its_way_is_waited_for() {
        let connections = Connections::default();
        let leave = connections.enter(None, None);
        connections.drain(false);
        let late = unless_silent(&leave, tokio::task::yield_now());
        assert_eq!(late.await, Some(()));
        let mut silence = Silence::default();
        assert!(!is_over(&mut silence, &leave).await);
    }
}
