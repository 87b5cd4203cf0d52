//! The agent's metrics, read from its status at the moment they are asked for.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use runtime::Clock;

use crate::status::{AgentStatus, StatusSource};

/// Everything under the prefix `countersign_agent`.
pub(crate) fn registry(status: StatusSource, clock: Clock) -> Registry {
    let mut registry = Registry::with_prefix("countersign_agent");
    registry.register_collector(Box::new(StatusCollector { status, clock }));
    registry
}

#[derive(Debug)]
struct StatusCollector {
    status: StatusSource,
    clock: Clock,
}

impl Collector for StatusCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = self.status.now(self.clock.now());
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: f64| {
            let metric = ConstGauge::new(value);
            let descriptor = encoder.encode_descriptor(name, help, unit, metric.metric_type())?;
            metric.encode(descriptor)
        };
        gauge(
            "connected",
            "Whether the CA's stream is open",
            None,
            f64::from(u8::from(status.connected)),
        )?;
        gauge(
            "identities",
            "Certificates held, the agent's own included",
            None,
            count(status.identities.len()),
        )?;
        gauge(
            "proxies",
            "Proxies on the feed",
            None,
            count(status.proxies.len()),
        )?;
        if let Some(left) = status.survives_for {
            let help = "How long traffic goes on without the CA";
            gauge("survives", help, Some(&Unit::Seconds), left.as_secs_f64())?;
        }
        if let Some(offset) = status.clock_offset_ms {
            let help = "The CA's clock minus this host's";
            let seconds = std::time::Duration::from_millis(offset.unsigned_abs()).as_secs_f64();
            gauge(
                "clock_offset",
                help,
                Some(&Unit::Seconds),
                seconds.copysign(sign(offset)),
            )?;
        }
        let renewals = ConstCounter::new(renewals(&status));
        let descriptor = encoder.encode_descriptor(
            "renewals",
            "Certificates after the first, for the identities held now",
            None,
            renewals.metric_type(),
        )?;
        renewals.encode(descriptor)
    }
}

fn renewals(status: &AgentStatus) -> u64 {
    status
        .identities
        .iter()
        .map(|identity| identity.renewals)
        .sum()
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

fn sign(offset: i64) -> f64 {
    if offset < 0 { -1.0 } else { 1.0 }
}
