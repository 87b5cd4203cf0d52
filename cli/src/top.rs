//! `countersign top`: who calls whom now, how often, how well and how fast.
//!
//! Invariant: figures are differences of counts that proxies keep anyway, so that looking costs a
//! call nothing and misses none.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use runtime::Span;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::output::{self, Table};
use crate::proxies::{ProxyArguments, ProxyError, ProxySocket, short};
use crate::screen;

/// Show who calls whom: rate, success, latency, denials and retries, live
#[derive(Debug, Args)]
#[command(after_help = "\
Asks the same proxies as `countersign tap`. A call counts at the proxy that it leaves (out) and at
the one that it reaches (in).

Examples:
  countersign top                       every proxy of this user
  countersign top shop/orders --every 1s
  countersign top --once --json | jq '.rows[] | select(.success < 1)'")]
pub(crate) struct Top {
    #[command(flatten)]
    proxies: ProxyArguments,
    /// How long one measurement takes
    #[arg(long, value_name = "TIME", default_value = "2s")]
    every: Span,
    /// Measure once, print, and end
    #[arg(long)]
    once: bool,
    /// Print one JSON document; for scripts
    #[arg(long, requires = "once")]
    json: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    direction: String,
    source: String,
    target: String,
}

/// Counts since a proxy began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    allowed: u64,
    denied: u64,
    failed: u64,
    retries: u64,
    buckets: Vec<u64>,
}

#[derive(Clone, Debug, Default)]
struct Sample {
    bounds_us: Vec<u64>,
    pairs: BTreeMap<Pair, Counts>,
}

/// One line of the table; times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    direction: String,
    source: String,
    target: String,
    calls: u64,
    /// Calls in a second.
    rate: f64,
    /// The share of calls that passed.
    success: f64,
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    denied: u64,
    failed: u64,
    retries: u64,
}

impl Top {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let proxies = self.proxies.find().await?;
        let mut before = sample(&proxies).await?;
        let mut at = Instant::now();
        if !self.once {
            screen::clear()?;
            screen::draw("measuring ...\n")?;
        }
        loop {
            tokio::time::sleep(self.every.duration()).await;
            let after = sample(&proxies).await?;
            let took = at.elapsed();
            at = Instant::now();
            let rows = rows(&before, &after, took);
            before = after;
            if self.json {
                let document = json!({ "interval": took.as_secs_f64(), "rows": rows });
                return output::print_text(&format!("{document:#}\n"));
            }
            let text = table(&rows);
            if self.once {
                return output::print_text(&text);
            }
            screen::draw(&format!(
                "{} proxies, every {}; Ctrl-C ends it\n\n{text}",
                proxies.len(),
                self.every
            ))?;
        }
    }
}

async fn sample(proxies: &[ProxySocket]) -> Result<Sample, ProxyError> {
    let mut sample = Sample::default();
    for proxy in proxies {
        sample.add(&proxy.get("/series").await?);
    }
    Ok(sample)
}

impl Sample {
    fn add(&mut self, answer: &Value) {
        self.bounds_us = numbers(&answer["bounds_us"]);
        for series in answer["series"].as_array().into_iter().flatten() {
            let text = |name: &str| series[name].as_str().unwrap_or_default().to_owned();
            let number = |name: &str| series[name].as_u64().unwrap_or_default();
            let pair = Pair {
                direction: text("direction"),
                source: short(&text("source")),
                target: text("target"),
            };
            self.pairs.entry(pair).or_default().add(&Counts {
                allowed: number("allowed"),
                denied: number("denied"),
                failed: number("failed"),
                retries: number("retries"),
                buckets: numbers(&series["buckets"]),
            });
        }
    }
}

impl Counts {
    fn add(&mut self, more: &Self) {
        self.allowed += more.allowed;
        self.denied += more.denied;
        self.failed += more.failed;
        self.retries += more.retries;
        self.buckets
            .resize(self.buckets.len().max(more.buckets.len()), 0);
        for (sum, more) in self.buckets.iter_mut().zip(&more.buckets) {
            *sum += more;
        }
    }

    /// What was counted since; a series that was forgotten and began again counts from nothing.
    fn since(&self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|before| before.calls() <= self.calls()) else {
            return self.clone();
        };
        let buckets = self.buckets.iter().zip(&before.buckets);
        Self {
            allowed: self.allowed.saturating_sub(before.allowed),
            denied: self.denied.saturating_sub(before.denied),
            failed: self.failed.saturating_sub(before.failed),
            retries: self.retries.saturating_sub(before.retries),
            buckets: buckets
                .map(|(now, then)| now.saturating_sub(*then))
                .collect(),
        }
    }

    fn calls(&self) -> u64 {
        self.allowed + self.denied + self.failed
    }
}

fn rows(before: &Sample, after: &Sample, took: Duration) -> Vec<Row> {
    let mut rows: Vec<Row> = after
        .pairs
        .iter()
        .map(|(pair, counts)| {
            let counts = counts.since(before.pairs.get(pair));
            let calls = counts.calls();
            let quantile = |q| quantile(&after.bounds_us, &counts.buckets, q);
            Row {
                direction: pair.direction.clone(),
                source: pair.source.clone(),
                target: pair.target.clone(),
                calls,
                rate: calls as f64 / took.as_secs_f64(),
                success: if calls == 0 {
                    1.0
                } else {
                    counts.allowed as f64 / calls as f64
                },
                p50: quantile(0.5),
                p95: quantile(0.95),
                p99: quantile(0.99),
                denied: counts.denied,
                failed: counts.failed,
                retries: counts.retries,
            }
        })
        .collect();
    rows.sort_by(|one, other| other.rate.total_cmp(&one.rate));
    rows
}

/// In seconds, interpolated within its bucket; the last bound stands for what is beyond it.
fn quantile(bounds_us: &[u64], buckets: &[u64], q: f64) -> Option<f64> {
    let count: u64 = buckets.iter().sum();
    let mut left = q * count as f64;
    let mut low = 0.0;
    for (at, held) in buckets.iter().enumerate() {
        let Some(bound) = bounds_us.get(at) else {
            break;
        };
        let (held, high) = (*held as f64, *bound as f64);
        if held > 0.0 && left <= held {
            return Some((low + (high - low) * left / held) / 1e6);
        }
        left -= held;
        low = high;
    }
    (count > 0).then_some(low / 1e6)
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "", "SOURCE", "TARGET", "RATE/S", "SUCCESS", "P50", "P95", "P99", "DENIED", "FAILED",
        "RETRIES",
    ]);
    for row in rows {
        table.row([
            row.direction.trim_end_matches("bound").to_owned(),
            row.source.clone(),
            row.target.clone(),
            format!("{:.1}", row.rate),
            format!("{:.2}%", row.success * 100.0),
            milliseconds(row.p50),
            milliseconds(row.p95),
            milliseconds(row.p99),
            row.denied.to_string(),
            row.failed.to_string(),
            row.retries.to_string(),
        ]);
    }
    table.render()
}

fn milliseconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |it| format!("{:.2} ms", it * 1e3))
}

fn numbers(value: &Value) -> Vec<u64> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_u64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(allowed: u64, denied: u64, buckets: &[u64]) -> Sample {
        let mut sample = Sample::default();
        sample.add(&json!({
            "bounds_us": [100, 200],
            "series": [{
                "direction": "inbound", "source": "spiffe://td/ns/shop/sa/web",
                "target": "shop/orders:http", "allowed": allowed, "denied": denied, "failed": 0,
                "retries": 0, "buckets": buckets,
            }],
        }));
        sample
    }

    #[test]
    fn no_calls_have_no_latency() {
        assert_eq!(quantile(&[100, 200], &[0, 0, 0], 0.5), None);
    }

    #[test]
    fn calls_beyond_the_last_bound_are_as_slow_as_it() {
        assert_eq!(quantile(&[100, 200], &[0, 0, 5], 0.99), Some(0.0002));
    }

    #[test]
    fn quantile_lies_within_its_bucket() {
        assert_eq!(quantile(&[100, 200], &[5, 5, 0], 0.5), Some(0.0001));
        assert_eq!(quantile(&[100, 200], &[0, 10, 0], 0.5), Some(0.00015));
    }

    #[test]
    fn what_was_counted_before_the_measurement_is_no_part_of_it() {
        let (before, after) = (sample(100, 50, &[150, 0, 0]), sample(106, 52, &[150, 8, 0]));
        let [row] = &rows(&before, &after, Duration::from_secs(2))[..] else {
            panic!("one pair");
        };
        assert_eq!(
            (row.calls, row.rate, row.success, row.denied),
            (8, 4.0, 0.75, 2)
        );
        assert_eq!((row.source.as_str(), row.p50), ("shop/web", Some(0.00015)));
    }

    #[test]
    fn series_that_began_again_counts_from_nothing() {
        let (before, after) = (sample(100, 0, &[100, 0, 0]), sample(3, 0, &[3, 0, 0]));
        assert_eq!(rows(&before, &after, Duration::from_secs(1))[0].calls, 3);
    }
}
