//! The unix attestor: which of the assigned identities a caller is entitled to.
//!
//! Invariant: every selector of an entry must fit, a uid is one of them, and the caller was alive
//! after everything was read. Only this module makes an [`Entitled`].

use std::collections::BTreeMap;
use std::io;

use identity::SpiffeId;

use crate::caller::{Caller, Digests, Executable, Spawned};
use crate::view::{Assignment, UnixSelectors};

/// Compares callers with the registry's selectors. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Attestor {
    digests: Digests,
    spawned: Spawned,
}

/// Evidence: the caller was found to be these workloads just now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entitled(Vec<Assignment>);

/// Why a caller gets nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotEntitled {
    #[error("no workload assigned to this agent fits the caller (uid {uid}, gid {gid}, pid {pid})")]
    NoMatch { uid: u32, gid: u32, pid: i32 },
    #[error("the calling process has exited")]
    Exited,
    #[error("the calling process cannot be examined")]
    Unreadable(#[source] io::Error),
}

impl Attestor {
    pub(crate) fn new(spawned: Spawned) -> Self {
        Self {
            digests: Digests::default(),
            spawned,
        }
    }

    /// Reads `/proc` and may hash a file: call it where blocking is allowed.
    pub(crate) fn attest(
        &self,
        caller: &Caller,
        assignments: &BTreeMap<SpiffeId, Assignment>,
    ) -> Result<Entitled, NotEntitled> {
        let by_socket: Vec<&Assignment> = assignments
            .values()
            .filter(|entry| fits_socket(&entry.selectors, caller))
            .collect();
        let executable = self.executable(caller, &by_socket)?;
        let mut entitled = Vec::new();
        for entry in by_socket {
            let fits = executable
                .as_ref()
                .is_none_or(|executable| fits_executable(&entry.selectors, executable));
            let admitted = self.spawned.admits(&entry.workload, &caller.process);
            if fits && admitted.map_err(unreadable)? {
                entitled.push(entry.clone());
            }
        }
        if !caller.process.is_alive() {
            return Err(NotEntitled::Exited);
        }
        if entitled.is_empty() {
            return Err(NotEntitled::NoMatch {
                uid: caller.uid,
                gid: caller.gid,
                pid: caller.process.pid(),
            });
        }
        Ok(Entitled(entitled))
    }

    /// What the caller runs, if any of the entries asks for it.
    fn executable(
        &self,
        caller: &Caller,
        entries: &[&Assignment],
    ) -> Result<Option<Executable>, NotEntitled> {
        let hashed = entries.iter().any(|entry| entry.selectors.sha256.is_some());
        let named = entries.iter().any(|entry| entry.selectors.path.is_some());
        if !hashed && !named {
            return Ok(None);
        }
        let digests = hashed.then_some(&self.digests);
        Executable::of(&caller.process, digests)
            .map(Some)
            .map_err(unreadable)
    }
}

impl Entitled {
    /// Ordered by SPIFFE ID.
    pub(crate) fn assignments(&self) -> &[Assignment] {
        &self.0
    }
}

fn fits_socket(selectors: &UnixSelectors, caller: &Caller) -> bool {
    selectors.uid == Some(caller.uid) && selectors.gid.is_none_or(|gid| gid == caller.gid)
}

fn fits_executable(selectors: &UnixSelectors, executable: &Executable) -> bool {
    let path = selectors
        .path
        .as_ref()
        .is_none_or(|path| *path == executable.path);
    let digest = selectors
        .sha256
        .is_none_or(|digest| executable.sha256 == Some(digest));
    path && digest
}

fn unreadable(error: io::Error) -> NotEntitled {
    match error.kind() {
        io::ErrorKind::NotFound => NotEntitled::Exited,
        _ => NotEntitled::Unreadable(error),
    }
}

#[cfg(test)]
mod tests;
