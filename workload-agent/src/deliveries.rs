//! Which bundle each open stream of the Workload API was sent last, so that the agent says that it
//! has a bundle only once those who use it here have it too.
//!
//! Invariant: a stream that does not take what it is sent holds up nobody for longer than ten
//! seconds after the bundle changed.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A stream that has not taken the bundle by then stops counting.
const TAKE_WITHIN: Duration = Duration::from_secs(10);

/// The open streams. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Deliveries(watch::Sender<Streams>);

#[derive(Debug, Default)]
pub(crate) struct Streams {
    next: u64,
    /// The sequence of the bundle that each was sent last.
    sent: BTreeMap<u64, u64>,
    /// The newest bundle that was asked about, and since when.
    asked: Option<(u64, Instant)>,
}

/// One open stream; it leaves by being dropped.
#[derive(Debug)]
pub(crate) struct Delivery {
    deliveries: Deliveries,
    number: u64,
}

impl Deliveries {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::default())
    }

    /// Wakes at each delivery.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Streams> {
        self.0.subscribe()
    }

    /// A stream that was just sent the bundle with this sequence.
    pub(crate) fn open(&self, sequence: u64) -> Delivery {
        let mut number = 0;
        self.0.send_modify(|streams| {
            number = streams.next;
            streams.next += 1;
            streams.sent.insert(number, sequence);
        });
        Delivery {
            deliveries: self.clone(),
            number,
        }
    }

    /// Whether every open stream was sent the bundle with this sequence or a later one.
    pub(crate) fn have(&self, sequence: u64, now: Instant) -> bool {
        let mut have = true;
        self.0.send_if_modified(|streams| {
            have = streams.have(sequence, now);
            false
        });
        have
    }
}

impl Streams {
    fn have(&mut self, sequence: u64, now: Instant) -> bool {
        let since = match self.asked {
            Some((asked, since)) if asked >= sequence => since,
            _ => {
                self.asked = Some((sequence, now));
                now
            }
        };
        let behind = self.sent.values().any(|sent| *sent < sequence);
        !behind || now.saturating_duration_since(since) >= TAKE_WITHIN
    }
}

impl Delivery {
    pub(crate) fn sent(&self, sequence: u64) {
        self.deliveries.0.send_if_modified(|streams| {
            let known = streams.sent.insert(self.number, sequence);
            known != Some(sequence)
        });
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.deliveries.0.send_modify(|streams| {
            streams.sent.remove(&self.number);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_delivered_when_the_last_open_stream_has_it() {
        let (deliveries, now) = (Deliveries::new(), Instant::now());
        let (first, second) = (deliveries.open(1), deliveries.open(1));
        first.sent(2);
        assert!(!deliveries.have(2, now));
        drop(second);
        assert!(deliveries.have(2, now));
    }

    #[test]
    fn a_stream_that_takes_nothing_is_not_waited_for_for_ever() {
        let (deliveries, now) = (Deliveries::new(), Instant::now());
        let _silent = deliveries.open(1);
        assert!(!deliveries.have(2, now));
        assert!(!deliveries.have(2, now + TAKE_WITHIN / 2));
        assert!(deliveries.have(2, now + TAKE_WITHIN));
        assert!(!deliveries.have(3, now + TAKE_WITHIN));
    }
}
