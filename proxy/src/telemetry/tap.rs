//! The tap: calls as they end, as JSON lines on the administration socket, to whoever may read it.
//!
//! Costs nothing while nobody listens. A reader that is too slow loses the oldest calls and is
//! told how many; the number of readers is bounded.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use identity::{QualifiedName, SpiffeId};
use runtime::Shutdown;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Journal;
use super::histogram::BOUNDS_US;
use super::series::{Key, Totals};
use crate::failure::Reason;
use crate::record::{CallRecord, Verdict};

/// Readers at once.
const MOST_TAPS: usize = 16;
/// Calls of one piece of the stream.
const PIECE: usize = 64;

#[derive(Clone)]
struct Source {
    journal: Journal,
    room: Arc<Semaphore>,
    shutdown: Shutdown,
}

/// Which calls are told; what is left out matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// A SPIFFE ID, or `namespace/name` of the default template.
    source: Option<String>,
    /// `namespace/service`, with or without `:port`.
    target: Option<String>,
    direction: Option<String>,
    verdict: Option<String>,
    reason: Option<String>,
    method: Option<String>,
    /// A prefix.
    path: Option<String>,
}

/// `GET /calls` streams, `GET /series` tells counts.
pub(crate) fn routes(journal: &Journal, shutdown: &Shutdown) -> Router {
    let source = Source {
        journal: journal.clone(),
        room: Arc::new(Semaphore::new(MOST_TAPS)),
        shutdown: shutdown.clone(),
    };
    Router::new()
        .route("/calls", get(calls))
        .route("/series", get(series))
        .with_state(source)
}

async fn calls(State(source): State<Source>, Query(filter): Query<Filter>) -> Response {
    if let Err(wrong) = filter.check() {
        return (StatusCode::BAD_REQUEST, format!("{wrong}\n")).into_response();
    }
    let Ok(place) = Arc::clone(&source.room).try_acquire_owned() else {
        let text = format!("{MOST_TAPS} taps are open already\n");
        return (StatusCode::TOO_MANY_REQUESTS, text).into_response();
    };
    let tap = Tap {
        records: source.journal.subscribe(),
        journal: source.journal,
        filter,
        _place: place,
    };
    // Else a tap that stays open would hold up the proxy's end.
    let end = source.shutdown;
    let lines = unfold(tap, Tap::next).take_until(async move { end.draining().await });
    let body = Body::from_stream(lines.map(Ok::<_, Infallible>));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

async fn series(State(source): State<Source>) -> Json<Value> {
    let series = source.journal.read();
    let series: Vec<Value> = series.iter().map(|(key, it)| totals(key, it)).collect();
    Json(json!({ "bounds_us": BOUNDS_US, "series": series }))
}

fn totals(key: &Key, totals: &Totals) -> Value {
    let mut verdicts = [0; Verdict::ALL.len()];
    for ((reason, _), count) in &totals.outcomes {
        verdicts[Verdict::of(*reason) as usize] += count;
    }
    let [allowed, denied, failed] = verdicts;
    json!({
        "direction": key.direction.as_str(),
        "protocol": key.protocol.as_str(),
        "source": &*key.source,
        "target": &*key.target,
        "allowed": allowed,
        "denied": denied,
        "failed": failed,
        "retries": totals.retries,
        "bytes_in": totals.bytes_in,
        "bytes_out": totals.bytes_out,
        "buckets": totals.durations.buckets,
    })
}

struct Tap {
    records: Receiver<Arc<CallRecord>>,
    journal: Journal,
    filter: Filter,
    _place: OwnedSemaphorePermit,
}

impl Tap {
    /// The next lines; what has ended meanwhile comes with the first.
    async fn next(mut self) -> Option<(String, Self)> {
        let mut lines = String::new();
        let mut count = 0;
        while lines.is_empty() || (count < PIECE && !self.records.is_empty()) {
            match self.records.recv().await {
                Ok(record) if self.filter.matches(&record) => {
                    lines.push_str(&serde_json::to_string(&*record).unwrap_or_default());
                    lines.push('\n');
                }
                Ok(_) => {}
                Err(RecvError::Lagged(lost)) => {
                    self.journal.records_lost("tap", lost);
                    lines.push_str(&format!("{{\"countersign.tap.lost\":{lost}}}\n"));
                }
                Err(RecvError::Closed) => return None,
            }
            count += 1;
        }
        Some((lines, self))
    }
}

impl Filter {
    fn check(&self) -> Result<(), String> {
        let is_one_of = |value: &Option<String>, known: &[&str]| {
            value.as_deref().is_none_or(|value| known.contains(&value))
        };
        if !is_one_of(&self.direction, &["inbound", "outbound"]) {
            return Err("direction is inbound or outbound".to_owned());
        }
        if !is_one_of(&self.verdict, &Verdict::ALL.map(Verdict::as_str)) {
            return Err("verdict is allowed, denied or failed".to_owned());
        }
        match self.reason.as_deref().map(str::parse::<Reason>) {
            Some(Err(error)) => Err(format!("reason: {error}")),
            _ => Ok(()),
        }
    }

    fn matches(&self, record: &CallRecord) -> bool {
        let equal = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| is == Some(wanted))
        };
        equal(&self.direction, Some(record.direction.as_str()))
            && equal(&self.verdict, Some(record.verdict.as_str()))
            && equal(&self.reason, record.reason.map(Reason::code))
            && equal(
                &self.method,
                record.method.as_ref().map(http::Method::as_str),
            )
            && self
                .source
                .as_deref()
                .is_none_or(|it| is_source(it, &record.source))
            && self
                .target
                .as_deref()
                .is_none_or(|it| is_target(it, &record.target))
            && self.path.as_deref().is_none_or(|prefix| {
                let path = record.path.as_deref();
                path.is_some_and(|path| path.starts_with(prefix))
            })
    }
}

fn is_source(wanted: &str, source: &str) -> bool {
    let named = || {
        let wanted: QualifiedName = wanted.parse().ok()?;
        let source: SpiffeId = source.parse().ok()?;
        let path = format!("/ns/{}/sa/{}", wanted.namespace, wanted.name);
        Some(source.path() == path)
    };
    wanted == source || named().unwrap_or(false)
}

fn is_target(wanted: &str, target: &str) -> bool {
    let port = target.strip_prefix(wanted);
    port.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;

    fn matches(query: &str) -> bool {
        let uri = format!("http://a/calls?{query}").parse().unwrap();
        let Query(filter) = Query::<Filter>::try_from_uri(&uri).unwrap();
        filter.check().unwrap();
        filter.matches(&record())
    }

    #[test]
    fn a_filter_that_means_nothing_is_refused() {
        let refused = |query: &str| {
            let uri = format!("http://a/calls?{query}").parse().unwrap();
            Query::<Filter>::try_from_uri(&uri).map_or(true, |Query(it)| it.check().is_err())
        };
        for query in [
            "verdict=maybe",
            "reason=bad-luck",
            "direction=up",
            "colour=red",
        ] {
            assert!(refused(query), "{query}");
        }
    }

    #[test]
    fn what_does_not_match_is_not_told() {
        for query in [
            "verdict=denied",
            "target=shop/order",
            "target=shop/orders:grpc",
            "source=shop/intruder",
            "path=/v2",
            "method=POST",
            "reason=policy-denied",
            "direction=outbound",
        ] {
            assert!(!matches(query), "{query}");
        }
    }

    #[test]
    fn what_matches_is_told() {
        for query in [
            "",
            "target=shop/orders",
            "target=shop/orders:http&verdict=allowed",
            "source=shop/checkout",
            "source=spiffe://mesh.test/ns/shop/sa/checkout",
            "path=/v1/&method=GET&direction=inbound",
        ] {
            assert!(matches(query), "{query}");
        }
    }
}
