//! SETTINGS (RFC 9113 section 6.5).

use crate::{Reason, frame};

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;

/// What a window is before anybody says otherwise.
pub(crate) const FIRST_WINDOW: u32 = 65_535;

/// What a side offers.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How many bytes of one stream's body may wait to be read: at least 65,535, which the peer may
    /// send before it knows better.
    pub stream_window: u32,
    /// The same of all streams together: at least 65,535.
    pub connection_window: u32,
    /// How many streams the peer may have open at once.
    pub streams: u32,
    /// How large a head may be (RFC 9113 section 6.5.2).
    pub header_bytes: u32,
}

/// What the peer has said of itself.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) streams: usize,
    pub(crate) stream_window: u32,
}

/// What a SETTINGS frame changes.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) table: Option<u32>,
    /// By how much the windows of open streams change.
    pub(crate) window: i64,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            streams: usize::MAX,
            stream_window: FIRST_WINDOW,
        }
    }
}

impl Config {
    /// Windows that a peer cannot break unknowingly, and that the standard has.
    pub(crate) fn bounded(self) -> Self {
        Self {
            stream_window: self.stream_window.clamp(FIRST_WINDOW, frame::LARGEST),
            connection_window: self.connection_window.clamp(FIRST_WINDOW, frame::LARGEST),
            ..self
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>, is_client: bool) {
        let mut payload = Vec::with_capacity(18);
        let mut say = |id: u16, value: u32| {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        };
        if is_client {
            say(ENABLE_PUSH, 0);
        } else {
            say(MAX_CONCURRENT_STREAMS, self.streams);
        }
        say(INITIAL_WINDOW_SIZE, self.stream_window);
        say(MAX_HEADER_LIST_SIZE, self.header_bytes);
        frame::put(out, frame::SETTINGS, 0, 0, &payload);
    }
}

impl Peer {
    /// # Errors
    /// The rule that the peer broke.
    pub(crate) fn apply(
        &mut self,
        payload: &[u8],
        is_client: bool,
    ) -> Result<Change, (Reason, &'static str)> {
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err((Reason::FRAME_SIZE_ERROR, "SETTINGS of a wrong length"));
        }
        let mut change = Change::default();
        for [a, b, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            self.set(u16::from_be_bytes([*a, *b]), value, is_client, &mut change)?;
        }
        Ok(change)
    }

    fn set(
        &mut self,
        id: u16,
        value: u32,
        is_client: bool,
        change: &mut Change,
    ) -> Result<(), (Reason, &'static str)> {
        let refuse = |rule| Err((Reason::PROTOCOL_ERROR, rule));
        match id {
            HEADER_TABLE_SIZE => change.table = Some(value),
            ENABLE_PUSH if value > 1 => return refuse("ENABLE_PUSH is neither 0 nor 1"),
            ENABLE_PUSH if value == 1 && is_client => return refuse("a server enables push"),
            MAX_CONCURRENT_STREAMS => self.streams = value as usize,
            INITIAL_WINDOW_SIZE if value > frame::LARGEST => {
                return Err((
                    Reason::FLOW_CONTROL_ERROR,
                    "INITIAL_WINDOW_SIZE above 2^31-1",
                ));
            }
            INITIAL_WINDOW_SIZE => {
                change.window += i64::from(value) - i64::from(self.stream_window);
                self.stream_window = value;
            }
            // More is allowed to us than we send.
            MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                return refuse("MAX_FRAME_SIZE out of range");
            }
            _ => {}
        }
        Ok(())
    }
}
