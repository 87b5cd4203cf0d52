//! Two-step shutdown: drain first, then force.
//!
//! Invariant: forcing implies draining, and neither can be taken back.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells its holders when to stop accepting and when to let go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown {
    drain: CancellationToken,
    force: CancellationToken,
}

impl Shutdown {
    /// A trigger and the state that it moves.
    pub fn pair() -> (ShutdownTrigger, Self) {
        let shutdown = Self {
            drain: CancellationToken::new(),
            force: CancellationToken::new(),
        };
        (
            ShutdownTrigger {
                shutdown: shutdown.clone(),
            },
            shutdown,
        )
    }

    /// Returns when new work must no longer be accepted.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Returns when what is still running must be dropped.
    pub async fn forced(&self) {
        self.force.cancelled().await;
    }

    /// Whether new work must no longer be accepted.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Whether what is still running must be dropped.
    pub fn is_forced(&self) -> bool {
        self.force.is_cancelled()
    }
}

/// Starts a shutdown. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ShutdownTrigger {
    shutdown: Shutdown,
}

impl ShutdownTrigger {
    /// Asks for no new work; what runs may finish.
    pub fn drain(&self) {
        self.shutdown.drain.cancel();
    }

    /// Asks everything to end now.
    pub fn force(&self) {
        self.shutdown.drain.cancel();
        self.shutdown.force.cancel();
    }

    /// The state that this trigger moves.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Drains on the first SIGINT or SIGTERM and forces on the second. The handlers are installed
    /// before this returns; the future it returns ends with the second signal.
    pub fn on_signals(&self) -> io::Result<impl Future<Output = ()> + Send + use<>> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let trigger = self.clone();
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::info!("draining; a second signal ends at once");
            trigger.drain();
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            trigger.force();
        })
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, raise};

    use super::*;

    #[tokio::test]
    async fn force_implies_drain() {
        let (trigger, shutdown) = Shutdown::pair();
        trigger.force();
        shutdown.forced().await;
        assert!(shutdown.is_draining());
    }

    #[tokio::test]
    async fn drain_leaves_running_work_alone() {
        let (trigger, shutdown) = Shutdown::pair();
        trigger.drain();
        shutdown.draining().await;
        assert!(!shutdown.is_forced());
    }

    #[tokio::test]
    async fn first_signal_drains_and_second_forces() {
        let (trigger, shutdown) = Shutdown::pair();
        let mut signals = Box::pin(trigger.on_signals().unwrap());
        raise(Signal::SIGTERM).unwrap();
        tokio::select! { () = &mut signals => {}, () = shutdown.draining() => {} }
        assert!(!shutdown.is_forced());
        raise(Signal::SIGTERM).unwrap();
        signals.await;
        assert!(shutdown.is_forced());
    }
}
