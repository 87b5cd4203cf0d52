//! HTTP/2 callers without TLS: connections that each keep a number of streams in flight.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::frames::{
    self, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PREFACE, RST_STREAM, SETTINGS,
    WINDOW_UPDATE,
};
use super::{ANSWER_BYTES, CHUNK, check_body};

/// Granted to the peer at first, and again when half of it is used.
const WINDOW: u32 = 1 << 30;
/// `:status: 200` in the static table (RFC 7541, appendix A).
const STATUS_200: u8 = 0x88;

#[derive(Debug)]
pub(crate) struct Callers(Vec<Caller>);

#[derive(Debug)]
struct Caller {
    socket: TcpStream,
    input: Vec<u8>,
    out: Vec<u8>,
    request: Vec<u8>,
    next: u32,
    received: HashMap<u32, usize>,
    unacknowledged: u32,
    answered: u64,
}

impl Callers {
    /// Each with one answer behind it.
    ///
    /// # Errors
    /// When a connection breaks or an answer is not 200 with the expected body.
    pub(crate) async fn connect(
        target: SocketAddr,
        authority: &str,
        connections: usize,
    ) -> Result<Self> {
        let mut callers = Vec::new();
        for _ in 0..connections {
            let mut caller = Caller::connect(target, authority).await?;
            caller.ask();
            while caller.answered == 0 {
                caller.turn().await?;
            }
            callers.push(caller);
        }
        Ok(Self(callers))
    }

    /// # Errors
    /// As [`Callers::connect`].
    pub(crate) async fn closed(self, streams: usize, lasting: Duration) -> Result<u64> {
        let end = Instant::now() + lasting;
        let mut tasks = JoinSet::new();
        for caller in self.0 {
            tasks.spawn(caller.run(streams, end));
        }
        let mut answered = 0;
        while let Some(ended) = tasks.join_next().await {
            answered += ended??;
        }
        Ok(answered)
    }
}

impl Caller {
    async fn connect(target: SocketAddr, authority: &str) -> Result<Self> {
        let socket = TcpStream::connect(target).await.context("connecting")?;
        socket.set_nodelay(true)?;
        let mut out = PREFACE.to_vec();
        // Initial window of a stream (RFC 9113 section 6.5.2): more than an answer.
        frames::push(&mut out, SETTINGS, 0, 0, &[0, 4, 0, 16, 0, 0]);
        frames::push(&mut out, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        // GET, http, / and the authority (RFC 7541, appendix A: 2, 6, 4, 1).
        let mut request = vec![0x82, 0x86, 0x84, 0x01, u8::try_from(authority.len())?];
        request.extend_from_slice(authority.as_bytes());
        Ok(Self {
            socket,
            input: Vec::with_capacity(CHUNK),
            out,
            request,
            next: 1,
            received: HashMap::new(),
            unacknowledged: 0,
            answered: 0,
        })
    }

    async fn run(mut self, streams: usize, end: Instant) -> Result<u64> {
        let before = self.answered;
        for _ in 0..streams {
            self.ask();
        }
        while Instant::now() < end {
            for _ in 0..self.turn().await? {
                self.ask();
            }
        }
        let counted = self.answered - before;
        while !self.received.is_empty() {
            self.turn().await?;
        }
        Ok(counted)
    }

    fn ask(&mut self) {
        let flags = END_STREAM | END_HEADERS;
        frames::push(&mut self.out, HEADERS, flags, self.next, &self.request);
        self.received.insert(self.next, 0);
        self.next += 2;
    }

    /// Sends what is to be sent, reads once, and says how many answers ended.
    async fn turn(&mut self) -> Result<u64> {
        self.socket.write_all(&self.out).await?;
        self.out.clear();
        self.input.reserve(CHUNK);
        ensure!(
            self.socket.read_buf(&mut self.input).await? > 0,
            "the connection ended"
        );
        let before = self.answered;
        let input = std::mem::take(&mut self.input);
        let mut rest = input.as_slice();
        while let Some((frame, after)) = Frame::first(rest) {
            self.take(&frame)?;
            rest = after;
        }
        let read = input.len() - rest.len();
        self.input = input;
        self.input.drain(..read);
        Ok(self.answered - before)
    }

    fn take(&mut self, frame: &Frame<'_>) -> Result<()> {
        match frame.kind {
            HEADERS => {
                let mut block = frame.content()?.iter();
                let is_resize = |byte: &&u8| (0x20..0x40).contains(*byte);
                let status = block.find(|byte| !is_resize(byte));
                ensure!(
                    status == Some(&STATUS_200),
                    "refused: {:02x?}",
                    frame.content()?
                );
            }
            DATA => self.data(frame)?,
            RST_STREAM => bail!("stream {} was reset with {}", frame.stream, frame.number()),
            GOAWAY => bail!("sent away: {:02x?}", frame.payload),
            _ => frames::acknowledge(&mut self.out, frame),
        }
        if matches!(frame.kind, HEADERS | DATA) && frame.is(END_STREAM) {
            let bytes = self.received.remove(&frame.stream);
            ensure!(bytes == Some(ANSWER_BYTES), "a body of {bytes:?} bytes");
            self.answered += 1;
        }
        Ok(())
    }

    fn data(&mut self, frame: &Frame<'_>) -> Result<()> {
        let content = frame.content()?;
        check_body(content)?;
        let received = self.received.get_mut(&frame.stream);
        *received.context("data on no stream of ours")? += content.len();
        self.unacknowledged += u32::try_from(frame.payload.len())?;
        if self.unacknowledged > WINDOW / 2 {
            let used = self.unacknowledged.to_be_bytes();
            frames::push(&mut self.out, WINDOW_UPDATE, 0, 0, &used);
            self.unacknowledged = 0;
        }
        Ok(())
    }
}
