//! HTTP/1.1 load over keep-alive connections, and the backend that answers it. Both are as thin as
//! they can be, so that what is measured is the proxies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

const BODY_BYTES: usize = 1024;

/// What the callers saw.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// Microseconds, one for each request.
    pub(crate) latencies: Vec<f64>,
}

/// Answers every request head with 200 and 1 KiB. Ends with the handle.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Backend {
    /// # Errors
    /// When no loopback port is free.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(respond(socket));
            }
        });
        Ok(Self {
            address,
            _tasks: tasks,
        })
    }
}

/// Callers that each keep one connection, and send the next request when the last is answered or,
/// if paced, when it is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    target: SocketAddr,
    connections: usize,
    lasting: Duration,
    /// Between two requests of one connection.
    period: Option<Duration>,
}

impl Load {
    pub(crate) fn closed(target: SocketAddr, connections: usize, lasting: Duration) -> Self {
        Self {
            target,
            connections,
            lasting,
            period: None,
        }
    }

    /// `each_second` over all connections, evenly spread.
    pub(crate) fn paced(
        target: SocketAddr,
        connections: usize,
        lasting: Duration,
        each_second: f64,
    ) -> Self {
        let period = Duration::from_secs_f64(connections as f64 / each_second);
        Self {
            target,
            connections,
            lasting,
            period: Some(period),
        }
    }

    /// # Errors
    /// When a connection breaks or an answer is not 200: a figure over failures means nothing.
    pub(crate) async fn run(self, url: &str) -> Result<Outcome> {
        let authority = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next());
        let authority = authority.unwrap_or_default();
        let request: Arc<str> = format!("GET {url} HTTP/1.1\r\nhost: {authority}\r\n\r\n").into();
        let start = Arc::new(Barrier::new(self.connections));
        let mut callers = JoinSet::new();
        for number in 0..self.connections {
            callers.spawn(self.call(number, Arc::clone(&request), Arc::clone(&start)));
        }
        let mut total = Outcome::default();
        while let Some(outcome) = callers.join_next().await {
            let outcome = outcome??;
            total.requests += outcome.requests;
            total.latencies.extend(outcome.latencies);
        }
        Ok(total)
    }

    async fn call(self, number: usize, request: Arc<str>, start: Arc<Barrier>) -> Result<Outcome> {
        let mut socket = TcpStream::connect(self.target)
            .await
            .context("connecting")?;
        socket.set_nodelay(true)?;
        let mut buffer = Vec::with_capacity(4096);
        exchange(&mut socket, &request, &mut buffer).await?;
        start.wait().await;
        let began = Instant::now();
        let share = number as f64 / self.connections as f64;
        let mut due = began + self.period.unwrap_or_default().mul_f64(share);
        let mut outcome = Outcome::default();
        while due < began + self.lasting {
            let sent = self.turn(due).await;
            exchange(&mut socket, &request, &mut buffer).await?;
            outcome.requests += 1;
            outcome.latencies.push(sent.elapsed().as_secs_f64() * 1e6);
            due = self.period.map_or_else(Instant::now, |period| due + period);
        }
        Ok(outcome)
    }

    /// A request that had to wait for the one before it counts from when it was due; the timer's own
    /// lateness counts for nobody.
    async fn turn(&self, due: Instant) -> Instant {
        if self.period.is_some() && Instant::now() > due {
            return due;
        }
        sleep_until(due).await;
        Instant::now()
    }
}

async fn exchange(socket: &mut TcpStream, request: &str, buffer: &mut Vec<u8>) -> Result<()> {
    socket.write_all(request.as_bytes()).await?;
    buffer.clear();
    loop {
        if socket.read_buf(buffer).await? == 0 {
            bail!("the connection ended before the answer did");
        }
        let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        if !buffer.starts_with(b"HTTP/1.1 200") {
            bail!("refused: {}", String::from_utf8_lossy(&buffer[..head]));
        }
        if buffer.len() >= head + 4 + BODY_BYTES {
            return Ok(());
        }
    }
}

async fn respond(mut socket: TcpStream) {
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY_BYTES}\r\n\r\n").into_bytes();
    answer.resize(answer.len() + BODY_BYTES, b'x');
    let mut buffer = Vec::with_capacity(4096);
    while matches!(socket.read_buf(&mut buffer).await, Ok(1..)) {
        while let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            buffer.drain(..end + 4);
            if socket.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}
