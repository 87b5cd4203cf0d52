//! Tells HTTP/1 from the HTTP/2 preface by the first bytes of a client, which speaks first.

use std::future::poll_fn;
use std::io;

use bytes::BytesMut;
use tokio::io::AsyncRead;

use super::http_server::Wire;
use super::io::poll_receive;

/// RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads until it is decided, and returns what was read; `received` was read before.
///
/// # Errors
/// If the stream ends or fails before that.
pub(crate) async fn detect(
    io: &mut (impl AsyncRead + Unpin),
    mut received: BytesMut,
) -> io::Result<(Wire, BytesMut)> {
    loop {
        if let Some(wire) = wire_of(&received) {
            return Ok((wire, received));
        }
        let count = poll_fn(|context| poll_receive(io, context, &mut received)).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn wire_of(received: &[u8]) -> Option<Wire> {
    let known = received.len().min(PREFACE.len());
    match received[..known] == PREFACE[..known] {
        false => Some(Wire::Http1),
        true if known == PREFACE.len() => Some(Wire::Http2),
        true => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(pieces: &[&[u8]], expected: Wire) {
        let (client, mut server) = tokio::io::duplex(64);
        let write = async {
            let mut client = client;
            for piece in pieces {
                tokio::io::AsyncWriteExt::write_all(&mut client, piece)
                    .await
                    .unwrap();
                tokio::task::yield_now().await;
            }
        };
        let read = async {
            let (wire, received) = detect(&mut server, BytesMut::new()).await.unwrap();
            let mut all = received.to_vec();
            tokio::io::AsyncReadExt::read_to_end(&mut server, &mut all)
                .await
                .unwrap();
            (wire, all)
        };
        let ((), (wire, all)) = tokio::join!(write, read);
        assert_eq!((wire, all), (expected, pieces.concat()));
    }

    #[tokio::test]
    async fn a_stream_that_ends_inside_the_preface_is_refused() {
        let mut stream: &[u8] = b"PRI * HT";
        assert_eq!(
            detect(&mut stream, BytesMut::new())
                .await
                .unwrap_err()
                .kind(),
            io::ErrorKind::UnexpectedEof
        );
    }

    #[tokio::test]
    async fn the_preface_is_told_from_a_request_that_begins_like_it() {
        check(&[b"PRI * HTTP/1.1\r\n\r\n"], Wire::Http1).await;
        check(&[b"P", b"OST / HTTP/1.1\r\n\r\n"], Wire::Http1).await;
        check(&[b"PRI * HTTP/2.0\r\n\r\nSM", b"\r\n\r\nrest"], Wire::Http2).await;
    }
}
