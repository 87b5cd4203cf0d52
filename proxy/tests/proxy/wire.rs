//! HTTP/1.1 by hand, so that a test says exactly what is on the wire.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::mesh::DEADLINE;

/// One connection; responses are read to their Content-Length.
pub(crate) struct Wire<S> {
    stream: S,
    bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Wire<TcpStream> {
    pub(crate) async fn connect(address: std::net::SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            bytes: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// A GET to a Service, on a connection that is kept.
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.get_from("orders.shop.mesh.internal", path).await
    }

    pub(crate) async fn get_from(&mut self, host: &str, path: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"))
            .await;
        self.answer().await
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |it| it.trim().parse().unwrap());
        while self.bytes.len() < length {
            assert!(self.more().await, "the body ended early");
        }
        let body = String::from_utf8(self.bytes.drain(..length).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body }
    }

    /// Only the head: the body is left to come.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.bytes.windows(4).position(|it| it == b"\r\n\r\n") {
                let head: Vec<u8> = self.bytes.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap().to_lowercase();
            }
            assert!(
                self.more().await,
                "the connection ended before a response's head"
            );
        }
    }

    /// Reads until the other side ends or breaks off.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.bytes)
    }

    pub(crate) async fn at_least(&mut self, count: usize) {
        while self.bytes.len() < count {
            assert!(self.more().await, "the stream ended early");
        }
    }

    /// The next bytes, whatever they are.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        self.at_least(count).await;
        self.bytes.drain(..count).collect()
    }

    /// Says nothing more.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let read = timeout(DEADLINE, self.stream.read(&mut buffer)).await;
        match read.expect("bytes in time") {
            Ok(count) => {
                self.bytes.extend_from_slice(&buffer[..count]);
                count > 0
            }
            Err(_) => false,
        }
    }
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let field = self.head.lines().find_map(|line| line.strip_prefix(name));
        field
            .and_then(|rest| rest.strip_prefix(": "))
            .map(str::trim)
    }
}
