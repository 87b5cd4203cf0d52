//! `shop/checkout` and `shop/intruder`: the same calls, every 200 ms, over a connection that is
//! kept. Only policy tells them apart.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Report;

const EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(5);
const HOST: &str = "orders.shop.mesh.internal";

/// Calls until it is asked to end, and then finishes the call it is in.
pub(super) async fn call_repeatedly(proxy: SocketAddr) -> anyhow::Result<()> {
    let (trigger, shutdown) = runtime::Shutdown::pair();
    let mut signals = Box::pin(trigger.on_signals()?);
    let mut caller = Caller {
        proxy,
        kept: None,
        connections: JoinSet::new(),
    };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.draining() => return Ok(()),
            () = &mut signals => return Ok(()),
            _ = ticks.tick() => {}
        }
        caller.call().await.print()?;
    }
}

struct Caller {
    proxy: SocketAddr,
    kept: Option<SendRequest<Empty<Bytes>>>,
    connections: JoinSet<hyper::Result<()>>,
}

impl Caller {
    async fn call(&mut self) -> Report {
        match timeout(PATIENCE, self.exchange()).await {
            Ok(Ok(report)) => report,
            Ok(Err(error)) => Report::Broken {
                error: format!("{error:#}"),
            },
            Err(_) => {
                self.kept = None;
                Report::Broken {
                    error: format!("no answer within {PATIENCE:?}"),
                }
            }
        }
    }

    async fn exchange(&mut self) -> anyhow::Result<Report> {
        let mut sender = self.connection().await?;
        let response = sender.send_request(request()?).await?;
        let status = response.status().as_u16();
        let reason = text(response.headers(), "countersign-reason");
        let decision = text(response.headers(), "countersign-decision");
        response.into_body().collect().await?;
        self.kept = Some(sender);
        Ok(Report::Answered {
            status,
            reason,
            decision,
        })
    }

    /// The kept connection if the proxy has not closed it, else a new one.
    async fn connection(&mut self) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
        while self.connections.try_join_next().is_some() {}
        if let Some(mut sender) = self.kept.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        let stream = TcpStream::connect(self.proxy).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        self.connections.spawn(connection);
        Ok(sender)
    }
}

/// To a proxy the target is the whole URL (RFC 9112 §3.2.2).
fn request() -> http::Result<Request<Empty<Bytes>>> {
    Request::get(format!("http://{HOST}/"))
        .header(header::HOST, HOST)
        .header(header::USER_AGENT, "countersign-demo")
        .body(Empty::new())
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
