//! `countersign tap`: calls as they end, live from the proxies of this host.

use std::pin::Pin;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::stream::select_all;
use futures_util::{Stream, StreamExt};
use runtime::Span;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::output;
use crate::proxies::{ProxyArguments, ProxySocket, encoded, short};

/// Show calls as they end: who called whom, what became of it, and why
#[derive(Debug, Args)]
#[command(after_help = "\
Asks the proxies of `countersign run`, `countersign up --demo` and /run/countersign-proxy/*/admin.sock.
Each call is told by the proxy that it left and by the one that it reached.

Examples:
  countersign tap                              every proxy of this user
  countersign tap shop/orders --denied         what the proxy of shop/orders refuses, and why
  countersign tap --to shop/orders --path /v1/ --method POST
  countersign tap --json --count 1 | jq .")]
pub(crate) struct Tap {
    #[command(flatten)]
    proxies: ProxyArguments,
    /// Calls of this caller only: namespace/name or a SPIFFE ID
    #[arg(long, value_name = "SOURCE")]
    from: Option<String>,
    /// Calls to this service only: namespace/service, with :port if wanted
    #[arg(long, value_name = "TARGET")]
    to: Option<String>,
    /// Denied calls only
    #[arg(long, conflicts_with = "verdict")]
    denied: bool,
    /// Calls with this verdict only
    #[arg(long, value_enum, value_name = "VERDICT")]
    verdict: Option<Verdict>,
    /// Calls that failed for this reason only, such as no-endpoints
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Requests of this method only
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// Requests whose path begins so only
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// Calls that come in, or go out, only
    #[arg(long, value_enum, value_name = "DIRECTION")]
    direction: Option<Direction>,
    /// One JSON object a line, as in the access log
    #[arg(long)]
    json: bool,
    /// End after so many calls
    #[arg(long, value_name = "CALLS")]
    count: Option<u64>,
    /// End after this time
    #[arg(long = "for", value_name = "TIME")]
    length: Option<Span>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Verdict {
    Allowed,
    Denied,
    Failed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Direction {
    Inbound,
    Outbound,
}

type Lines = Pin<Box<dyn Stream<Item = String> + Send>>;

impl Tap {
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let proxies = self.proxies.find().await?;
        let target = self.target();
        let mut taps: Vec<Lines> = Vec::new();
        for proxy in &proxies {
            taps.push(Box::pin(proxy.lines(&target).await?));
        }
        if !self.json {
            output::remark(&heading(&proxies));
        }
        self.follow(select_all(taps)).await
    }

    async fn follow(&self, mut lines: impl Stream<Item = String> + Unpin) -> anyhow::Result<()> {
        let forever = Duration::from_secs(365 * 24 * 3600);
        let end = Instant::now() + self.length.map_or(forever, Span::duration);
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let Ok(Some(line)) = timeout_at(end, lines.next()).await else {
                return Ok(());
            };
            if self.json {
                output::print_text(&format!("{line}\n"))?;
            } else {
                let call = serde_json::from_str(&line).unwrap_or_default();
                output::print_text(&readable(&call))?;
            }
            left -= 1;
        }
        Ok(())
    }

    fn target(&self) -> String {
        let denied = self.denied.then_some(Verdict::Denied);
        let verdict = self.verdict.or(denied).map(|it| match it {
            Verdict::Allowed => "allowed",
            Verdict::Denied => "denied",
            Verdict::Failed => "failed",
        });
        let direction = self.direction.map(|it| match it {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        });
        let filters = [
            ("source", self.from.as_deref()),
            ("target", self.to.as_deref()),
            ("verdict", verdict),
            ("reason", self.reason.as_deref()),
            ("method", self.method.as_deref()),
            ("path", self.path.as_deref()),
            ("direction", direction),
        ];
        let filters: Vec<String> = filters
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", encoded(value?))))
            .collect();
        format!("/calls?{}", filters.join("&"))
    }
}

fn heading(proxies: &[ProxySocket]) -> String {
    let names: Vec<&str> = proxies.iter().map(|it| it.workload.as_str()).collect();
    format!(
        "listening to the proxies of {}; Ctrl-C ends it",
        names.join(", ")
    )
}

/// One line for people.
fn readable(call: &Value) -> String {
    if let Some(lost) = call["countersign.tap.lost"].as_u64() {
        return format!("... {lost} calls were too many to be shown\n");
    }
    let text = |name: &str| call[name].as_str().unwrap_or("-");
    let time = text("timestamp");
    let time = time.split_once('T').map_or(time, |(_, time)| time);
    let status = call["http.response.status_code"].as_u64();
    let why = match text("error.type") {
        "-" => text("countersign.rule").to_owned(),
        reason => match text("countersign.detail") {
            "-" => reason.to_owned(),
            detail => format!("{reason}: {detail}"),
        },
    };
    let retries = match call["http.request.resend_count"].as_u64() {
        None | Some(0) => String::new(),
        Some(retries) => format!("  retries={retries}"),
    };
    let line = format!(
        "{:<12.12} {:<8} {} -> {}  {} {} {}  {}  {}  {}  decision={}{retries}",
        time.trim_end_matches('Z'),
        text("countersign.direction"),
        short(call["countersign.source"].as_str().unwrap_or_default()),
        text("countersign.target"),
        call["http.request.method"].as_str().unwrap_or("tcp"),
        text("url.path"),
        status.map_or_else(|| "-".to_owned(), |it| it.to_string()),
        text("countersign.verdict"),
        milliseconds(&call["duration"]),
        why,
        text("countersign.decision_id"),
    );
    format!("{}\n", line.replace(char::is_control, " "))
}

fn milliseconds(seconds: &Value) -> String {
    let seconds = seconds.as_f64();
    seconds.map_or_else(|| "-".to_owned(), |it| format!("{:.2} ms", it * 1e3))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn control_characters_of_a_path_reach_no_terminal() {
        let call = json!({ "url.path": "/a\u{1b}[2J\nb" });
        let line = readable(&call);
        assert!(
            line.contains("/a [2J b") && line.lines().count() == 1,
            "{line}"
        );
    }

    #[test]
    fn denied_call_is_shown_with_its_reason_and_decision() {
        let line = readable(&json!({
            "timestamp": "2026-01-02T03:04:05.678901Z",
            "countersign.direction": "inbound",
            "countersign.source": "spiffe://mesh.test/ns/shop/sa/intruder",
            "countersign.target": "shop/orders:http",
            "countersign.verdict": "denied",
            "error.type": "policy-denied",
            "countersign.detail": "no rule matched",
            "countersign.decision_id": "0011",
            "http.request.method": "GET",
            "url.path": "/v1",
            "http.response.status_code": 403,
            "duration": 0.0015,
        }));
        assert_eq!(
            line,
            "03:04:05.678 inbound  shop/intruder -> shop/orders:http  GET /v1 403  denied  1.50 ms  \
             policy-denied: no rule matched  decision=0011\n"
        );
    }

    #[test]
    fn calls_that_were_missed_are_told() {
        let line = readable(&json!({ "countersign.tap.lost": 7 }));
        assert_eq!(line, "... 7 calls were too many to be shown\n");
    }
}
