//! Reading HTTP/1.1 messages out of a buffer: where the head ends, how long the body is.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::{CHUNK, check_body};

/// A connection and what was read from it.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) socket: TcpStream,
    buffer: Vec<u8>,
}

/// The first line of a head, and the length of what follows it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) start: String,
    pub(super) body: usize,
}

impl Messages {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            buffer: Vec::with_capacity(4096),
        }
    }

    /// An answer of 200 with a body of `bytes`, checked.
    pub(super) async fn answer(&mut self, bytes: usize) -> Result<()> {
        let Some(head) = self.head().await? else {
            bail!("the connection ended before the answer did");
        };
        ensure!(
            head.start.starts_with("HTTP/1.1 200"),
            "refused: {}",
            head.start
        );
        ensure!(head.body == bytes, "{} bytes instead of {bytes}", head.body);
        self.body(bytes).await
    }

    /// The next head; none at the end of the connection.
    pub(super) async fn head(&mut self) -> Result<Option<Head>> {
        loop {
            if let Some(end) = end_of_head(&self.buffer) {
                let head = Head::read(&self.buffer[..end])?;
                self.buffer.drain(..end);
                return Ok(Some(head));
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    pub(super) async fn body(&mut self, bytes: usize) -> Result<()> {
        let mut left = bytes;
        loop {
            let here = left.min(self.buffer.len());
            check_body(&self.buffer[..here])?;
            self.buffer.drain(..here);
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.buffer.reserve(left.min(CHUNK));
            ensure!(
                self.socket.read_buf(&mut self.buffer).await? > 0,
                "the body ended early"
            );
        }
    }
}

impl Head {
    fn read(head: &[u8]) -> Result<Self> {
        let head = std::str::from_utf8(head).context("a head that is no text")?;
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim())
        });
        let body = length.map_or(Ok(0), str::parse)?;
        Ok(Self { start, body })
    }
}

fn end_of_head(buffer: &[u8]) -> Option<usize> {
    let at = buffer.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(at + 4)
}
