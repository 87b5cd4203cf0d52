//! Memory and descriptors of the calling proxy, which lives through all of it.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::world::World;

const EVERY: Duration = Duration::from_millis(500);
/// Of the second quarter's median, until the last quarter.
const GROWTH: f64 = 1.10;
const GROWTH_KIB: u64 = 2048;
const GROWTH_DESCRIPTORS: u64 = 16;

/// What was sampled, in order: resident KiB and open descriptors.
#[derive(Debug, Default)]
pub(crate) struct Usage(Vec<(u64, u64)>);

impl Usage {
    pub(crate) fn is_flat(&self) -> bool {
        let (early, late) = (self.quarter(1), self.quarter(3));
        let bound = (early.0 as f64 * GROWTH) as u64 + GROWTH_KIB;
        early.0 > 0 && late.0 <= bound && late.1 <= early.1 + GROWTH_DESCRIPTORS
    }

    pub(crate) fn figures(&self) -> Value {
        let (early, late) = (self.quarter(1), self.quarter(3));
        json!({
            "resident_kib": {"second_quarter": early.0, "last_quarter": late.0},
            "descriptors": {"second_quarter": early.1, "last_quarter": late.1},
        })
    }

    /// Medians; the first quarter, number 0, warms up.
    fn quarter(&self, number: usize) -> (u64, u64) {
        let length = self.0.len() / 4;
        let part = &self.0[number * length..(number + 1) * length];
        let median = |mut values: Vec<u64>| {
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or(0)
        };
        (
            median(part.iter().map(|it| it.0).collect()),
            median(part.iter().map(|it| it.1).collect()),
        )
    }
}

pub(crate) fn spawn(world: &World, end: &CancellationToken) -> JoinSet<Usage> {
    let (pid, end) = (world.checkout.proxy.pid(), end.clone());
    let mut sampling = JoinSet::new();
    sampling.spawn(async move {
        let mut usage = Usage::default();
        while !end.is_cancelled() {
            usage.0.extend(sample(pid));
            sleep(EVERY).await;
        }
        usage
    });
    sampling
}

fn sample(pid: u32) -> Option<(u64, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident = resident
        .trim()
        .trim_end_matches(" kB")
        .trim()
        .parse()
        .ok()?;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some((resident, open as u64))
}
