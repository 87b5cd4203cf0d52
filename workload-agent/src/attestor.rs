//! The attestor of workloads: which of the assigned identities a caller is entitled to.
//!
//! Invariant: every selector of an entry must fit, there is one at least, and the caller was alive
//! after everything was read. Only this module makes an [`Entitled`].

use std::collections::BTreeMap;
use std::io;

use identity::SpiffeId;

use crate::caller::{Caller, Digests, Executable, Spawned};
use crate::cgroup::{Cgroup, Container};
use crate::view::{Assignment, ContainerSelector, Selectors, UnixSelectors};

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
        let cgroup = cgroup(caller, &by_socket)?;
        let mut entitled = Vec::new();
        for entry in by_socket {
            let fits = executable
                .as_ref()
                .is_none_or(|executable| fits_executable(&entry.selectors, executable))
                && fits_cgroup(&entry.selectors, &cgroup);
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
        let unix = || {
            entries
                .iter()
                .filter_map(|entry| entry.selectors.unix.as_ref())
        };
        let hashed = unix().any(|unix| unix.sha256.is_some());
        let named = unix().any(|unix| unix.path.is_some());
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

/// Where the caller is in the host's cgroups, if any of the entries asks for it.
fn cgroup(caller: &Caller, entries: &[&Assignment]) -> Result<Cgroup, NotEntitled> {
    let asked =
        |entry: &&Assignment| entry.selectors.unit.is_some() || entry.selectors.container.is_some();
    if !entries.iter().any(asked) {
        return Ok(Cgroup::default());
    }
    let read = |pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    let text = caller.process.read(read).map_err(unreadable)?;
    let cgroup = Cgroup::parse(&text).unwrap_or_else(|error| {
        // Entries that ask for nothing of it may fit all the same.
        tracing::warn!(pid = caller.process.pid(), %error, "a caller's cgroup proves nothing");
        Cgroup::default()
    });
    Ok(cgroup)
}

fn fits_socket(selectors: &Selectors, caller: &Caller) -> bool {
    let Selectors {
        unix,
        unit,
        container,
    } = selectors;
    let fits = |unix: &UnixSelectors| {
        unix.uid == Some(caller.uid) && unix.gid.is_none_or(|gid| gid == caller.gid)
    };
    match unix {
        Some(unix) => fits(unix),
        None => unit.is_some() || container.is_some(),
    }
}

fn fits_executable(selectors: &Selectors, executable: &Executable) -> bool {
    let Some(unix) = &selectors.unix else {
        return true;
    };
    let path = unix.path.as_ref();
    let digest = unix.sha256;
    path.is_none_or(|path| *path == executable.path)
        && digest.is_none_or(|digest| executable.sha256 == Some(digest))
}

fn fits_cgroup(selectors: &Selectors, cgroup: &Cgroup) -> bool {
    let unit = selectors.unit.as_ref();
    let unit = unit.is_none_or(|unit| cgroup.unit.as_ref() == Some(unit));
    let container = selectors.container.as_ref();
    unit && container.is_none_or(|wanted| fits_container(wanted, cgroup.container.as_ref()))
}

fn fits_container(wanted: &ContainerSelector, found: Option<&Container>) -> bool {
    let Some(found) = found else {
        return false;
    };
    let id = wanted.id.as_ref().is_none_or(|id| *id == found.id);
    let pod = wanted.pod.as_ref();
    id && pod.is_none_or(|pod| found.pod.as_ref() == Some(pod))
}

fn unreadable(error: io::Error) -> NotEntitled {
    match error.kind() {
        io::ErrorKind::NotFound => NotEntitled::Exited,
        _ => NotEntitled::Unreadable(error),
    }
}

#[cfg(test)]
mod tests;
