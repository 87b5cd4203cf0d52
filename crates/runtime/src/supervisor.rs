//! The owner of a process's long-running tasks.
//!
//! Invariant: no task ends unnoticed. Before a shutdown, a task that ends, well or badly, is a
//! failure of the whole; a panic is one at any time.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};

use crate::shutdown::{Shutdown, ShutdownTrigger};

/// How long forced tasks may take to end before they are aborted.
const FORCED_GRACE: Duration = Duration::from_secs(1);

type BoxError = Box<dyn Error + Send + Sync>;
type Joined = Result<(Id, Result<(), BoxError>), JoinError>;

/// Owns tasks that are meant to live as long as the process, or the part of it that is supervised.
/// Dropping it aborts them.
pub struct Supervisor {
    tasks: JoinSet<Result<(), BoxError>>,
    names: HashMap<Id, &'static str>,
    trigger: ShutdownTrigger,
    shutdown: Shutdown,
}

impl Supervisor {
    /// A supervisor without tasks, with a shutdown of its own.
    pub fn new() -> Self {
        let (trigger, shutdown) = Shutdown::pair();
        Self {
            tasks: JoinSet::new(),
            names: HashMap::new(),
            trigger,
            shutdown,
        }
    }

    /// What the supervised tasks watch to know when to stop.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// What starts the shutdown of the supervised tasks.
    pub fn trigger(&self) -> ShutdownTrigger {
        self.trigger.clone()
    }

    /// Runs `task` until it ends. Its name appears in errors and logs.
    pub fn spawn<F, E>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let handle = self
            .tasks
            .spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), name);
    }

    /// Resolves when a task has ended though no shutdown was asked for, or has failed or panicked
    /// during one. Cancel safe; never resolves while all is well.
    pub async fn failed(&mut self) -> TaskFailed {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(joined) => {
                    if let Err(failed) = self.judge(joined) {
                        return failed;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Runs until the shutdown is asked for, or a task fails; then drains.
    pub async fn run(mut self, deadline: Duration) -> Result<(), TaskFailed> {
        let shutdown = self.shutdown();
        let failed = tokio::select! {
            biased;
            () = shutdown.draining() => None,
            failed = self.failed() => Some(failed),
        };
        let drained = self.drain(deadline).await;
        failed.map_or(drained, Err)
    }

    /// Asks all tasks to drain, forces those that are not done by `deadline`, and aborts those that
    /// do not end even then. The first failure is returned; all tasks have ended.
    pub async fn drain(mut self, deadline: Duration) -> Result<(), TaskFailed> {
        self.trigger.drain();
        let mut outcome = Ok(());
        let forced = self.shutdown();
        let drained = tokio::select! {
            drained = tokio::time::timeout(deadline, self.join_all(&mut outcome)) => drained.is_ok(),
            () = forced.forced() => false,
        };
        if drained {
            return outcome;
        }
        let forced: Vec<_> = self.names.values().copied().collect();
        tracing::warn!(tasks = ?forced, "not drained in time, forced");
        self.trigger.force();
        if tokio::time::timeout(FORCED_GRACE, self.join_all(&mut outcome))
            .await
            .is_err()
        {
            let stuck = self.names.values().copied().next();
            self.tasks.shutdown().await;
            let stuck = stuck.map(|name| TaskFailed {
                name,
                fault: TaskFault::Stuck,
            });
            outcome = outcome.and(stuck.map_or(Ok(()), Err));
        }
        outcome
    }

    /// Aborts all tasks without draining.
    pub async fn kill(mut self) {
        self.tasks.shutdown().await;
    }

    async fn join_all(&mut self, outcome: &mut Result<(), TaskFailed>) {
        while let Some(joined) = self.tasks.join_next_with_id().await {
            if let Err(failed) = self.judge(joined) {
                tracing::error!(task = failed.name, fault = %failed.fault, "task failed");
                if outcome.is_ok() {
                    *outcome = Err(failed);
                }
            }
        }
    }

    fn judge(&mut self, joined: Joined) -> Result<(), TaskFailed> {
        let (id, result) = match joined {
            Ok((id, Ok(()))) if self.shutdown.is_draining() => (id, Ok(())),
            Ok((id, Ok(()))) => (id, Err(TaskFault::Ended)),
            Ok((id, Err(source))) => (id, Err(TaskFault::Failed(source))),
            Err(error) => (error.id(), Err(TaskFault::Panicked(panic_text(error)))),
        };
        let name = self.names.remove(&id).unwrap_or("unnamed");
        result.map_err(|fault| TaskFailed { name, fault })
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("tasks", &self.names.values())
            .finish_non_exhaustive()
    }
}

/// A supervised task did not do what it must: run until the shutdown, then end well.
#[derive(Debug)]
pub struct TaskFailed {
    /// The name that the task was spawned with.
    pub name: &'static str,
    /// What it did instead.
    pub fault: TaskFault,
}

impl fmt::Display for TaskFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {} {}", self.name, self.fault)
    }
}

impl Error for TaskFailed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.fault {
            TaskFault::Failed(source) => Some(&**source),
            TaskFault::Ended | TaskFault::Panicked(_) | TaskFault::Stuck => None,
        }
    }
}

/// How a supervised task failed.
#[derive(Debug)]
pub enum TaskFault {
    /// It ended before a shutdown was asked for.
    Ended,
    /// It returned an error.
    Failed(BoxError),
    /// It panicked, with this message.
    Panicked(String),
    /// It did not end when it was forced to, and was aborted.
    Stuck,
}

impl fmt::Display for TaskFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("ended before the shutdown"),
            Self::Failed(_) => f.write_str("failed"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Stuck => f.write_str("did not end when forced, and was aborted"),
        }
    }
}

fn panic_text(error: JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else {
        return "aborted".to_owned();
    };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload
            .downcast_ref::<&str>()
            .map_or_else(|| "no message".to_owned(), |text| (*text).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const DEADLINE: Duration = Duration::from_millis(50);

    async fn until_drained(shutdown: Shutdown) -> io::Result<()> {
        shutdown.draining().await;
        Ok(())
    }

    #[tokio::test]
    async fn task_that_ends_early_is_a_failure() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("steady", until_drained(supervisor.shutdown()));
        supervisor.spawn("hasty", async { io::Result::Ok(()) });
        let failed = supervisor.run(DEADLINE).await.unwrap_err();
        assert!(matches!(
            failed,
            TaskFailed {
                name: "hasty",
                fault: TaskFault::Ended
            }
        ));
    }

    #[tokio::test]
    async fn panic_names_the_task_and_its_message() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("listener", async {
            assert_eq!(1, 2, "no such port");
            io::Result::Ok(())
        });
        let failed = supervisor.failed().await;
        let text = failed.to_string();
        assert!(text.starts_with("task listener panicked: ") && text.contains("no such port"));
    }

    #[tokio::test]
    async fn error_is_the_source_of_the_failure() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("store", async {
            Err::<(), _>(io::Error::other("disk full"))
        });
        let failed = supervisor.failed().await;
        assert_eq!(failed.source().unwrap().to_string(), "disk full");
    }

    #[tokio::test]
    async fn task_that_ignores_force_is_aborted_and_named() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("deaf", std::future::pending::<io::Result<()>>());
        supervisor.trigger().force();
        let failed = supervisor.drain(DEADLINE).await.unwrap_err();
        assert!(matches!(
            failed,
            TaskFailed {
                name: "deaf",
                fault: TaskFault::Stuck
            }
        ));
    }

    #[tokio::test]
    async fn tasks_are_forced_at_the_deadline() {
        let mut supervisor = Supervisor::new();
        let shutdown = supervisor.shutdown();
        supervisor.spawn("stream", async move {
            shutdown.forced().await;
            io::Result::Ok(())
        });
        assert!(supervisor.drain(DEADLINE).await.is_ok());
    }

    #[tokio::test]
    async fn asked_for_shutdown_ends_well() {
        let mut supervisor = Supervisor::new();
        supervisor.spawn("steady", until_drained(supervisor.shutdown()));
        supervisor.trigger().drain();
        assert!(supervisor.run(DEADLINE).await.is_ok());
    }
}
