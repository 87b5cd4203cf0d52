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
use tokio::time::Instant;

const BODY_BYTES: usize = 1024;

/// What a closed loop saw.
#[derive(Debug, Default)]
pub struct Outcome {
    pub requests: u64,
    /// Microseconds, one for each request.
    pub latencies: Vec<f64>,
}

/// Answers every request head with 200 and 1 KiB. Ends with the handle.
#[derive(Debug)]
pub struct Backend {
    pub address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Backend {
    /// # Errors
    /// When no loopback port is free.
    pub async fn start() -> Result<Self> {
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

/// `connections` callers that each send the next request when the last is answered.
///
/// # Errors
/// When a connection breaks or an answer is not 200: a figure over failures means nothing.
pub async fn closed_loop(
    target: SocketAddr,
    url: &str,
    connections: usize,
    lasting: Duration,
) -> Result<Outcome> {
    let authority = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next());
    let request = format!(
        "GET {url} HTTP/1.1\r\nhost: {}\r\n\r\n",
        authority.unwrap_or_default()
    );
    let request: Arc<str> = request.into();
    let start = Arc::new(Barrier::new(connections));
    let mut callers = JoinSet::new();
    for _ in 0..connections {
        callers.spawn(call(
            target,
            Arc::clone(&request),
            Arc::clone(&start),
            lasting,
        ));
    }
    let mut total = Outcome::default();
    while let Some(outcome) = callers.join_next().await {
        let outcome = outcome??;
        total.requests += outcome.requests;
        total.latencies.extend(outcome.latencies);
    }
    Ok(total)
}

async fn call(
    target: SocketAddr,
    request: Arc<str>,
    start: Arc<Barrier>,
    lasting: Duration,
) -> Result<Outcome> {
    let mut socket = TcpStream::connect(target)
        .await
        .context("connecting to the proxy")?;
    socket.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    exchange(&mut socket, &request, &mut buffer).await?;
    start.wait().await;
    let end = Instant::now() + lasting;
    let mut outcome = Outcome::default();
    while Instant::now() < end {
        let sent = Instant::now();
        exchange(&mut socket, &request, &mut buffer).await?;
        outcome.requests += 1;
        outcome.latencies.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    Ok(outcome)
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
