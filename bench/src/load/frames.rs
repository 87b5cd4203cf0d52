//! HTTP/2 frames (RFC 9113 §4.1): as much as a load generator and its backend need.

use anyhow::{Result, ensure};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

const HEAD: usize = 9;

#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame of a buffer and what follows it; none when there is no whole one.
    pub(super) fn first(buffer: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (head, rest) = buffer.split_at_checked(HEAD)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let frame = Self {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        };
        Some((frame, rest))
    }

    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What a DATA or HEADERS frame carries, without padding and priority.
    pub(super) fn content(&self) -> Result<&'a [u8]> {
        let mut content = self.payload;
        if self.is(PADDED) {
            let (&padding, rest) = content.split_first().unwrap_or((&0, &[]));
            let kept = rest.len().checked_sub(padding.into());
            ensure!(kept.is_some(), "more padding than payload");
            content = &rest[..kept.unwrap_or_default()];
        }
        if self.kind == HEADERS && self.is(PRIORITY) {
            ensure!(content.len() >= 5, "a priority that is cut off");
            content = &content[5..];
        }
        Ok(content)
    }

    pub(super) fn number(&self) -> u32 {
        let four = self.payload.first_chunk().copied().unwrap_or_default();
        u32::from_be_bytes(four)
    }
}

pub(super) fn push(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Answers what any endpoint must answer.
pub(super) fn acknowledge(out: &mut Vec<u8>, frame: &Frame<'_>) {
    if matches!(frame.kind, SETTINGS | PING) && !frame.is(ACK) {
        let echo: &[u8] = if frame.kind == PING {
            frame.payload
        } else {
            &[]
        };
        push(out, frame.kind, ACK, 0, echo);
    }
}
