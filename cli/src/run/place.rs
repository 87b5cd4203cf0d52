//! Where a development run keeps its state, and what runs that were killed have left there.
//!
//! Invariant: a place is locked for as long as its process lives, however that ends, so what is
//! withdrawn in the name of another run is only what nobody holds any more.

use std::path::{Path, PathBuf};

use anyhow::Context;
use identity::QualifiedName;
use runtime::LockFile;
use runtime::files::{private_directory, read_private, write_private};
use serde::{Deserialize, Serialize};

const LOCK: &str = "lock";
const RECORD: &str = "created.json";

/// The directory of one run, named after its agent.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    _lock: LockFile,
}

/// What a run has created in the CA.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) workload: QualifiedName,
    pub(super) agent: String,
    /// Kinds of objects that have the workload's name.
    pub(super) created: Vec<String>,
}

impl Place {
    pub(super) fn open(state: &Path, agent: &str) -> anyhow::Result<Self> {
        Self::lock(state.join(agent))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// For whoever comes after a kill.
    pub(super) fn record(&self, record: &Record) -> anyhow::Result<()> {
        let text = serde_json::to_vec(record)?;
        write_private(self.directory.join(RECORD), &text).context("cannot note what was created")
    }

    /// Nothing of the run is left in the CA.
    pub(super) fn remove(self) {
        // What is left of it is of no use, and does no harm.
        drop(std::fs::remove_dir_all(&self.directory));
    }

    /// Runs of this workload that were killed, each with what it had created.
    pub(super) fn abandoned(state: &Path, workload: &QualifiedName) -> Vec<(Self, Record)> {
        let Ok(entries) = std::fs::read_dir(state) else {
            return Vec::new();
        };
        let directories = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let left = directories.filter_map(|directory| {
            let record = read_private(directory.join(RECORD)).ok()?;
            let record: Record = serde_json::from_slice(&record).ok()?;
            let is_its = record.workload == *workload && directory.ends_with(&record.agent);
            let place = is_its.then(|| Self::lock(directory))?;
            Some((place.ok()?, record))
        });
        left.collect()
    }

    fn lock(directory: PathBuf) -> anyhow::Result<Self> {
        private_directory(&directory)?;
        let lock = LockFile::acquire(directory.join(LOCK))?;
        Ok(Self {
            directory,
            _lock: lock,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(workload: &str, agent: &str) -> Record {
        Record {
            workload: workload.parse().unwrap(),
            agent: agent.to_owned(),
            created: vec!["Workload".to_owned()],
        }
    }

    fn agents_left(state: &Path) -> Vec<String> {
        let left = Place::abandoned(state, &"shop/orders".parse().unwrap());
        left.into_iter().map(|(_, record)| record.agent).collect()
    }

    #[test]
    fn what_a_live_run_created_is_not_anybody_elses_to_withdraw() {
        let state = tempfile::tempdir().unwrap();
        let place = Place::open(state.path(), "run-orders-1").unwrap();
        place
            .record(&record("shop/orders", "run-orders-1"))
            .unwrap();
        assert!(agents_left(state.path()).is_empty());
        drop(place);
        assert_eq!(agents_left(state.path()), ["run-orders-1"]);
    }

    #[test]
    fn runs_of_other_workloads_and_records_out_of_place_are_left_alone() {
        let state = tempfile::tempdir().unwrap();
        for (agent, said) in [
            ("run-orders-1", record("bi/orders", "run-orders-1")),
            ("run-orders-2", record("shop/orders", "run-orders-9")),
        ] {
            let place = Place::open(state.path(), agent).unwrap();
            place.record(&said).unwrap();
        }
        drop(Place::open(state.path(), "run-orders-3").unwrap());
        assert!(agents_left(state.path()).is_empty());
    }

    #[test]
    fn a_run_that_ended_well_leaves_nothing() {
        let state = tempfile::tempdir().unwrap();
        let place = Place::open(state.path(), "run-orders-1").unwrap();
        place
            .record(&record("shop/orders", "run-orders-1"))
            .unwrap();
        place.remove();
        assert!(agents_left(state.path()).is_empty());
    }
}
