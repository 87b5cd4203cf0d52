//! HEADERS and CONTINUATION: requests, responses and trailers as they come in.

use http::{HeaderMap, Method, StatusCode};

use super::receive::{broken, number_of};
use super::{Broken, Core, Leaving};
use crate::flood::Flood;
use crate::frame::{self, Head};
use crate::head::{self, Collected};
use crate::hpack::Decoded;
use crate::stream::Stream;
use crate::streams::Key;
use crate::{Error, Reason};

/// What a block may be longer than the fields in it may be: it is counted before it is read.
const SLACK: usize = 16 * 1024;

/// A block of fields that goes on in another frame.
#[derive(Debug)]
pub(crate) struct Block {
    stream: u32,
    ends: bool,
    bytes: Vec<u8>,
    frames: u32,
}

impl Core {
    pub(super) fn headers(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let id = number_of(head)?;
        let too_short = broken("HEADERS shorter than it says");
        let mut block = frame::unpadded(head, payload).ok_or(too_short)?;
        let mut depends_on = None;
        if head.has(frame::HAS_PRIORITY) {
            let (priority, rest) = block.split_first_chunk::<5>().ok_or(too_short)?;
            let [a, b, c, d, _] = *priority;
            depends_on = Some(u32::from_be_bytes([a, b, c, d]) & frame::LARGEST);
            block = rest;
        }
        let ends = head.has(frame::END_STREAM);
        if depends_on == Some(id) {
            return Err(broken("a stream that depends on itself"));
        }
        if head.has(frame::END_HEADERS) {
            return self.block(id, ends, block);
        }
        self.block = Some(Block {
            stream: id,
            ends,
            bytes: block.to_vec(),
            frames: 0,
        });
        Ok(())
    }

    pub(super) fn continuation(&mut self, head: Head, payload: &[u8]) -> Result<(), Broken> {
        let Some(block) = self.block.as_mut().filter(|it| it.stream == head.stream) else {
            return Err(broken("CONTINUATION of nothing"));
        };
        block.bytes.extend_from_slice(payload);
        block.frames += 1;
        let most = self.config.header_bytes as usize + SLACK;
        if block.bytes.len() > most || !Flood::is_continued(block.frames) {
            let rule = "a head far larger than SETTINGS_MAX_HEADER_LIST_SIZE";
            return Err(Broken::Connection(Reason::ENHANCE_YOUR_CALM, rule));
        }
        if !head.has(frame::END_HEADERS) {
            return Ok(());
        }
        match self.block.take() {
            Some(block) => self.block(block.stream, block.ends, &block.bytes),
            None => Ok(()),
        }
    }

    /// A whole block. It is decoded whatever becomes of it: the next ones build on it.
    fn block(&mut self, id: u32, ends: bool, block: &[u8]) -> Result<(), Broken> {
        let mut collected = Collected::new();
        let most = self.config.header_bytes as usize;
        let decoded = self
            .decoder
            .decode(block, most, |field| collected.add(field));
        let is_whole = match decoded {
            Ok(Decoded::Complete) => true,
            Ok(Decoded::TooLarge) => false,
            Err(_) => {
                let rule = "a block of fields that HPACK does not have";
                return Err(Broken::Connection(Reason::COMPRESSION_ERROR, rule));
            }
        };
        match self.streams.key(id) {
            Some(key) => self.block_for(key, ends, collected, is_whole),
            None if self.is_client || self.was_opened(id) => self.block_for_none(id),
            None => self.open(id, ends, collected, is_whole),
        }
    }

    fn block_for(
        &mut self,
        key: Key,
        ends: bool,
        collected: Collected,
        is_whole: bool,
    ) -> Result<(), Broken> {
        let stream = self.streams.get(key);
        let (id, is_head) = (stream.id, self.is_client && !stream.answered);
        if !stream.receives {
            return Err(Broken::Stream(
                id,
                Reason::STREAM_CLOSED,
                "HEADERS after the end",
            ));
        }
        if !is_whole {
            return Err(Broken::Stream(id, Reason::PROTOCOL_ERROR, TOO_LARGE));
        }
        let taken = if is_head {
            self.response(key, ends, collected)
        } else {
            self.trailers(key, ends, collected)
        };
        taken.map_err(|rule| Broken::Stream(id, Reason::PROTOCOL_ERROR, rule))?;
        if ends {
            self.settle(key);
        }
        Ok(())
    }

    fn response(&mut self, key: Key, ends: bool, head: Collected) -> Result<(), &'static str> {
        let response = head.into_response()?;
        let stream = self.streams.get_mut(key);
        if response.status.is_informational() {
            if ends {
                return Err("an interim that ends the stream");
            }
            stream.wake_reader();
            if !stream.body.push_interim(response) && !self.flood.idles() {
                return Err("too many interims");
            }
            return Ok(());
        }
        let empty = matches!(
            response.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        stream.body.is_for_head |= empty;
        expect(stream, &response.fields, ends)?;
        stream.answered = true;
        stream.body.head = Some(Box::new(response));
        stream.receives = !ends;
        stream.wake_reader();
        Ok(())
    }

    fn trailers(&mut self, key: Key, ends: bool, head: Collected) -> Result<(), &'static str> {
        if !ends {
            return Err("a second head that does not end the stream");
        }
        let trailers = head.into_trailers()?;
        let stream = self.streams.get_mut(key);
        if !stream.body.is_whole() {
            return Err("a body shorter than declared");
        }
        stream.receives = false;
        stream.body.trailers = (!stream.unread).then(|| Box::new(trailers));
        stream.wake_reader();
        Ok(())
    }

    fn block_for_none(&mut self, id: u32) -> Result<(), Broken> {
        if !self.was_opened(id) {
            return Err(broken("a response on a stream that nobody opened"));
        }
        let passed_over = self.leaving == Leaving::Closed || self.streams.was_reset(id);
        if self.is_client || passed_over {
            return self.for_closed(id, "HEADERS on a closed stream");
        }
        Err(broken("HEADERS on a stream that was closed before"))
    }

    /// A request.
    fn open(
        &mut self,
        id: u32,
        ends: bool,
        collected: Collected,
        is_whole: bool,
    ) -> Result<(), Broken> {
        if id.is_multiple_of(2) {
            return Err(broken("a client opens a stream with an even number"));
        }
        self.last = id;
        let most = self.config.streams as usize;
        if self.streams.open() >= most || self.streams.len() >= 2 * most {
            self.streams.remember_reset(id);
            let rule = "more streams than SETTINGS_MAX_CONCURRENT_STREAMS";
            return Err(Broken::Stream(id, Reason::REFUSED_STREAM, rule));
        }
        if !is_whole {
            self.refuse_large(id, ends);
            return Ok(());
        }
        let malformed = |rule| Broken::Stream(id, Reason::PROTOCOL_ERROR, rule);
        let request = collected.into_request().map_err(|rule| {
            self.streams.remember_reset(id);
            malformed(rule)
        })?;
        let mut stream = Stream::new(id, &self.config, self.peer.stream_window);
        if let Err(rule) = expect(&mut stream, &request.headers, ends) {
            self.streams.remember_reset(id);
            return Err(malformed(rule));
        }
        stream.receives = !ends;
        // Those that whoever takes it up will have: it is not forgotten before.
        stream.handles = if ends { 1 } else { 2 };
        let key = self.streams.insert(stream);
        self.accepted.push_back((key, Box::new(request)));
        Ok(())
    }

    /// 431 (RFC 6585 section 5), for a head that nobody could read whole.
    fn refuse_large(&mut self, id: u32, ends: bool) {
        let start = self.output.frames().len();
        let out = self.output.frames();
        out.resize(start + frame::HEAD, 0);
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        head::put_response(status, &HeaderMap::new(), &mut self.encoder, out);
        frame::seal_block(out, start, id, true);
        if !ends {
            frame::put_reset(out, id, Reason::NO_ERROR);
            self.streams.remember_reset(id);
        }
        self.wake_driver();
    }

    /// Sends a request on a new stream.
    pub(crate) fn request(&mut self, head: &head::Outgoing<'_>, ends: bool) -> Result<Key, Error> {
        let id = self.next;
        if !self.takes_streams() {
            let gone = self.peer_left.map(Error::GoneAway);
            return Err(self.error.or(gone).unwrap_or(Error::Closed));
        }
        self.next += 2;
        let mut stream = Stream::new(id, &self.config, self.peer.stream_window);
        stream.body.is_for_head = head.method == Method::HEAD;
        stream.sends = !ends;
        let key = self.streams.insert(stream);
        self.wake_driver();
        let out = self.output.frames();
        let start = out.len();
        out.resize(start + frame::HEAD, 0);
        head.put(&mut self.encoder, out);
        frame::seal_block(out, start, id, ends);
        Ok(key)
    }
}

const TOO_LARGE: &str = "a head larger than SETTINGS_MAX_HEADER_LIST_SIZE";

/// Notes the declared length of a body.
fn expect(stream: &mut Stream, fields: &HeaderMap, ends: bool) -> Result<(), &'static str> {
    stream.body.expected = head::content_length(fields)?;
    if ends && !stream.body.is_whole() {
        return Err("a body shorter than declared");
    }
    Ok(())
}
