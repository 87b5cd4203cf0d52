//! The last few revisions, so that an agent which was away for a moment gets a delta instead of a
//! snapshot.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use policy::Revision;
use runtime::Shutdown;

use crate::issue::{Assignments, Directory};

const KEPT: usize = 8;

/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct History(Arc<Mutex<VecDeque<Arc<Assignments>>>>);

/// Keeps a [`History`] up to date.
#[derive(Debug)]
pub(crate) struct HistoryKeeper {
    history: History,
    directory: Directory,
}

impl History {
    /// The state of the registry at `revision`, if it is kept still.
    pub(super) fn at(&self, revision: Revision) -> Option<Arc<Assignments>> {
        self.kept()
            .iter()
            .find(|kept| kept.snapshot().revision() == revision)
            .cloned()
    }

    fn push(&self, assignments: Arc<Assignments>) {
        let mut kept = self.kept();
        let revision = assignments.snapshot().revision();
        if kept
            .back()
            .is_some_and(|last| last.snapshot().revision() == revision)
        {
            return;
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(assignments);
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Assignments>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HistoryKeeper {
    pub(crate) fn new(directory: Directory) -> (History, Self) {
        let history = History::default();
        history.push(directory.current());
        let keeper = Self {
            history: history.clone(),
            directory,
        };
        (history, keeper)
    }

    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut snapshots = self.directory.registry().subscribe();
        loop {
            self.history.push(self.directory.current());
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                changed = snapshots.changed() => if changed.is_err() {
                    shutdown.draining().await;
                    return Ok(());
                },
            }
        }
    }
}
