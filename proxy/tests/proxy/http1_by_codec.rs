//! What our own codec reads from bytes. Also part of the fuzz target.

use bytes::{Buf, BytesMut};
use countersign_proxy::http1::{BodyReader, Framing, HeadReader, Limits, Malformed, Piece};
use http::Method;

use crate::http1_by_hyper::Message;

/// All that one connection carried.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Carried {
    /// Read to their ends.
    pub messages: Vec<Message>,
    /// What ended the reading, if it was no end of a message.
    pub error: Option<Malformed>,
}

/// The requests that a connection carries whose bytes arrive in these pieces.
pub(crate) fn requests<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Carried {
    let mut connection = Connection::default();
    for piece in pieces {
        connection.buffer.extend_from_slice(piece);
        connection.step();
    }
    connection.end()
}

/// The final response to a request with `method`, and what was left behind it.
pub(crate) fn response(method: &Method, bytes: &[u8]) -> Result<(Message, BytesMut), Malformed> {
    let mut buffer = BytesMut::from(bytes);
    let mut reader = HeadReader::new(Limits::default());
    loop {
        let head = reader.response(&mut buffer, method)?;
        let head = head.ok_or(Malformed::Truncated)?;
        if head.status.is_informational() && head.framing != Framing::Tunnel {
            continue;
        }
        let mut message = Message {
            start: format!("{} {:?}", head.status.as_u16(), head.version),
            fields: head.fields,
            ..Message::default()
        };
        let mut body = BodyReader::new(head.framing, &Limits::default());
        if head.framing != Framing::Tunnel && !read(&mut body, &mut buffer, &mut message)? {
            body.end_of_stream()?;
        }
        return Ok((message, buffer));
    }
}

struct Connection {
    reader: HeadReader,
    buffer: BytesMut,
    reading: Option<(BodyReader, Message)>,
    carried: Carried,
    last: bool,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            reader: HeadReader::new(Limits::default()),
            buffer: BytesMut::new(),
            reading: None,
            carried: Carried::default(),
            last: false,
        }
    }
}

impl Connection {
    fn step(&mut self) {
        if self.carried.error.is_none()
            && let Err(error) = self.try_step()
        {
            self.carried.error = Some(error);
        }
    }

    fn try_step(&mut self) -> Result<(), Malformed> {
        loop {
            if let Some((body, message)) = &mut self.reading {
                if !read(body, &mut self.buffer, message)? {
                    return Ok(());
                }
                let ended = self.reading.take();
                self.carried
                    .messages
                    .extend(ended.map(|(_, message)| message));
            }
            if self.last {
                self.buffer.advance(self.buffer.len());
                return Ok(());
            }
            let Some(head) = self.reader.request(&mut self.buffer)? else {
                return Ok(());
            };
            self.last = !head.persists || head.method == Method::CONNECT;
            let message = Message {
                start: format!("{} {} {:?}", head.method, head.target, head.version),
                fields: head.fields,
                ..Message::default()
            };
            let body = BodyReader::new(head.framing, &Limits::default());
            self.reading = Some((body, message));
        }
    }

    fn end(mut self) -> Carried {
        if self.carried.error.is_none() {
            let end = match &mut self.reading {
                Some((body, _)) => body.end_of_stream(),
                None => self.reader.end_of_stream(&self.buffer),
            };
            self.carried.error = end.err();
        }
        self.carried
    }
}

/// Whether the body's end came.
fn read(
    body: &mut BodyReader,
    buffer: &mut BytesMut,
    into: &mut Message,
) -> Result<bool, Malformed> {
    loop {
        match body.pull(buffer)? {
            Piece::Data(data) => into.content.extend_from_slice(&data),
            Piece::Trailers(trailers) => into.trailers = Some(trailers),
            Piece::NeedMore => return Ok(false),
            Piece::End => return Ok(true),
        }
    }
}
