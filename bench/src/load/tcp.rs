//! One TCP stream of a given length, up or down.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{CHUNK, FILLED, check_body};

/// # Errors
/// When the stream breaks or a byte changes.
pub(crate) async fn up(target: SocketAddr, bytes: usize) -> Result<()> {
    let mut socket = open(target, b'U', bytes).await?;
    let mut left = bytes;
    while left > 0 {
        let here = left.min(CHUNK);
        socket.write_all(&FILLED[..here]).await?;
        left -= here;
    }
    ensure!(
        socket.read_u8().await? == b'.',
        "the backend did not get it all"
    );
    Ok(())
}

/// # Errors
/// When the stream breaks or a byte changes.
pub(crate) async fn down(target: SocketAddr, bytes: usize) -> Result<()> {
    let mut socket = open(target, b'D', bytes).await?;
    let mut buffer = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let read = socket.read(&mut buffer).await?;
        ensure!(read > 0, "the stream ended early");
        check_body(&buffer[..read])?;
        left -= read;
    }
    Ok(())
}

async fn open(target: SocketAddr, direction: u8, bytes: usize) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(target).await?;
    socket.set_nodelay(true)?;
    let mut first = vec![direction];
    first.extend_from_slice(&u64::try_from(bytes)?.to_be_bytes());
    socket.write_all(&first).await?;
    Ok(socket)
}
