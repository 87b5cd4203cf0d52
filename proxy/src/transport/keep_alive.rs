//! Finds an HTTP/2 peer that has vanished; an idle one costs a PING.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http2::Connection;
use tokio::time::{Instant, Sleep, sleep};

const EVERY: Duration = Duration::from_secs(30);

/// A peer that does not answer in this time has vanished.
const ANSWER: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct KeepAlive {
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self {
            timer: Box::pin(sleep(EVERY)),
            asked: false,
        }
    }
}

impl KeepAlive {
    /// Ready when the peer did not answer.
    pub(super) fn poll_vanished(
        &mut self,
        context: &mut Context<'_>,
        connection: &Connection,
    ) -> Poll<()> {
        if self.asked && connection.was_answered() {
            self.wait(false, EVERY);
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            if self.asked {
                return Poll::Ready(());
            }
            connection.tick();
            connection.ping();
            self.wait(true, ANSWER);
        }
    }

    fn wait(&mut self, asked: bool, time: Duration) {
        self.asked = asked;
        self.timer.as_mut().reset(Instant::now() + time);
    }
}
