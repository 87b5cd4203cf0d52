//! A process held by its pidfd, and what `/proc` says of it.
//!
//! Invariant: a fact is returned only if the process was alive after it was read; until then its
//! pid cannot have been given to another.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process that cannot be confused with a later one of the same pid. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pid: i32,
    pidfd: Arc<AsyncFd<OwnedFd>>,
}

impl Process {
    /// Holds on to the process that has `pid` now.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        let raw = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Self::from_pidfd(pid, pidfd_open(raw, PidfdFlags::empty())?)
    }

    #[expect(
        deprecated,
        reason = "the successor is unsafe for the sake of types other than `OwnedFd`, which this is"
    )]
    pub(super) fn from_pidfd(pid: i32, pidfd: OwnedFd) -> io::Result<Self> {
        let pidfd = Arc::new(AsyncFd::with_interest(pidfd, Interest::READABLE)?);
        Ok(Self { pid, pidfd })
    }

    /// For kernels that do not give the peer's pidfd: a process that started after the connection
    /// was accepted has inherited the pid of the one that connected.
    pub(super) fn accepted_just_now(pid: i32) -> io::Result<Self> {
        let accepted = ticks_since_boot()?;
        let process = Self::open(pid)?;
        let started = process.stat()?.started_ticks;
        if started > accepted {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(process)
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    pub(crate) fn is_alive(&self) -> bool {
        let fd = self.pidfd.as_fd();
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // A pidfd becomes readable when its process has exited; an error counts as gone.
        matches!(
            poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&now)),
            Ok(0)
        )
    }

    /// Resolves when the process has exited.
    pub(crate) async fn exited(&self) {
        // An error means that the descriptor says nothing any more: treated as gone.
        drop(self.pidfd.readable().await);
    }

    /// Whether this process is `ancestor`, or was started by it, directly or through others that
    /// are still its parents.
    pub(crate) fn descends_from(&self, ancestor: &Self) -> io::Result<bool> {
        let mut current = self.clone();
        while ancestor.is_alive() {
            if current.pid == ancestor.pid {
                return Ok(true);
            }
            match current.parent()? {
                Some(parent) => current = parent,
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Reads something about this process, and takes it only if the process is still the same.
    pub(crate) fn read<T>(&self, read: impl FnOnce(i32) -> io::Result<T>) -> io::Result<T> {
        let fact = read(self.pid)?;
        if self.is_alive() {
            Ok(fact)
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    /// Absent for the first process of the namespace.
    fn parent(&self) -> io::Result<Option<Self>> {
        let pid = self.stat()?.parent;
        if pid <= 1 {
            return Ok(None);
        }
        let parent = Self::open(pid)?;
        // Had the parent died before it was held, its child would have another one by now.
        if self.stat()?.parent == pid {
            Ok(Some(parent))
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn stat(&self) -> io::Result<Stat> {
        self.read(|pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            Stat::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
        })
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stat {
    parent: i32,
    started_ticks: u64,
}

impl Stat {
    /// Fields 4 and 22 of proc_pid_stat(5). The second is the program's name, which may hold
    /// spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let started_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self {
            parent,
            started_ticks,
        })
    }
}

/// In the unit of `/proc/<pid>/stat`: hundredths of a second on every architecture of Linux.
fn ticks_since_boot() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/uptime")?;
    let parsed = text.split_once(' ').and_then(|(uptime, _)| {
        let (seconds, hundredths) = uptime.split_once('.')?;
        Some(seconds.parse::<u64>().ok()? * 100 + hundredths.parse::<u64>().ok()?)
    });
    parsed.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Waits for its standard input to close, so that it ends with the test.
    fn child() -> Child {
        Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn own() -> Process {
        Process::open(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    #[test]
    fn name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b) 9 S) S 42 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 777 0 0";
        let stat = Stat::parse(text);
        assert_eq!(
            stat,
            Some(Stat {
                parent: 42,
                started_ticks: 777
            })
        );
    }

    #[tokio::test]
    async fn process_that_has_exited_is_not_alive_and_tells_nothing() {
        let mut child = child();
        let process = Process::open(i32::try_from(child.id()).unwrap()).unwrap();
        drop(child.stdin.take());
        process.exited().await;
        assert!(!process.is_alive());
        assert_eq!(process.stat().unwrap_err().kind(), io::ErrorKind::NotFound);
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn parent_does_not_descend_from_its_child() {
        let mut child = child();
        let process = Process::open(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(!own().descends_from(&process).unwrap());
        assert!(process.descends_from(&own()).unwrap());
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn kernel_without_peer_pidfds_is_judged_by_start_time() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(Process::accepted_just_now(own).unwrap().pid(), own);
    }
}
