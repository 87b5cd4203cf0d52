//! A deadline that is moved for each message, and costs no timer to move.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Passes `after` the last start.
#[derive(Debug)]
pub(crate) struct Deadline {
    after: Duration,
    at: Instant,
    /// Behind `at` by the starts since it was set; it catches up when it fires.
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    pub(crate) fn new(after: Duration) -> Self {
        let at = Instant::now() + after;
        Self {
            after,
            at,
            timer: Box::pin(sleep_until(at)),
        }
    }

    pub(crate) fn start(&mut self) {
        self.at = Instant::now() + self.after;
    }

    /// Ready once it has passed.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(context));
            if self.at <= self.timer.deadline() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_deadline_that_was_started_again_passes_later() {
        let mut past = Deadline::new(Duration::ZERO);
        poll_fn(|context| past.poll(context)).await;
        let mut deadline = Deadline {
            timer: past.timer,
            ..Deadline::new(Duration::from_secs(3600))
        };
        deadline.start();
        let passed = poll_fn(|context| Poll::Ready(deadline.poll(context).is_ready()));
        assert!(!passed.await);
    }
}
