//! The owner of a worker's tasks.
//!
//! Each runs on the worker's thread until it is done; those that are left when the worker ends
//! are dropped with it.

use std::cell::Cell;
use std::rc::Rc;

use futures_util::FutureExt;
use runtime::Shutdown;
use tokio::sync::Notify;

/// Owns the tasks of connections and calls. Cheap to clone; clones own together.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    running: Rc<Running>,
    shutdown: Shutdown,
}

#[derive(Debug, Default)]
struct Running {
    count: Cell<usize>,
    none: Notify,
}

/// Counts a task while it runs.
struct Counted(Rc<Running>);

impl Tasks {
    pub(crate) fn new(shutdown: Shutdown) -> Self {
        Self {
            running: Rc::default(),
            shutdown,
        }
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.running.count.set(self.running.count.get() + 1);
        let counted = Counted(Rc::clone(&self.running));
        // The worker's local set owns the task; nobody waits for this one handle.
        // A combinator, because an async block would have room for the task twice.
        drop(tokio::task::spawn_local(task.map(|()| drop(counted))));
    }

    /// Resolves when no task is running.
    pub(crate) async fn finished(&self) {
        while self.running.count.get() > 0 {
            self.running.none.notified().await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let count = self.0.count.get() - 1;
        self.0.count.set(count);
        if count == 0 {
            self.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn tasks_finish_when_the_last_has_ended() {
        let tasks = Tasks::new(Shutdown::pair().1);
        let (send, receive) = tokio::sync::oneshot::channel::<()>();
        let worker = LocalSet::new();
        let both = worker.run_until(async {
            tasks.spawn(async {});
            tasks.spawn(async move { drop(receive.await) });
            let early = tokio::select! {
                biased;
                () = tasks.finished() => true,
                () = tokio::task::yield_now() => false,
            };
            drop(send);
            tasks.finished().await;
            early
        });
        assert!(!both.await);
    }
}
