//! The limits of time that a stream has of its own, kept to the moment.
//!
//! Invariant: a stream without limits of its own costs one look, and one with them a timer that is
//! moved only when it fires. Limits that all streams share are kept by a sweep instead.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Sleep, sleep_until};

use crate::live::Stream;

/// Looks at one stream's limits for the task that carries it.
#[derive(Debug, Default)]
pub(super) struct OwnLimits {
    timer: Option<Pin<Box<Sleep>>>,
}

impl OwnLimits {
    /// Ready when a limit has passed, and the stream is ended.
    pub(super) fn poll(&mut self, stream: &Stream, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(at) = stream.own_end() else {
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            ready!(timer.as_mut().poll(context));
            if at <= timer.deadline() {
                stream.exceed();
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;
    use crate::failure::Reason;
    use crate::live::Live;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn ended(limits: &mut OwnLimits, stream: &Stream) -> bool {
        poll_fn(|context| Poll::Ready(limits.poll(stream, context).is_ready())).await
    }

    #[tokio::test]
    async fn a_stream_without_limits_of_its_own_has_no_timer() {
        let ticket = Live::new(1)
            .shard(0)
            .enter_unjudged(tokio::time::Instant::now());
        let mut limits = OwnLimits::default();
        assert!(!ended(&mut limits, ticket.stream()).await);
        assert!(limits.timer.is_none() && ticket.stream().reason().is_none());
    }

    #[tokio::test]
    async fn the_first_limit_that_passes_ends_a_stream() {
        for limit in [
            (Some(Duration::ZERO), Some(HOUR)),
            (None, Some(Duration::ZERO)),
        ] {
            let ticket = Live::new(1)
                .shard(0)
                .enter_unjudged(tokio::time::Instant::now());
            ticket.stream().limit(limit.0, limit.1);
            let mut limits = OwnLimits::default();
            poll_fn(|context| limits.poll(ticket.stream(), context)).await;
            assert_eq!(ticket.stream().reason(), Some(Reason::Deadline));
        }
    }

    #[tokio::test]
    async fn a_timer_that_fires_before_the_limit_is_moved() {
        let ticket = Live::new(1)
            .shard(0)
            .enter_unjudged(tokio::time::Instant::now());
        ticket.stream().limit(None, Some(HOUR));
        let past = tokio::time::Instant::now();
        let mut timer = Box::pin(sleep_until(past));
        timer.as_mut().await;
        let mut limits = OwnLimits { timer: Some(timer) };
        assert!(!ended(&mut limits, ticket.stream()).await);
        assert!(
            limits
                .timer
                .is_some_and(|it| it.deadline() > past + HOUR / 2)
        );
    }
}
