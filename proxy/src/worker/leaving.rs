//! Connections that are to end once nothing is in flight on them: when the proxy drains, their
//! listener closes, a certificate that they rest on is about to end, a root is about to go, or their
//! peer is trusted no more.
//!
//! Asking costs a call nothing: a connection looks at a flag, and is woken when it is set.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crypto::digest::Sha256;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::live::Bond;

/// All connections of a worker that may be asked to leave. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections {
    table: Rc<Table>,
}

/// One connection's place; given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Leave {
    table: Rc<Table>,
    key: usize,
    entry: Rc<Entry>,
    bond: Option<Bond>,
}

#[derive(Debug, Default)]
struct Table {
    entries: RefCell<Vec<Option<Rc<Entry>>>>,
    free: RefCell<Vec<usize>>,
    draining: Cell<bool>,
    unhurried: Cell<bool>,
}

#[derive(Debug)]
struct Entry {
    asked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    retire_at: Option<OffsetDateTime>,
    closed: Option<CancellationToken>,
    /// The root above the certificate that the peer was shown, where it was shown one.
    root: Option<Sha256>,
}

impl Connections {
    /// Enters a connection that is to leave at `retire_at` or when `closed` is cancelled, if
    /// those are given, and when the worker drains.
    pub(crate) fn enter(
        &self,
        retire_at: Option<OffsetDateTime>,
        closed: Option<CancellationToken>,
    ) -> Leave {
        self.enter_under(None, retire_at, closed)
    }

    /// As [`Self::enter`]; the connection is to leave, too, once what is shown leads to another root
    /// than this one: whoever has verified it over this one is cut off when that is removed.
    pub(crate) fn enter_under(
        &self,
        root: Option<Sha256>,
        retire_at: Option<OffsetDateTime>,
        closed: Option<CancellationToken>,
    ) -> Leave {
        let entry = Rc::new(Entry {
            asked: Cell::new(self.table.draining.get()),
            waker: RefCell::new(None),
            retire_at,
            closed,
            root,
        });
        let mut entries = self.table.entries.borrow_mut();
        let key = self.table.free.borrow_mut().pop().unwrap_or(entries.len());
        if key == entries.len() {
            entries.push(None);
        }
        entries[key] = Some(Rc::clone(&entry));
        Leave {
            table: Rc::clone(&self.table),
            key,
            entry,
            bond: None,
        }
    }

    /// Asks those whose time has come. `root` is above what peers are shown now.
    pub(crate) fn sweep(&self, now: OffsetDateTime, root: Option<Sha256>) {
        for entry in self.table.entries.borrow().iter().flatten() {
            let retired = entry.retire_at.is_some_and(|at| at <= now);
            let closed = || entry.closed.as_ref().is_some_and(|it| it.is_cancelled());
            let superseded = || entry.root.is_some() && root.is_some() && entry.root != root;
            if retired || closed() || superseded() {
                entry.ask();
            }
        }
    }

    /// Asks every connection, also those that enter later. None needs to hurry where the proxy
    /// `is_relieved`: nobody waits for it to end.
    pub(crate) fn drain(&self, is_relieved: bool) {
        self.table.draining.set(true);
        self.table.unhurried.set(is_relieved);
        for entry in self.table.entries.borrow().iter().flatten() {
            entry.ask();
        }
    }
}

impl Entry {
    fn ask(&self) {
        self.asked.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Leave {
    /// The connection is to leave, too, when the trust in its peer is lost.
    pub(crate) fn with(mut self, bond: Bond) -> Self {
        self.bond = Some(bond);
        self
    }

    pub(crate) fn is_asked(&self) -> bool {
        let lost = || self.bond.as_ref().is_some_and(|it| it.reason().is_some());
        self.entry.asked.get() || lost()
    }

    /// Whether a connection that is to leave may stay as long as its peer likes, within its limits.
    pub(crate) fn is_unhurried(&self) -> bool {
        self.table.unhurried.get()
    }

    /// Ready once the connection is to leave. The task that polled last is woken.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let lost = self.bond.as_ref();
        if self.entry.asked.get() || lost.is_some_and(|it| it.poll_ended(context).is_ready()) {
            return Poll::Ready(());
        }
        let mut waker = self.entry.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|it| it.will_wake(context.waker()))
        {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.table.entries.borrow_mut()[self.key] = None;
        self.table.free.borrow_mut().push(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::macros::datetime;

    use super::*;

    const NOON: OffsetDateTime = datetime!(2030-01-01 12:00 UTC);

    #[test]
    fn a_connection_is_asked_when_its_time_has_come_and_not_before() {
        let connections = Connections::default();
        let (early, late) = (
            connections.enter(Some(NOON), None),
            connections.enter(Some(NOON + Duration::from_secs(1)), None),
        );
        connections.sweep(NOON, None);
        assert_eq!((early.is_asked(), late.is_asked()), (true, false));
    }

    #[test]
    fn who_was_shown_another_root_is_asked_and_who_was_shown_none_is_not() {
        let connections = Connections::default();
        let roots = [b"old", b"new"].map(|it| Some(Sha256::of(it)));
        let [old, new] = roots.map(|root| connections.enter_under(root, None, None));
        let unshown = connections.enter(None, None);
        connections.sweep(NOON, None);
        assert!(!old.is_asked());
        connections.sweep(NOON, roots[1]);
        let asked = [&old, &new, &unshown].map(Leave::is_asked);
        assert_eq!(asked, [true, false, false]);
    }

    #[test]
    fn a_closed_listener_asks_its_own_connections() {
        let connections = Connections::default();
        let closed = CancellationToken::new();
        let own = connections.enter(None, Some(closed.clone()));
        let other = connections.enter(None, Some(CancellationToken::new()));
        closed.cancel();
        connections.sweep(NOON, None);
        assert_eq!((own.is_asked(), other.is_asked()), (true, false));
    }

    #[test]
    fn a_drain_wakes_who_waits_and_meets_who_comes_later() {
        let connections = Connections::default();
        let waits = connections.enter(None, None);
        let mut task = futures_test_waker();
        assert!(waits.poll(&task.context()).is_pending());
        connections.drain(false);
        assert!(task.woken() && connections.enter(None, None).is_asked());
    }

    struct Task(std::sync::Arc<Flag>, Waker);
    #[derive(Default)]
    struct Flag(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Flag {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    fn futures_test_waker() -> Task {
        let flag = std::sync::Arc::<Flag>::default();
        Task(flag.clone(), Waker::from(flag))
    }

    impl Task {
        fn context(&self) -> Context<'_> {
            Context::from_waker(&self.1)
        }

        fn woken(&mut self) -> bool {
            self.0.0.load(std::sync::atomic::Ordering::Relaxed)
        }
    }
}
