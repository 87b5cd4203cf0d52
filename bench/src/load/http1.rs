//! HTTP/1.1 callers that each keep one connection: closed (the next request when the last is
//! answered) or open (when it is due).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::message::Messages;
use super::pace::pace;
use super::{ANSWER_BYTES, FILLED};

/// What is asked, and how long the answer's body is.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    head: Arc<str>,
    body: usize,
    answer: usize,
}

/// What the callers saw.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// Microseconds, one for each request.
    pub(crate) latencies: Vec<f64>,
}

/// Connected, each with one exchange behind it.
#[derive(Debug)]
pub(crate) struct Callers(Vec<Caller>);

#[derive(Debug, Clone, Copy)]
enum End {
    At(Instant),
    After(u64),
}

#[derive(Debug)]
struct Caller {
    messages: Messages,
    request: Request,
}

impl Request {
    /// A GET of `/` with its usual answer.
    pub(crate) fn get(authority: &str) -> Self {
        Self::download(authority, ANSWER_BYTES)
    }

    pub(crate) fn download(authority: &str, answer: usize) -> Self {
        let path = match answer {
            ANSWER_BYTES => "/".to_owned(),
            other => format!("/bytes/{other}"),
        };
        let head = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
        Self {
            head: head.into(),
            body: 0,
            answer,
        }
    }

    pub(crate) fn upload(authority: &str, body: usize) -> Self {
        let head =
            format!("POST / HTTP/1.1\r\nhost: {authority}\r\ncontent-length: {body}\r\n\r\n");
        Self {
            head: head.into(),
            body,
            answer: ANSWER_BYTES,
        }
    }
}

impl Callers {
    /// # Errors
    /// When a connection breaks or an answer is not the expected one.
    pub(crate) async fn connect(
        target: SocketAddr,
        connections: usize,
        request: &Request,
    ) -> Result<Self> {
        let mut callers = Vec::with_capacity(connections);
        for _ in 0..connections {
            let mut caller = Caller::connect(target, request.clone()).await?;
            caller.exchange().await?;
            callers.push(caller);
        }
        Ok(Self(callers))
    }

    /// Ask as fast as they are answered.
    ///
    /// # Errors
    /// As [`Callers::connect`].
    pub(crate) async fn closed(self, lasting: Duration) -> Result<(Self, Outcome)> {
        self.until(End::At(Instant::now() + lasting)).await
    }

    /// Each asks this often.
    ///
    /// # Errors
    /// As [`Callers::connect`].
    pub(crate) async fn times(self, requests: u64) -> Result<(Self, Outcome)> {
        self.until(End::After(requests)).await
    }

    /// `each_second` over all connections, one after the other, whether or not earlier ones are
    /// answered. A request that waits for the one before it on its connection counts from when it
    /// was due; the load's own lateness counts for nobody.
    ///
    /// # Errors
    /// As [`Callers::connect`].
    pub(crate) async fn open(self, each_second: f64, lasting: Duration) -> Result<(Self, Outcome)> {
        let mut turns = Vec::with_capacity(self.0.len());
        let mut tasks = JoinSet::new();
        for mut caller in self.0 {
            let (sender, receiver) = mpsc::unbounded_channel();
            turns.push(sender);
            tasks.spawn(async move {
                let mut outcome = Outcome::default();
                caller.when_due(receiver, &mut outcome).await?;
                Ok((caller, outcome))
            });
        }
        pace(each_second, lasting, turns).await?;
        gathered(tasks).await
    }

    async fn until(self, end: End) -> Result<(Self, Outcome)> {
        let mut tasks = JoinSet::new();
        for mut caller in self.0 {
            tasks.spawn(async move {
                let mut outcome = Outcome::default();
                while !end.reached(outcome.requests) {
                    let sent = Instant::now();
                    caller.exchange().await?;
                    outcome.count(sent);
                }
                Ok((caller, outcome))
            });
        }
        gathered(tasks).await
    }
}

impl End {
    fn reached(self, requests: u64) -> bool {
        match self {
            Self::At(time) => Instant::now() >= time,
            Self::After(number) => requests >= number,
        }
    }
}

async fn gathered(mut tasks: JoinSet<Result<(Caller, Outcome)>>) -> Result<(Callers, Outcome)> {
    let mut total = Outcome::default();
    let mut callers = Vec::with_capacity(tasks.len());
    while let Some(ended) = tasks.join_next().await {
        let (caller, outcome) = ended??;
        total.requests += outcome.requests;
        total.latencies.extend(outcome.latencies);
        callers.push(caller);
    }
    Ok((Callers(callers), total))
}

impl Outcome {
    fn count(&mut self, sent: Instant) {
        self.requests += 1;
        self.latencies.push(sent.elapsed().as_secs_f64() * 1e6);
    }
}

impl Caller {
    async fn connect(target: SocketAddr, request: Request) -> Result<Self> {
        let socket = TcpStream::connect(target).await.context("connecting")?;
        socket.set_nodelay(true)?;
        Ok(Self {
            messages: Messages::new(socket),
            request,
        })
    }

    async fn exchange(&mut self) -> Result<()> {
        let socket = &mut self.messages.socket;
        socket.write_all(self.request.head.as_bytes()).await?;
        let mut left = self.request.body;
        while left > 0 {
            let here = left.min(FILLED.len());
            socket.write_all(&FILLED[..here]).await?;
            left -= here;
        }
        self.messages.answer(self.request.answer).await
    }

    async fn when_due(
        &mut self,
        mut turns: mpsc::UnboundedReceiver<Instant>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        loop {
            let sent = match turns.try_recv() {
                Ok(due) => due,
                Err(_) => match turns.recv().await {
                    Some(_) => Instant::now(),
                    None => return Ok(()),
                },
            };
            self.exchange().await?;
            outcome.count(sent);
        }
    }
}
