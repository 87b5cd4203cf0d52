//! Processes that the program left behind: this process is their subreaper.
//!
//! Invariant: after [`end_all`] no descendant that the kernel gave to this process runs on.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, waitid};
use tokio::time::{Instant, sleep};

const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Reaps ended children other than `program`, whose status its owner waits for.
pub(super) fn reap(program: u32) {
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    for child in children() {
        if u32::try_from(child.as_raw_pid()) != Ok(program) {
            // Nothing to reap is the usual answer.
            let _not_ended = waitid(WaitId::Pid(child), ended);
        }
    }
}

/// Asks all children to end, and kills those that have not after `grace`.
pub(super) async fn end_all(grace: Duration) {
    signal_all(Signal::TERM);
    let deadline = Instant::now() + grace;
    while !children().is_empty() {
        if Instant::now() >= deadline {
            signal_all(Signal::KILL);
        }
        reap(0);
        sleep(LOOK_AGAIN).await;
    }
}

fn signal_all(signal: Signal) {
    for child in children() {
        // It is not reaped yet, so the pid is still its own.
        let _ended = kill_process(child, signal);
    }
}

/// The children of this process, from `/proc/<pid>/stat` (proc(5), field 4 is the parent).
fn children() -> Vec<Pid> {
    let own = getpid();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .filter(|pid| parent(*pid) == Some(own))
        .collect()
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
    parent_field(&stat)
}

/// The name of the executable, field 2, may contain spaces and parentheses.
fn parent_field(stat: &str) -> Option<Pid> {
    let (_, after_name) = stat.rsplit_once(')')?;
    Pid::from_raw(after_name.split_ascii_whitespace().nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_with_parentheses_does_not_hide_the_parent() {
        let parent = parent_field("7 (a) S 1 (b)) S 42 7 7 0");
        assert_eq!(parent, Pid::from_raw(42));
    }

    #[test]
    fn broken_line_has_no_parent() {
        assert_eq!(parent_field("7 (a) S"), None);
    }
}
