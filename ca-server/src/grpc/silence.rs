//! Whether there still is somebody at the other end of a connection. Agents PING (RFC 9113 §6.7)
//! every 30 s or more often, to know whether their CA lives, so whoever has said nothing for longer
//! is gone. Nothing is asked for that, and one look does for all connections: ten thousand agents
//! at rest cost their own PINGs alone.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

const LOOK_EVERY: Duration = Duration::from_secs(10);
/// As many looks in a row at a silent connection end it: a PING that is due, and the time that one
/// may take.
const LOOKS: u8 = 6;

/// The connections that are looked at.
#[derive(Debug, Default)]
pub(super) struct Lines {
    open: Mutex<Vec<Weak<Line>>>,
}

/// One connection, as far as it is heard.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Looks since something was heard.
    silent_looks: AtomicU8,
    silent: Notify,
}

impl Lines {
    /// Looked at until it is dropped.
    pub(super) fn open(&self) -> Arc<Line> {
        let line = Arc::default();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(Arc::downgrade(&line));
        line
    }

    pub(super) async fn watch(&self) -> Infallible {
        loop {
            sleep(LOOK_EVERY).await;
            self.look();
        }
    }

    fn look(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|line| line.upgrade().is_some_and(|line| line.look()));
    }
}

impl Line {
    pub(super) fn heard(&self) {
        self.silent_looks.store(0, Ordering::Relaxed);
    }

    /// Resolves when nothing was heard for longer than a peer that lives would be silent.
    pub(super) async fn silent(&self) {
        self.silent.notified().await;
    }

    /// Whether it is worth another look.
    fn look(&self) -> bool {
        let silent = self.silent_looks.fetch_add(1, Ordering::Relaxed) >= LOOKS;
        if silent {
            self.silent.notify_one();
        }
        !silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_says_nothing_is_gone() {
        let lines = Lines::default();
        let line = lines.open();
        (0..=LOOKS).for_each(|_| lines.look());
        line.silent().await;
        assert!(lines.open.lock().unwrap().is_empty());
    }

    #[test]
    fn whoever_speaks_is_waited_for_anew() {
        let lines = Lines::default();
        let line = lines.open();
        for _ in 0..=LOOKS {
            lines.look();
            line.heard();
        }
        assert_eq!(lines.open.lock().unwrap().len(), 1);
    }

    #[test]
    fn who_has_hung_up_is_forgotten() {
        let lines = Lines::default();
        drop(lines.open());
        lines.look();
        assert!(lines.open.lock().unwrap().is_empty());
    }
}
