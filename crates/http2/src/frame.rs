//! The frames of RFC 9113 section 4 and 6, as bytes.

use crate::Reason;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const HAS_PRIORITY: u8 = 32;

pub(crate) const HEAD: usize = 9;

/// What a client says first (section 3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most that either side may send in one frame, unless it was told of more: nobody is.
pub(crate) const MOST: usize = 16_384;

/// Of a stream or a window (31 bits).
pub(crate) const LARGEST: u32 = 0x7fff_ffff;

/// The nine bytes that each frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl Head {
    pub(crate) fn read(bytes: &[u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        Self {
            length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & LARGEST,
        }
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn bytes(self) -> [u8; HEAD] {
        let [_, .., a, b, c] = self.length.to_be_bytes();
        let [d, e, f, g] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }
}

pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let head = Head {
        length: payload.len(),
        kind,
        flags,
        stream,
    };
    out.extend_from_slice(&head.bytes());
    out.extend_from_slice(payload);
}

pub(crate) fn put_reset(out: &mut Vec<u8>, stream: u32, reason: Reason) {
    put(out, RST_STREAM, 0, stream, &reason.code().to_be_bytes());
}

pub(crate) fn put_window(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    put(out, WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
}

pub(crate) fn put_goaway(out: &mut Vec<u8>, last: u32, reason: Reason, why: &str) {
    let mut payload = Vec::with_capacity(8 + why.len());
    payload.extend_from_slice(&last.to_be_bytes());
    payload.extend_from_slice(&reason.code().to_be_bytes());
    payload.extend_from_slice(why.as_bytes());
    put(out, GOAWAY, 0, 0, &payload);
}

/// Ends a block of fields that was written at `start`, after [`HEAD`] bytes that were left free:
/// as HEADERS, and CONTINUATION if it is long.
pub(crate) fn seal_block(out: &mut Vec<u8>, start: usize, stream: u32, end_stream: bool) {
    let flags = if end_stream { END_STREAM } else { 0 };
    let length = out.len() - start - HEAD;
    if length <= MOST {
        let head = Head {
            length,
            kind: HEADERS,
            flags: flags | END_HEADERS,
            stream,
        };
        out[start..start + HEAD].copy_from_slice(&head.bytes());
        return;
    }
    let block = out.split_off(start + HEAD);
    out.truncate(start);
    let mut pieces = block.chunks(MOST).peekable();
    let (mut kind, mut flags) = (HEADERS, flags);
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() {
            END_HEADERS
        } else {
            0
        };
        put(out, kind, flags | last, stream, piece);
        (kind, flags) = (CONTINUATION, 0);
    }
}

/// A payload less its padding (section 6.1).
pub(crate) fn unpadded(head: Head, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(PADDED) {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(padding.into())?)
}

pub(crate) fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_longer_than_the_frame_is_refused() {
        let head = Head {
            length: 3,
            kind: DATA,
            flags: PADDED,
            stream: 1,
        };
        assert_eq!(unpadded(head, &[3, 7, 0]), None);
        assert_eq!(unpadded(head, &[]), None);
        assert_eq!(unpadded(head, &[1, 7, 0]), Some(&[7][..]));
    }

    #[test]
    fn a_long_block_goes_on_in_continuations() {
        let mut out = vec![9; HEAD + 2 * MOST + 1];
        seal_block(&mut out, 0, 3, true);
        let heads = [0, HEAD + MOST, 2 * (HEAD + MOST)].map(|at| {
            let head = Head::read(out[at..at + HEAD].try_into().unwrap());
            (head.kind, head.flags, head.length)
        });
        let expected = [
            (HEADERS, END_STREAM, MOST),
            (CONTINUATION, 0, MOST),
            (CONTINUATION, END_HEADERS, 1),
        ];
        assert_eq!(heads, expected);
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = Head {
            length: 0x01_02_03,
            kind: PING,
            flags: ACK,
            stream: LARGEST,
        };
        assert_eq!(Head::read(&head.bytes()), head);
    }
}
