//! Finds an HTTP/2 peer that has vanished; an idle one costs a PING.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

const EVERY: Duration = Duration::from_secs(30);

/// A peer that does not answer in this time has vanished.
const ANSWER: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct KeepAlive {
    pings: Pings,
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

struct Pings(PingPong);

impl std::fmt::Debug for Pings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pings")
    }
}

impl KeepAlive {
    pub(super) fn new(pings: PingPong) -> Self {
        Self {
            pings: Pings(pings),
            timer: Box::pin(sleep(EVERY)),
            asked: false,
        }
    }

    /// Ready when the peer did not answer.
    pub(super) fn poll_vanished(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.asked {
                match self.pings.0.poll_pong(context) {
                    Poll::Ready(Ok(_)) => self.wait(false, EVERY),
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {}
                }
            }
            ready!(self.timer.as_mut().poll(context));
            if self.asked || self.pings.0.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.wait(true, ANSWER);
            // The connection sends it when it is polled again.
            context.waker().wake_by_ref();
        }
    }

    fn wait(&mut self, asked: bool, time: Duration) {
        self.asked = asked;
        self.timer.as_mut().reset(Instant::now() + time);
    }
}
