//! Callers that never stop, and what became of their calls.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use mesh_tests::caller::request;
use mesh_tests::shop::ORDERS;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::say;

const CALLERS: usize = 4;
const BETWEEN: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(20);

/// What became of calls, and of changes.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: AtomicU64,
    pub(crate) excused: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) changes: AtomicU64,
    /// Changes that were not acknowledged in time, so that nothing follows from them.
    pub(crate) unacknowledged: AtomicU64,
    /// Calls that were judged after an acknowledgement.
    pub(crate) judged: AtomicU64,
    /// Of those, the ones that the acknowledged revision judges otherwise.
    pub(crate) misjudged: AtomicU64,
    pub(crate) events: Mutex<BTreeMap<&'static str, u64>>,
    kills: Mutex<Vec<Kill>>,
}

/// From before a receiving proxy is killed until it is gone. The kernel may take its time, so a
/// call that begins in between may still reach it.
#[derive(Clone, Copy, Debug)]
struct Kill {
    from: Instant,
    until: Option<Instant>,
}

impl Tally {
    pub(crate) fn held(&self) -> bool {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        of(&self.failed) == 0
            && of(&self.misjudged) == 0
            && of(&self.passed) > 0
            && of(&self.judged) > 0
    }

    pub(crate) fn figures(&self) -> serde_json::Value {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        serde_json::json!({
            "passed": of(&self.passed),
            "failed": of(&self.failed),
            "excused": of(&self.excused),
            "changes": of(&self.changes),
            "unacknowledged": of(&self.unacknowledged),
            "judged": of(&self.judged),
            "misjudged": of(&self.misjudged),
            "events": *events,
        })
    }

    pub(crate) fn event(&self, name: &'static str) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        *events.entry(name).or_default() += 1;
    }

    /// Kills a receiving proxy: what is in flight on it fails.
    pub(crate) async fn killing(&self, kill: impl Future<Output = ()>) {
        self.kills().push(Kill {
            from: Instant::now(),
            until: None,
        });
        kill.await;
        if let Some(kill) = self.kills().last_mut() {
            kill.until = Some(Instant::now());
        }
    }

    fn was_in_flight(&self, begun: Instant, ended: Instant) -> bool {
        let meets = |kill: &Kill| kill.from <= ended && kill.until.is_none_or(|it| begun <= it);
        self.kills().iter().any(meets)
    }

    fn since_last_kill(&self) -> Option<Duration> {
        Some(self.kills().last()?.from.elapsed())
    }

    fn kills(&self) -> MutexGuard<'_, Vec<Kill>> {
        self.kills.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, begun: Instant, outcome: Result<StatusCode, String>) {
        let why = match outcome {
            Ok(StatusCode::OK) => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Ok(status) => status.to_string(),
            Err(why) => why,
        };
        if self.was_in_flight(begun, Instant::now()) {
            self.excused.fetch_add(1, Ordering::Relaxed);
        } else {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let (took, kill) = (begun.elapsed(), self.since_last_kill());
            say(&format!(
                "a permitted call failed after {took:?}, last kill {kill:?} ago: {why}"
            ));
        }
    }
}

/// Calls what is always permitted, on connections that are kept.
pub(crate) fn spawn(
    outbound: SocketAddr,
    tally: &Arc<Tally>,
    end: &CancellationToken,
) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (tally, end) = (Arc::clone(tally), end.clone());
        callers.spawn(async move {
            let mut line = Line::new(outbound);
            while !end.is_cancelled() {
                let begun = Instant::now();
                let outcome = line.get(&format!("{ORDERS}/v1/orders")).await;
                tally.note(begun, outcome.map(|(status, _)| status));
                sleep(BETWEEN).await;
            }
        });
    }
    callers
}

/// A connection that is made again when it ended.
pub(crate) struct Line {
    outbound: SocketAddr,
    open: Option<(SendRequest<Full<Bytes>>, JoinSet<()>)>,
}

impl Line {
    pub(crate) fn new(outbound: SocketAddr) -> Self {
        Self {
            outbound,
            open: None,
        }
    }

    /// The status and the reason of a refusal.
    pub(crate) async fn get(&mut self, url: &str) -> Result<(StatusCode, String), String> {
        let call = self.call(request(Method::GET, url));
        let outcome = timeout(LONGEST, call).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {LONGEST:?}")));
        if outcome.is_err() {
            self.open = None;
        }
        outcome
    }

    async fn call(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, String), String> {
        if self.open.as_ref().is_none_or(|(line, _)| line.is_closed()) {
            self.open = Some(self.connect().await.map_err(|it| it.to_string())?);
        }
        let Some((line, _)) = &mut self.open else {
            return Err("no connection".to_owned());
        };
        let answer = line.send_request(request).await;
        let (head, body) = answer.map_err(|it| format!("{it:?}"))?.into_parts();
        let body = body.collect().await.map_err(|it| format!("{it:?}"))?;
        let reason = head.headers.get("countersign-reason");
        let reason = reason.and_then(|it| it.to_str().ok()).unwrap_or_default();
        if head.status.is_server_error() {
            let said = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            return Err(format!("{} {reason}: {}", head.status, said.trim_end()));
        }
        Ok((head.status, reason.to_owned()))
    }

    async fn connect(&self) -> std::io::Result<(SendRequest<Full<Bytes>>, JoinSet<()>)> {
        let stream = TcpStream::connect(self.outbound).await?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (line, connection) = handshake.map_err(std::io::Error::other)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // How it ended is seen by the call that it ends.
            drop(connection.await);
        });
        Ok((line, tasks))
    }
}
