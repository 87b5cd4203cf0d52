//! Takes heads out of what was received.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Method};

use super::lines::Lines;
use super::{Limits, Malformed, Request, Response, request, response};

/// Reads the heads of one direction of one connection.
#[derive(Debug)]
pub struct HeadReader {
    limits: Limits,
    lines: Lines,
    skipped_empty_line: bool,
    scratch: HeaderMap,
}

impl HeadReader {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lines: Lines::default(),
            skipped_empty_line: false,
            scratch: HeaderMap::new(),
        }
    }

    /// Takes the head of a request out of `buffer`, or nothing until all of it is there.
    /// What follows the head stays. The head does not hold on to the buffer.
    ///
    /// # Errors
    /// The rule that the head breaks; the connection then has no next message.
    pub fn request(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, Malformed> {
        self.skip_empty_line(buffer)?;
        let Some(head) = self.head(buffer, true)? else {
            return Ok(None);
        };
        self.skipped_empty_line = false;
        let fields = std::mem::take(&mut self.scratch);
        request::parse(&head, &self.limits, fields).map(Some)
    }

    /// Takes the head of a response to a request with `method` out of `buffer`, or nothing until
    /// all of it is there. After an informational response (but 101) another head follows.
    ///
    /// # Errors
    /// As [`HeadReader::request`].
    pub fn response(
        &mut self,
        buffer: &mut BytesMut,
        method: &Method,
    ) -> Result<Option<Response>, Malformed> {
        let Some(head) = self.head(buffer, false)? else {
            return Ok(None);
        };
        let fields = std::mem::take(&mut self.scratch);
        response::parse(&head, method, &self.limits, fields).map(Some)
    }

    /// Gives a map that is no longer needed back, for the fields of the next head.
    pub fn recycle(&mut self, mut fields: HeaderMap) {
        if fields.capacity() > self.scratch.capacity() {
            fields.clear();
            self.scratch = fields;
        }
    }

    /// The peer sends nothing more: that is the end of the connection only between messages.
    ///
    /// # Errors
    /// [`Malformed::Truncated`] if a head has begun in `buffer`.
    pub fn end_of_stream(&self, buffer: &BytesMut) -> Result<(), Malformed> {
        if buffer.is_empty() {
            return Ok(());
        }
        Err(Malformed::Truncated)
    }

    /// RFC 9112 section 2.2: a server ignores at least one; one is enough.
    fn skip_empty_line(&mut self, buffer: &mut BytesMut) -> Result<(), Malformed> {
        if buffer.starts_with(b"\r\n") {
            if self.skipped_empty_line {
                return Err(Malformed::EmptyLines);
            }
            self.skipped_empty_line = true;
            buffer.advance(2);
            self.lines = Lines::default();
            if buffer.starts_with(b"\r\n") {
                return Err(Malformed::EmptyLines);
            }
        }
        Ok(())
    }

    fn head(&mut self, buffer: &mut BytesMut, asks: bool) -> Result<Option<Bytes>, Malformed> {
        let within = &buffer[..buffer.len().min(self.limits.head_bytes)];
        let end = self.lines.end(within)?;
        let Some(end) = end else {
            return match buffer.len() {
                few if few < self.limits.head_bytes => Ok(None),
                _ if asks && !self.lines.has_one() => Err(Malformed::TargetTooLong),
                _ => Err(Malformed::HeadTooLarge),
            };
        };
        let head = Bytes::copy_from_slice(&buffer[..end]);
        buffer.advance(end);
        Ok(Some(head))
    }
}
