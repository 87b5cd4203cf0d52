//! What the proxy tells of itself: metrics, how many of them, and traces.
//!
//! Refuses a trace collector that would be reached in the clear beyond this host, unless told
//! that this is meant: spans hold identities and paths. Beyond it they leave by TLS.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use runtime::Span;
use serde::Deserialize;

use super::InvalidConfig;

/// How calls are counted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Labels of the series of calls, beside `direction`. What is not listed is summed up.
    pub labels: BTreeSet<Label>,
    /// Most series (pairs of source and target, by direction and protocol) that are kept; what is
    /// beyond counts as `other`.
    pub series: usize,
    /// A series that has not counted for so long is forgotten.
    pub idle: Span,
}

/// Where spans go, and which calls have one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracing {
    /// An OTLP collector that speaks gRPC, as `http://127.0.0.1:4317` or
    /// `https://collector.example:4317`.
    pub endpoint: String,
    /// For `https`, a PEM file of the authorities that may vouch for the collector, and no others;
    /// those of the operating system unless given.
    #[serde(default)]
    pub roots: Option<PathBuf>,
    /// Of the calls that bring no trace context, the share that starts a trace. What the caller
    /// says is followed in any case.
    #[serde(default)]
    pub ratio: f64,
    /// Spans that wait at most; more are dropped and counted.
    #[serde(default = "default_queue")]
    pub queue: usize,
    /// Lets spans leave this host in the clear.
    #[serde(default)]
    pub danger_cleartext: bool,
}

/// A label that series of calls may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    Source,
    Target,
    Protocol,
    Verdict,
    Reason,
    StatusClass,
}

impl Label {
    const ALL: [Self; 6] = [
        Self::Source,
        Self::Target,
        Self::Protocol,
        Self::Verdict,
        Self::Reason,
        Self::StatusClass,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Protocol => "protocol",
            Self::Verdict => "verdict",
            Self::Reason => "reason",
            Self::StatusClass => "status_class",
        }
    }
}

impl Tracing {
    /// With every default.
    pub fn to(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            roots: None,
            ratio: 0.0,
            queue: default_queue(),
            danger_cleartext: false,
        }
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        let invalid = |field, rule| Err(InvalidConfig::Tracing { field, rule });
        if !(0.0..=1.0).contains(&self.ratio) {
            return invalid("ratio", "lies between 0 and 1");
        }
        if self.queue == 0 {
            return invalid("queue", "must not be zero");
        }
        if self.roots.as_ref().is_some_and(|it| !it.is_absolute()) {
            return invalid("roots", "is an absolute path");
        }
        let Ok(endpoint) = self.endpoint.parse::<Uri>() else {
            return invalid("endpoint", "is no URL");
        };
        match (endpoint.scheme_str(), endpoint.host()) {
            (Some("http"), Some(host)) if self.danger_cleartext || is_this_host(host) => Ok(()),
            (Some("http"), Some(_)) => invalid(
                "endpoint",
                "is not on loopback, and spans would leave this host in the clear; \
                 `danger_cleartext` permits it",
            ),
            (Some("https"), Some(_)) => Ok(()),
            _ => invalid(
                "endpoint",
                "has the form http://host:port or https://host:port",
            ),
        }
    }
}

fn is_this_host(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

fn default_queue() -> usize {
    2048
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            labels: BTreeSet::from(Label::ALL),
            series: 500,
            idle: Span::from(Duration::from_secs(15 * 60)),
        }
    }
}
