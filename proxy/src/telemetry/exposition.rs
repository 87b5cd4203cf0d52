//! The series of calls as OpenMetrics families.
//!
//! Labels that the configuration does not list are left out, and what differs only in them is
//! one sample.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::histogram::Durations;
use super::series::{Book, Key, StatusClass, Totals};
use crate::config::Label;
use crate::failure::Reason;
use crate::record::Verdict;

#[derive(Debug)]
pub(super) struct Exposition {
    book: Arc<Book>,
    labels: BTreeSet<Label>,
}

type Labels = Vec<(&'static str, String)>;

impl Exposition {
    pub(super) fn new(book: Arc<Book>, labels: BTreeSet<Label>) -> Self {
        Self { book, labels }
    }

    fn labels(&self, key: &Key) -> Labels {
        let mut labels = vec![("direction", key.direction.as_str().to_owned())];
        for label in &self.labels {
            let value = match label {
                Label::Source => key.source.to_string(),
                Label::Target => key.target.to_string(),
                Label::Protocol => key.protocol.as_str().to_owned(),
                Label::Verdict | Label::Reason | Label::StatusClass => continue,
            };
            labels.push((label.name(), value));
        }
        labels
    }

    fn outcome_labels(&self, key: &Key, reason: Option<Reason>, class: StatusClass) -> Labels {
        let mut labels = self.labels(key);
        for label in &self.labels {
            let value = match label {
                Label::Verdict => Verdict::of(reason).as_str(),
                Label::Reason => reason.map_or("", Reason::code),
                Label::StatusClass => class.as_str(),
                Label::Source | Label::Target | Label::Protocol => continue,
            };
            labels.push((label.name(), value.to_owned()));
        }
        labels
    }

    /// Samples by the labels that are told.
    fn sums(
        &self,
        series: &BTreeMap<Key, Totals>,
        value: impl Fn(&Totals) -> u64,
    ) -> BTreeMap<Labels, u64> {
        let mut sums = BTreeMap::new();
        for (key, totals) in series {
            *sums.entry(self.labels(key)).or_default() += value(totals);
        }
        sums
    }

    fn calls(&self, series: &BTreeMap<Key, Totals>) -> BTreeMap<Labels, u64> {
        let mut sums = BTreeMap::new();
        for (key, totals) in series {
            for ((reason, class), count) in &totals.outcomes {
                let labels = self.outcome_labels(key, *reason, *class);
                *sums.entry(labels).or_default() += count;
            }
        }
        sums
    }

    fn durations(&self, series: &BTreeMap<Key, Totals>) -> BTreeMap<Labels, Durations> {
        let mut sums: BTreeMap<_, Durations> = BTreeMap::new();
        for (key, totals) in series {
            sums.entry(self.labels(key))
                .or_default()
                .add(&totals.durations);
        }
        sums
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let series = self.book.read();
        let help = "Requests and TCP connections that ended";
        counters(&mut encoder, "calls", help, None, &self.calls(&series))?;
        let help = "Body bytes from callers";
        let bytes = self.sums(&series, |it| it.bytes_in);
        counters(
            &mut encoder,
            "call_received",
            help,
            Some(&Unit::Bytes),
            &bytes,
        )?;
        let help = "Body bytes to callers";
        let bytes = self.sums(&series, |it| it.bytes_out);
        counters(&mut encoder, "call_sent", help, Some(&Unit::Bytes), &bytes)?;
        let help = "Further attempts that calls took";
        let retries = self.sums(&series, |it| it.retries);
        counters(&mut encoder, "call_retries", help, None, &retries)?;
        let help = "How long calls took, to the last byte";
        let kind = MetricType::Histogram;
        let unit = Some(&Unit::Seconds);
        let mut family = encoder.encode_descriptor("call_duration", help, unit, kind)?;
        for (labels, durations) in &self.durations(&series) {
            family
                .encode_family(&labels.as_slice())?
                .encode_histogram::<NoLabelSet>(
                    durations.sum_seconds(),
                    durations.count(),
                    &durations.in_seconds(),
                    None,
                )?;
        }
        let (size, overflowed) = self.book.size();
        let help = "Series of calls that are kept";
        let family = encoder.encode_descriptor("series", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(size).unwrap_or(i64::MAX)).encode(family)?;
        let help = "Times that there was no room for another series, and `other` took the calls";
        let kind = MetricType::Counter;
        let family = encoder.encode_descriptor("series_overflows", help, None, kind)?;
        ConstCounter::new(overflowed).encode(family)
    }
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    samples: &BTreeMap<Labels, u64>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
    for (labels, value) in samples {
        ConstCounter::new(*value).encode(family.encode_family(&labels.as_slice())?)?;
    }
    Ok(())
}
