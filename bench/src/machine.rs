//! The machine and what its processors spend: CPU time of processes and threads, resident memory,
//! and what others took meanwhile.

use std::fs;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// A processor for what is measured and one for what measures it, of those that we may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    pub(crate) measured: usize,
    pub(crate) load: usize,
}

/// A moment in the accounts of all processors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accounts {
    elapsed: f64,
    busy: f64,
    ours: f64,
}

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

/// How TCP paces itself here.
pub(crate) fn congestion_control() -> String {
    read("/proc/sys/net/ipv4/tcp_congestion_control")
        .trim()
        .to_owned()
}

impl Places {
    /// The first and the last processor; the same one where there is no other.
    pub(crate) fn find() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::this())?;
        let mut cpus = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        let measured = cpus.next().context("some processor is ours")?;
        let load = cpus.next().unwrap_or(measured);
        Ok(Self { measured, load })
    }
}

/// Binds all threads of a process that there are now; those it starts later inherit it.
pub(crate) fn pin(pid: u32, cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.file_name().to_string_lossy().parse()?;
        sched_setaffinity(Pid::from_raw(thread), &set)?;
    }
    Ok(())
}

/// A process and all that descend from it.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let children = read(&thread.path().join("children").to_string_lossy());
            found.extend(children.split_whitespace().flat_map(str::parse::<u32>));
        }
    }
    found
}

impl Accounts {
    pub(crate) fn now() -> Result<Self> {
        let stat = read("/proc/stat");
        let first = stat.lines().next().context("/proc/stat has a line")?;
        let fields = first.split_whitespace().skip(1);
        let ticks: Vec<f64> = fields.map(str::parse).collect::<Result<_, _>>()?;
        // user nice system idle iowait irq softirq steal (proc_stat(5)); guests are in user.
        let ticks = ticks.get(..8).context("/proc/stat has eight times")?;
        let hertz = sysconf(SysconfVar::CLK_TCK)?.context("the kernel has ticks")? as f64;
        let elapsed = ticks.iter().sum::<f64>() / hertz;
        let ours = family(std::process::id()).into_iter();
        Ok(Self {
            elapsed,
            busy: elapsed - (ticks[3] + ticks[4]) / hertz,
            ours: ours
                .flat_map(process_cpu)
                .map(|cpu| cpu.as_secs_f64())
                .sum(),
        })
    }

    /// The share of the machine that went to others since: processes not ours, the host included.
    pub(crate) fn others_since(&self, before: &Self) -> f64 {
        let busy = self.busy - before.busy;
        let ours = self.ours - before.ours;
        (busy - ours).max(0.0) / (self.elapsed - before.elapsed).max(0.01)
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
