//! The applications behind the receiving proxy: HTTP/1.1, HTTP/2 without TLS, and plain TCP.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::message::Messages;
use super::{ANSWER_BYTES, CHUNK, FILLED, check_body, h2_backend};

/// Ends with the handle.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) tcp: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Backend {
    /// # Errors
    /// When no loopback port is free.
    pub(crate) async fn start() -> Result<Self> {
        let mut tasks = JoinSet::new();
        Ok(Self {
            http1: listen(&mut tasks, http1).await?,
            http2: listen(&mut tasks, h2_backend::serve).await?,
            tcp: listen(&mut tasks, tcp).await?,
            _tasks: tasks,
        })
    }
}

async fn listen<F>(
    tasks: &mut JoinSet<()>,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> Result<SocketAddr>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            // Without it the second of two writes waits for an acknowledgement.
            let _refused = socket.set_nodelay(true);
            connections.spawn(serve(socket));
            while connections.try_join_next().is_some() {}
        }
    });
    Ok(address)
}

/// `/` answers 1 KiB, `/bytes/N` answers N; a request's body is read to its end first.
async fn http1(socket: TcpStream) -> Result<()> {
    let mut messages = Messages::new(socket);
    let mut usual = head(ANSWER_BYTES);
    usual.extend_from_slice(&FILLED[..ANSWER_BYTES]);
    while let Some(request) = messages.head().await? {
        messages.body(request.body).await?;
        let path = request.start.split(' ').nth(1).unwrap_or_default();
        match path.rsplit_once("/bytes/") {
            None => messages.socket.write_all(&usual).await?,
            Some((_, bytes)) => {
                let bytes = bytes.parse()?;
                messages.socket.write_all(&head(bytes)).await?;
                fill(&mut messages.socket, bytes).await?;
            }
        }
    }
    Ok(())
}

fn head(bytes: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").into_bytes()
}

/// The first nine bytes say the direction and how much: `U` takes so many bytes and answers one,
/// `D` gives so many.
async fn tcp(mut socket: TcpStream) -> Result<()> {
    let direction = socket.read_u8().await?;
    let mut left = usize::try_from(socket.read_u64().await?)?;
    if direction == b'D' {
        fill(&mut socket, left).await?;
        return Ok(());
    }
    let mut buffer = vec![0; CHUNK];
    while left > 0 {
        let read = socket.read(&mut buffer).await?;
        anyhow::ensure!(read > 0, "the stream ended early");
        check_body(&buffer[..read])?;
        left -= read;
    }
    socket.write_u8(b'.').await?;
    Ok(())
}

async fn fill(socket: &mut TcpStream, bytes: usize) -> Result<()> {
    let mut left = bytes;
    while left > 0 {
        let here = left.min(CHUNK);
        socket.write_all(&FILLED[..here]).await?;
        left -= here;
    }
    Ok(())
}
