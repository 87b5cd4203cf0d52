//! Looks from time to time, for the metrics and the alarms.

use std::convert::Infallible;
use std::time::Duration;

use runtime::Shutdown;

use super::{EndingKind, Horizon, Horizons};
use crate::metrics::Metrics;

const FASTEST: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(60);

/// The background job.
#[derive(Debug)]
pub(crate) struct HorizonKeeper {
    pub(crate) horizons: Horizons,
    pub(crate) metrics: Metrics,
}

/// What was said already.
#[derive(Debug, Default)]
struct Said {
    near: Vec<(EndingKind, String)>,
    late: bool,
}

impl HorizonKeeper {
    /// Runs until the shutdown begins.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        let shortest = self.horizons.lifetimes.agent;
        let shortest = shortest.min(self.horizons.lifetimes.workload);
        let pause = (shortest / 16).clamp(FASTEST, SLOWEST);
        let mut said = Said::default();
        loop {
            match self.horizons.look().await {
                Ok(horizon) => {
                    self.metrics.horizon(&horizon);
                    said.alarm(&horizon);
                }
                Err(error) => tracing::debug!(
                    error = %runtime::exit::one_line(&error),
                    "what ends next cannot be read"
                ),
            }
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

impl Said {
    /// Once for each authority, and once until nothing is late any more.
    fn alarm(&mut self, horizon: &Horizon) {
        let authorities = horizon.endings.iter().filter(|ending| {
            ending.near
                && matches!(
                    ending.kind,
                    EndingKind::Root | EndingKind::Upstream | EndingKind::Intermediate
                )
        });
        let mut near = Vec::new();
        for ending in authorities {
            let key = (ending.kind, ending.name.clone());
            if !self.near.contains(&key) {
                tracing::error!(
                    alarm = "expiry-near",
                    kind = ending.kind.as_str(),
                    name = ending.name,
                    ends = %ending.not_after,
                    "an authority nears its end, and has no successor"
                );
            }
            near.push(key);
        }
        self.near = near;
        if let Some(first) = horizon.late.first().filter(|_| !self.late) {
            tracing::warn!(
                alarm = "not-renewed",
                certificates = horizon.late_count,
                first = %first.spiffe_id,
                agent = %first.agent_id,
                ends = %first.not_after,
                "certificates are not renewed; `countersign status` names them"
            );
        }
        self.late = !horizon.late.is_empty();
    }
}
