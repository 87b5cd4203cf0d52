//! What comes in, frame by frame (RFC 9113 sections 4 to 6).

use super::{Broken, Core, LEAVING, Leaving, PRESENT};
use crate::frame::{self, HEAD, Head};
use crate::streams::Key;
use crate::{Error, Reason};

type Handled = Result<(), Broken>;

impl Core {
    /// Takes what came from the peer.
    ///
    /// # Errors
    /// Why the connection has to end. The peer is told so in the output.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.receive_all(bytes).map_err(|broken| {
            let (reason, rule) = match broken {
                Broken::Connection(reason, rule) | Broken::Stream(_, reason, rule) => {
                    (reason, rule)
                }
            };
            self.leaving = Leaving::No;
            self.close(reason, rule);
            let error = Error::Ended(reason, rule);
            self.fail(error);
            error
        })
    }

    fn receive_all(&mut self, bytes: &[u8]) -> Handled {
        let mut bytes = self.skip_preface(bytes)?;
        if !self.partial.is_empty() {
            bytes = self.complete(bytes)?;
        }
        while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
            let head = Head::read(head);
            check_length(head)?;
            let Some((payload, rest)) = rest.split_at_checked(head.length) else {
                break;
            };
            self.frame(head, payload)?;
            bytes = rest;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    fn skip_preface<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Broken> {
        let most = self.preface.len().min(bytes.len());
        let (said, rest) = bytes.split_at(most);
        let (expected, left) = self.preface.split_at(most);
        if said != expected {
            return Err(broken("no HTTP/2 preface"));
        }
        self.preface = left;
        Ok(rest)
    }

    /// Completes the frame of which a part came before.
    fn complete<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Broken> {
        let missing = HEAD.saturating_sub(self.partial.len()).min(bytes.len());
        let (start, bytes) = bytes.split_at(missing);
        self.partial.extend_from_slice(start);
        let Some(head) = self.partial.first_chunk::<HEAD>() else {
            return Ok(bytes);
        };
        let head = Head::read(head);
        check_length(head)?;
        let missing = HEAD + head.length - self.partial.len();
        let Some((end, bytes)) = bytes.split_at_checked(missing) else {
            self.partial.extend_from_slice(bytes);
            return Ok(&[]);
        };
        self.partial.extend_from_slice(end);
        let whole = std::mem::take(&mut self.partial);
        self.frame(head, &whole[HEAD..])?;
        Ok(bytes)
    }

    fn frame(&mut self, head: Head, payload: &[u8]) -> Handled {
        let handled = self.dispatch(head, payload);
        let Err(Broken::Stream(id, reason, rule)) = handled else {
            return handled;
        };
        let Some(key) = self.streams.key(id) else {
            if !self.was_opened(id) {
                return Err(Broken::Connection(reason, rule));
            }
            frame::put_reset(self.frames(), id, reason);
            return self.idles();
        };
        let given_up = self.is_given_up(key);
        self.reset(key, reason, Error::Refused(reason, rule));
        if !given_up {
            return self.idles();
        }
        self.count_given_up();
        Ok(())
    }

    /// Whether work was begun for a stream whose answer the peer does not wait for.
    fn is_given_up(&self, key: Key) -> bool {
        !self.is_client && !self.streams.get(key).answered
    }

    fn count_given_up(&mut self) {
        if !self.flood.gives_up() {
            self.close(Reason::ENHANCE_YOUR_CALM, "too many streams given up");
        }
    }

    fn dispatch(&mut self, head: Head, payload: &[u8]) -> Handled {
        if self.block.is_some() && head.kind != frame::CONTINUATION {
            return Err(broken("a frame inside a block of fields"));
        }
        if !self.is_established {
            if head.kind != frame::SETTINGS || head.has(frame::ACK) {
                return Err(broken("the first frame is not SETTINGS"));
            }
            self.is_established = true;
        }
        match head.kind {
            frame::DATA => self.data(head, payload),
            frame::HEADERS => self.headers(head, payload),
            frame::PRIORITY => self.priority(head, payload),
            frame::RST_STREAM => self.peer_resets(head, payload),
            frame::SETTINGS => self.settings(head, payload),
            frame::PUSH_PROMISE => Err(broken("PUSH_PROMISE, which nobody enabled")),
            frame::PING => self.pinged(head, payload),
            frame::GOAWAY => self.peer_leaves(head, payload),
            frame::WINDOW_UPDATE => self.window(head, payload),
            frame::CONTINUATION => self.continuation(head, payload),
            _ => self.idles(),
        }
    }

    fn data(&mut self, head: Head, payload: &[u8]) -> Handled {
        let id = self.of_stream(head)?;
        if !self.inward.take(payload.len()) {
            return Err(flow("more than the connection's window"));
        }
        let Some(data) = frame::unpadded(head, payload) else {
            return Err(broken("padding longer than its frame"));
        };
        let ends = head.has(frame::END_STREAM);
        if data.is_empty() && !ends {
            self.idles()?;
        }
        let Some(key) = self.streams.key(id) else {
            self.release(payload.len());
            return self.for_closed(id, "DATA on a closed stream");
        };
        self.data_for(key, payload.len(), data, ends)
    }

    fn data_for(&mut self, key: Key, taken: usize, data: &[u8], ends: bool) -> Handled {
        let stream = self.streams.get_mut(key);
        let id = stream.id;
        let refused = if !stream.receives {
            Some((Reason::STREAM_CLOSED, "DATA after the end"))
        } else if self.is_client && !stream.answered {
            Some((Reason::PROTOCOL_ERROR, "DATA before a head"))
        } else if !stream.inward.take(taken) {
            Some((Reason::FLOW_CONTROL_ERROR, "more than the stream's window"))
        } else if !stream.body.count(data.len()) {
            Some((Reason::PROTOCOL_ERROR, "a body longer than declared"))
        } else if ends && !stream.body.is_whole() {
            Some((Reason::PROTOCOL_ERROR, "a body shorter than declared"))
        } else {
            None
        };
        if let Some((reason, rule)) = refused {
            self.release(taken);
            return Err(Broken::Stream(id, reason, rule));
        }
        if stream.unread {
            if ends {
                stream.receives = false;
            }
            self.give_back(key, taken);
        } else {
            if !data.is_empty() {
                stream.body.push(data);
            }
            stream.receives = !ends;
            stream.wake_reader();
            // Padding is read by nobody.
            self.give_back(key, taken - data.len());
        }
        if ends {
            self.settle(key);
        }
        Ok(())
    }

    /// Opens the windows of a stream and of its connection again.
    pub(crate) fn give_back(&mut self, key: Key, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let stream = self.streams.get_mut(key);
        if stream.receives
            && let Some(told) = stream.inward.release(bytes)
        {
            let id = stream.id;
            frame::put_window(self.frames(), id, told);
        }
        self.release(bytes);
    }

    fn priority(&mut self, head: Head, payload: &[u8]) -> Handled {
        let id = number_of(head)?;
        match payload {
            [a, b, c, d, _] => {
                if u32::from_be_bytes([*a, *b, *c, *d]) & frame::LARGEST == id {
                    let rule = "a stream that depends on itself";
                    return Err(Broken::Stream(id, Reason::PROTOCOL_ERROR, rule));
                }
                self.idles()
            }
            _ => Err(Broken::Stream(
                id,
                Reason::FRAME_SIZE_ERROR,
                "PRIORITY of a wrong length",
            )),
        }
    }

    fn peer_resets(&mut self, head: Head, payload: &[u8]) -> Handled {
        let code = frame::number(payload).ok_or_else(|| size("RST_STREAM of a wrong length"))?;
        let id = self.of_stream(head)?;
        let Some(key) = self.streams.key(id) else {
            return Ok(());
        };
        let given_up = self.is_given_up(key);
        let dropped = self.streams.get_mut(key).fail(Error::Reset(code.into()));
        self.release(dropped);
        self.settle(key);
        if given_up {
            self.count_given_up();
        }
        Ok(())
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Handled {
        if head.stream != 0 {
            return Err(broken("SETTINGS on a stream"));
        }
        self.idles()?;
        if head.has(frame::ACK) {
            return match payload {
                [] => Ok(()),
                _ => Err(size("an acknowledgement with settings")),
            };
        }
        let change = self.peer.apply(payload, self.is_client);
        let change = change.map_err(|(reason, rule)| Broken::Connection(reason, rule))?;
        if let Some(table) = change.table {
            self.encoder.limit(table as usize);
        }
        if change.window != 0 {
            self.change_windows(change.window)?;
        }
        frame::put(self.frames(), frame::SETTINGS, frame::ACK, 0, &[]);
        self.wake_openers();
        Ok(())
    }

    fn change_windows(&mut self, by: i64) -> Handled {
        for stream in self.streams.iter_mut().filter(|stream| stream.sends) {
            if !stream.outward.change(by) {
                return Err(flow("a stream's window above 2^31-1"));
            }
            if by > 0 {
                stream.wake_writer();
            }
        }
        Ok(())
    }

    fn pinged(&mut self, head: Head, payload: &[u8]) -> Handled {
        if head.stream != 0 {
            return Err(broken("PING on a stream"));
        }
        let Ok(payload) = <[u8; 8]>::try_from(payload) else {
            return Err(size("PING of a wrong length"));
        };
        self.idles()?;
        match (head.has(frame::ACK), payload) {
            (false, _) => frame::put(self.frames(), frame::PING, frame::ACK, 0, &payload),
            (true, PRESENT) => self.pong = true,
            (true, LEAVING) if self.leaving == Leaving::Told => self.close(Reason::NO_ERROR, ""),
            (true, _) => {}
        }
        Ok(())
    }

    fn peer_leaves(&mut self, head: Head, payload: &[u8]) -> Handled {
        if head.stream != 0 {
            return Err(broken("GOAWAY on a stream"));
        }
        let Some(([last, code], _)) = payload.as_chunks::<4>().0.split_first_chunk() else {
            return Err(size("GOAWAY of a wrong length"));
        };
        self.idles()?;
        let last = u32::from_be_bytes(*last) & frame::LARGEST;
        let reason = Reason::from(u32::from_be_bytes(*code));
        self.peer_left = Some(reason);
        if self.is_client {
            self.fail_streams(Error::GoneAway(reason), |stream| stream.id > last);
        }
        self.wake_openers();
        self.wake_driver();
        Ok(())
    }

    fn window(&mut self, head: Head, payload: &[u8]) -> Handled {
        let by = frame::number(payload).ok_or_else(|| size("WINDOW_UPDATE of a wrong length"))?;
        let by = by & frame::LARGEST;
        if head.stream == 0 {
            if by == 0 {
                return Err(broken("WINDOW_UPDATE of nothing"));
            }
            if !self.outward.change(by.into()) {
                return Err(flow("the connection's window above 2^31-1"));
            }
            self.give_turns();
            return Ok(());
        }
        let id = self.of_stream(head)?;
        if by == 0 {
            let rule = "WINDOW_UPDATE of nothing";
            return Err(Broken::Stream(id, Reason::PROTOCOL_ERROR, rule));
        }
        let Some(key) = self.streams.key(id) else {
            return Ok(());
        };
        let stream = self.streams.get_mut(key);
        if !stream.outward.change(by.into()) {
            let rule = "the stream's window above 2^31-1";
            return Err(Broken::Stream(id, Reason::FLOW_CONTROL_ERROR, rule));
        }
        stream.wake_writer();
        Ok(())
    }

    pub(super) fn idles(&mut self) -> Handled {
        if self.flood.idles() {
            return Ok(());
        }
        let rule = "too many frames that ask for nothing";
        Err(Broken::Connection(Reason::ENHANCE_YOUR_CALM, rule))
    }

    /// A frame that belongs to a stream which was opened, if not now.
    fn of_stream(&self, head: Head) -> Result<u32, Broken> {
        let id = number_of(head)?;
        if self.was_opened(id) {
            Ok(id)
        } else {
            Err(broken("a frame on a stream that nobody opened"))
        }
    }

    pub(super) fn was_opened(&self, id: u32) -> bool {
        let is_clients = id % 2 == 1;
        let opened = if self.is_client {
            id < self.next
        } else {
            // What comes after we left is passed over.
            id <= self.last || self.leaving == Leaving::Closed
        };
        is_clients && opened
    }

    /// A peer may have sent more before it learned that we ended the stream.
    pub(super) fn for_closed(&self, id: u32, rule: &'static str) -> Handled {
        if self.streams.was_reset(id) || self.leaving == Leaving::Closed {
            return Ok(());
        }
        Err(Broken::Stream(id, Reason::STREAM_CLOSED, rule))
    }
}

/// The number of a frame that has to be on a stream.
pub(super) fn number_of(head: Head) -> Result<u32, Broken> {
    match head.stream {
        0 => Err(broken("a stream's frame on none")),
        id => Ok(id),
    }
}

fn check_length(head: Head) -> Handled {
    if head.length > frame::MOST {
        return Err(size("a frame longer than SETTINGS_MAX_FRAME_SIZE"));
    }
    Ok(())
}

pub(super) fn broken(rule: &'static str) -> Broken {
    Broken::Connection(Reason::PROTOCOL_ERROR, rule)
}

fn size(rule: &'static str) -> Broken {
    Broken::Connection(Reason::FRAME_SIZE_ERROR, rule)
}

fn flow(rule: &'static str) -> Broken {
    Broken::Connection(Reason::FLOW_CONTROL_ERROR, rule)
}
