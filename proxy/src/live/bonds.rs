//! Connections between proxies that several calls use, or none at the moment, so that they can be
//! ended with the trust in who is at their other end.
//!
//! Invariant: a connection is in the table before it is used, and whoever enters it asks once more
//! whether its peer is vouched for: a change of trust finds it here, or is found by that question.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;

use crate::failure::Reason;
use crate::trust::Vouched;

/// The connections of one worker. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Bonds(Arc<Mutex<Slots>>);

#[derive(Debug, Default)]
struct Slots {
    entries: Vec<Option<Arc<Entry>>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Entry {
    peer: Vouched,
    carrier: AtomicWaker,
    reason: OnceLock<Reason>,
}

/// A connection's place in the table, for as long as it lives. It belongs to one task.
#[derive(Debug)]
pub(crate) struct Bond {
    bonds: Bonds,
    key: usize,
    entry: Arc<Entry>,
    waits: RefCell<Option<Waker>>,
}

impl Bonds {
    pub(super) fn enter(&self, peer: Vouched) -> Bond {
        let entry = Arc::new(Entry {
            peer,
            carrier: AtomicWaker::new(),
            reason: OnceLock::new(),
        });
        let mut slots = self.slots();
        let key = slots.free.pop().unwrap_or(slots.entries.len());
        if key == slots.entries.len() {
            slots.entries.push(None);
        }
        slots.entries[key] = Some(Arc::clone(&entry));
        drop(slots);
        Bond {
            bonds: self.clone(),
            key,
            entry,
            waits: RefCell::default(),
        }
    }

    /// Ends those whose peer is vouched for no more. Returns how many it ended.
    pub(super) fn judge_again(&self, holds: &impl Fn(&Vouched) -> Result<(), Reason>) -> usize {
        let slots = self.slots();
        let entries = slots.entries.iter().flatten();
        let lost = entries.filter_map(|entry| Some((entry, holds(&entry.peer).err()?)));
        lost.map(|(entry, reason)| entry.end(reason)).count()
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Slots> {
        // Every change is complete before anything in it can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn end(&self, reason: Reason) {
        let _first = self.reason.get_or_init(|| reason);
        self.carrier.wake();
    }
}

impl Bond {
    /// Why it was ended, if it was.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.entry.reason.get().copied()
    }

    /// Ready once it is ended. The task that polled last is woken.
    pub(crate) fn poll_ended(&self, context: &Context<'_>) -> Poll<Reason> {
        if let Some(reason) = self.reason() {
            return Poll::Ready(reason);
        }
        let mut waits = self.waits.borrow_mut();
        let waker = context.waker();
        if !waits.as_ref().is_some_and(|it| it.will_wake(waker)) {
            self.entry.carrier.register(waker);
            *waits = Some(waker.clone());
        }
        // It may have ended before the waker was there.
        self.reason().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Bond {
    fn drop(&mut self) {
        let mut slots = self.bonds.slots();
        slots.entries[self.key] = None;
        slots.free.push(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn lost(_: &Vouched) -> Result<(), Reason> {
        Err(Reason::Revoked)
    }

    #[test]
    fn who_waits_on_a_connection_is_woken_when_its_peer_is_lost() {
        let bonds = Bonds::default();
        let bond = bonds.enter(Vouched::without_chain());
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        assert!(bond.poll_ended(&context).is_pending());
        assert_eq!(bonds.judge_again(&|_| Ok(())), 0);
        assert!(!woken.0.load(Ordering::Relaxed));
        assert_eq!(bonds.judge_again(&lost), 1);
        assert!(woken.0.load(Ordering::Relaxed));
        assert_eq!(bond.poll_ended(&context), Poll::Ready(Reason::Revoked));
    }

    #[test]
    fn a_connection_that_has_ended_leaves_the_table() {
        let bonds = Bonds::default();
        drop(bonds.enter(Vouched::without_chain()));
        let kept = bonds.enter(Vouched::without_chain());
        assert_eq!(bonds.judge_again(&lost), 1);
        assert_eq!(kept.reason(), Some(Reason::Revoked));
    }
}
