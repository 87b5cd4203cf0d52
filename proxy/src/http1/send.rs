//! Writes bodies: exactly as long as their heads said.

use std::io::Write as _;

use bytes::{BufMut, Bytes};
use http::HeaderMap;

use super::write::{put_trailers, trailers_fit};
use super::{Framing, WriteQueue};

/// What cannot be written, because it would be read as another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unsendable {
    #[error("the request target holds what a target cannot (RFC 9112 section 3.2)")]
    Target,
    #[error("this framing does not fit the message (RFC 9112 section 6.3)")]
    Framing,
    #[error("only 1xx but 101 is an informational response (RFC 9110 section 15.2)")]
    NotInformational,
    #[error("the body is longer than its head says (RFC 9112 section 6.2)")]
    TooLong,
    #[error("the body is shorter than its head says (RFC 9112 section 6.2)")]
    TooShort,
    #[error("trailers without the chunked coding (RFC 9112 section 7.1.2)")]
    Trailers,
}

/// Writes one body, after its head.
#[derive(Debug)]
pub struct BodyWriter {
    framing: Framing,
}

impl BodyWriter {
    /// For the framing that the head was written with.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self { framing }
    }

    /// Appends content. Nothing is written for empty `data`: an empty chunk would end the body.
    ///
    /// # Errors
    /// [`Unsendable::TooLong`]; nothing was written.
    pub fn data(&mut self, data: Bytes, queue: &mut WriteQueue) -> Result<(), Unsendable> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Empty => return Err(Unsendable::TooLong),
            Framing::Length(left) => {
                let length = data.len() as u64;
                *left = left.checked_sub(length).ok_or(Unsendable::TooLong)?;
                queue.push(data);
            }
            Framing::Chunked => {
                put_chunk_size(data.len(), queue);
                queue.push(data);
                queue.tail().put_slice(b"\r\n");
            }
            Framing::UntilClose | Framing::Tunnel => queue.push(data),
        }
        Ok(())
    }

    /// Ends the body. Trailers need chunks; elsewhere they cannot be sent. After
    /// [`Framing::UntilClose`] the connection has to be closed.
    ///
    /// # Errors
    /// If content is missing, or the trailers cannot be sent; nothing was written, and the
    /// message must be broken off.
    pub fn end(
        self,
        trailers: Option<&HeaderMap>,
        queue: &mut WriteQueue,
    ) -> Result<(), Unsendable> {
        if matches!(self.framing, Framing::Length(1..)) {
            return Err(Unsendable::TooShort);
        }
        let trailers = trailers.filter(|trailers| !trailers.is_empty());
        if self.framing != Framing::Chunked {
            return trailers.map_or(Ok(()), |_| Err(Unsendable::Trailers));
        }
        if !trailers.is_none_or(trailers_fit) {
            return Err(Unsendable::Trailers);
        }
        queue.tail().put_slice(b"0\r\n");
        if let Some(trailers) = trailers {
            put_trailers(trailers, queue.tail());
        }
        queue.tail().put_slice(b"\r\n");
        Ok(())
    }

    /// Whether a body is written with chunks, and trailers can follow it.
    #[must_use]
    pub fn takes_trailers(&self) -> bool {
        self.framing == Framing::Chunked
    }
}

fn put_chunk_size(size: usize, queue: &mut WriteQueue) {
    let mut line = [0; 18];
    let mut left = &mut line[..];
    write!(left, "{size:x}\r\n").expect("a usize has at most 16 hexadecimal digits");
    let unused = left.len();
    let used = line.len() - unused;
    queue.tail().put_slice(&line[..used]);
}
