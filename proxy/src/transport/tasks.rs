//! The owner of per-connection tasks.
//!
//! Each runs until it is done or the shutdown is forced; none outlives the proxy.

use hyper::rt::Executor;
use runtime::Shutdown;
use tokio_util::task::TaskTracker;

/// Owns the tasks of connections. Cheap to clone; clones own together.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    shutdown: Shutdown,
}

impl Tasks {
    pub(crate) fn new(shutdown: Shutdown) -> Self {
        Self {
            tracker: TaskTracker::new(),
            shutdown,
        }
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        // The tracker owns the task; nobody waits for this one handle.
        drop(self.tracker.spawn(async move {
            tokio::select! {
                () = task => {}
                () = shutdown.forced() => {}
            }
        }));
    }

    /// Resolves once every task has ended; new ones may not be spawned from outside any more.
    pub(crate) async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.spawn(async move { drop(task.await) });
    }
}
