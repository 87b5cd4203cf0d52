//! The machine and what its processors spend: CPU time of processes and threads, resident memory.

use std::fs;
use std::thread::available_parallelism;
use std::time::Duration;

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

/// Processor, cores and kernel.
pub(crate) fn describe() -> String {
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |rest| {
        rest.trim_start_matches([' ', '\t', ':'])
    });
    let cores = available_parallelism().map_or(0, usize::from);
    format!(
        "{model}, {cores} cores, Linux {}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// User and system time of all threads of `pid`, those that have ended included.
///
/// # Errors
/// When there is no such process.
pub(crate) fn process_cpu(pid: u32) -> nix::Result<Duration> {
    let pid = Pid::from_raw(i32::try_from(pid).map_err(|_| nix::Error::ESRCH)?);
    Ok(clock_getcpuclockid(pid)?.now()?.into())
}

/// User and system time of this thread.
pub(crate) fn thread_cpu() -> Duration {
    let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    now.expect("every thread has a CPU clock").into()
}

/// Resident set, MiB; what is shared with other processes counts in full.
pub(crate) fn rss_mib(pid: u32) -> f64 {
    let status = read(&format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
