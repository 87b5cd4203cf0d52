//! Processes that whoever embeds this agent has started as workloads: a selector beside the
//! registry's, for one uid that runs several programs.
//!
//! Invariant: it only narrows. A process that is not registered here, and does not descend from
//! one that is, gets nothing from an agent that serves spawned processes only.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use identity::QualifiedName;

use super::process::Process;

/// The registered processes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spawned {
    only: bool,
    roots: Arc<Mutex<HashMap<QualifiedName, Vec<Process>>>>,
}

impl Spawned {
    /// With `only`, a workload without a registered process has no process at all.
    pub(crate) fn new(only: bool) -> Self {
        Self {
            only,
            roots: Arc::default(),
        }
    }

    pub(crate) fn register(&self, workload: &QualifiedName, pid: i32) -> io::Result<()> {
        let process = Process::open(pid)?;
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        let of_workload = roots.entry(workload.clone()).or_default();
        of_workload.retain(Process::is_alive);
        of_workload.push(process);
        Ok(())
    }

    /// Whether `process` may be `workload` as far as this selector goes.
    pub(crate) fn admits(&self, workload: &QualifiedName, process: &Process) -> io::Result<bool> {
        let roots = self.roots_of(workload);
        if roots.is_empty() {
            return Ok(!self.only);
        }
        for root in &roots {
            if process.descends_from(root)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn roots_of(&self, workload: &QualifiedName) -> Vec<Process> {
        let roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        roots.get(workload).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_pid() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    fn orders() -> QualifiedName {
        "shop/orders".parse().unwrap()
    }

    #[tokio::test]
    async fn process_that_was_not_spawned_is_not_admitted() {
        let spawned = Spawned::new(true);
        let own = Process::open(own_pid()).unwrap();
        assert!(!spawned.admits(&orders(), &own).unwrap());
    }

    #[tokio::test]
    async fn process_spawned_as_another_workload_is_not_admitted() {
        let spawned = Spawned::new(true);
        spawned
            .register(&"shop/checkout".parse().unwrap(), own_pid())
            .unwrap();
        let own = Process::open(own_pid()).unwrap();
        assert!(!spawned.admits(&orders(), &own).unwrap());
    }

    #[tokio::test]
    async fn spawned_process_is_admitted() {
        let spawned = Spawned::new(true);
        spawned.register(&orders(), own_pid()).unwrap();
        let own = Process::open(own_pid()).unwrap();
        assert!(spawned.admits(&orders(), &own).unwrap());
    }
}
