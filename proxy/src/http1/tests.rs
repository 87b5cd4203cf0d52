//! Claims about the codec: what it refuses, what it reads, what it writes.

mod bodies;
mod properties;
mod requests;
mod responses;
mod writing;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};

use super::{BodyReader, HeadReader, Limits, Malformed, Piece, Request, Response};

/// The head and what is left behind it.
fn request(bytes: &[u8]) -> Result<Option<Request>, Malformed> {
    HeadReader::new(Limits::default()).request(&mut BytesMut::from(bytes))
}

fn response(method: &Method, bytes: &[u8]) -> Result<Option<Response>, Malformed> {
    HeadReader::new(Limits::default()).response(&mut BytesMut::from(bytes), method)
}

/// A body read to its end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    content: Vec<u8>,
    trailers: Option<HeaderMap>,
    ended: bool,
}

/// Reads as much of a body as there is.
fn read(body: &mut BodyReader, buffer: &mut BytesMut, into: &mut Read) -> Result<(), Malformed> {
    loop {
        match body.pull(buffer)? {
            Piece::Data(data) => into.content.extend_from_slice(&data),
            Piece::Trailers(trailers) => into.trailers = Some(trailers),
            Piece::NeedMore => return Ok(()),
            Piece::End => {
                into.ended = true;
                return Ok(());
            }
        }
    }
}

fn drain(queue: &mut super::WriteQueue) -> Bytes {
    use bytes::Buf as _;
    queue.copy_to_bytes(queue.remaining())
}
