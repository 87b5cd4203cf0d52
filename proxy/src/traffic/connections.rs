//! How many connections to one port may be open, of all workers together, and who waits for one.
//!
//! Invariant: a connection is open only while it holds an [`OpenPlace`]. Whoever waits is woken by
//! the next place that is given back; a wake-up that nobody uses is kept for the next who waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

use super::bulkhead::{Bulkhead, Full, Place};

#[derive(Debug, Default)]
pub(crate) struct PortConnections {
    open: Arc<Bulkhead>,
    waiting: AtomicU32,
    closed: Notify,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenPlace {
    place: Option<Place>,
    of: Arc<PortConnections>,
}

/// Somebody who waits for a place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    of: &'a PortConnections,
}

impl PortConnections {
    /// A place for one more; without a limit, to be counted.
    ///
    /// # Errors
    /// If `limit` are open.
    pub(crate) fn open(self: &Arc<Self>, limit: Option<u32>) -> Result<OpenPlace, Full> {
        let place = self.open.enter(limit)?;
        Ok(OpenPlace {
            place: Some(place),
            of: Arc::clone(self),
        })
    }

    pub(crate) fn inside(&self) -> u32 {
        self.open.inside()
    }

    /// To be made before the look that may fail, so that no place is missed.
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting { of: self }
    }

    /// Whether a connection that is idle would be of use elsewhere.
    pub(crate) fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

impl Waiting<'_> {
    /// Resolves when a place may be free.
    pub(crate) async fn closed(&self) {
        self.of.closed.notified().await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.of.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for OpenPlace {
    fn drop(&mut self) {
        drop(self.place.take());
        self.of.closed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_more_than_the_limit_is_refused() {
        let connections = Arc::new(PortConnections::default());
        let place = connections.open(Some(1)).unwrap();
        assert_eq!(connections.open(Some(1)).unwrap_err(), Full { limit: 1 });
        drop(place);
        assert!(connections.open(Some(1)).is_ok());
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_a_place_given_back_elsewhere() {
        let connections = Arc::new(PortConnections::default());
        let place = connections.open(Some(1)).unwrap();
        let waiting = connections.wait();
        assert!(connections.are_wanted());
        let thread = std::thread::spawn(move || drop(place));
        waiting.closed().await;
        assert!(connections.open(Some(1)).is_ok());
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_place_given_back_before_anybody_waits_is_not_missed() {
        let connections = Arc::new(PortConnections::default());
        drop(connections.open(Some(1)).unwrap());
        connections.wait().closed().await;
        assert!(!connections.are_wanted());
    }
}
